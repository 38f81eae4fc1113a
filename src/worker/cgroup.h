/*
 * Control groups, where this machine lets us make them: a bound for the memory, the number of
 * processes and the processors of a whole tree.  Everything here is the spawner's; without groups
 * the rlimits remain.
 */
#ifndef BATON_WORKER_CGROUP_H
#define BATON_WORKER_CGROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CGROUP_PATH = 320 };

/* What can be bounded: bytes, processes and threads, whole processors. */
enum cgroup_limit { CGROUP_MEMORY, CGROUP_PROCESSES, CGROUP_CPUS, CGROUP_LIMITS };

struct cgroup_parent {
        char dir[CGROUP_PATH];   /* our own group in this hierarchy; "" = none that can be used */
        bool can[CGROUP_LIMITS]; /* what groups below it can bound */
        bool unified;            /* version 2 */
};

/* In version 1 there is a hierarchy for each limit, in version 2 one for all. */
struct cgroups {
        struct cgroup_parent parents[CGROUP_LIMITS];
        unsigned long made;
};

/* The group of one run; in each hierarchy at most one directory. */
struct cgroup {
        char dirs[CGROUP_LIMITS][CGROUP_PATH];
        bool bounds[CGROUP_LIMITS]; /* which limits hold */
};

/* Finds out by making a group and removing it. */
void cgroups_probe(struct cgroups *);
/* The hierarchy that can bound this, or NULL. */
const struct cgroup_parent *cgroups_parent(const struct cgroups *, enum cgroup_limit);
void cgroup_make(struct cgroups *, struct cgroup *);
/* A cap of 0 is none.  What could not be set is simply not marked in the group. */
void cgroup_bound(const struct cgroups *, struct cgroup *, const int64_t caps[CGROUP_LIMITS]);
bool cgroup_enter(const struct cgroup *); /* in the child */
/* Did the kernel kill for memory, or refuse a process, in it? */
bool cgroup_hit(const struct cgroups *, const struct cgroup *, enum cgroup_limit);
/* False: something of it is still there (the kernel lags a little); ask again. */
bool cgroup_remove(struct cgroup *);

#endif
