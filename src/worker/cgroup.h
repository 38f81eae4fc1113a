/*
 * Control groups, where this machine lets us make them: a bound for the memory and the number of
 * processes of a whole tree.  Everything here is the spawner's; without groups the rlimits remain.
 */
#ifndef BATON_WORKER_CGROUP_H
#define BATON_WORKER_CGROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CGROUP_PATH = 320 };

struct cgroup_parent {
        char dir[CGROUP_PATH]; /* our own group in this hierarchy; "" = none that can be used */
        bool memory, pids;     /* what groups below it can bound */
        bool unified;          /* version 2 */
};

struct cgroups {
        struct cgroup_parent parents[2];
        unsigned long made;
};

/* The group of one run; in each hierarchy at most one directory. */
struct cgroup {
        char dirs[2][CGROUP_PATH];
        bool memory, pids;
};

/* Finds out by making a group and removing it. */
void cgroups_probe(struct cgroups *);
void cgroup_make(struct cgroups *, struct cgroup *);
/* A cap of 0 is none.  What could not be set is simply not marked in the group. */
void cgroup_limit(const struct cgroups *, struct cgroup *, int64_t memory_cap, int64_t process_cap);
bool cgroup_enter(const struct cgroup *);                       /* in the child */
bool cgroup_oom(const struct cgroups *, const struct cgroup *); /* did the kernel kill in it */
/* False: something of it is still there (the kernel lags a little); ask again. */
bool cgroup_remove(struct cgroup *);

#endif
