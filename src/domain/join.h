/* Joins: a parent waits for its children by a counter in the same transaction as each child's end. */
#ifndef BATON_DOMAIN_JOIN_H
#define BATON_DOMAIN_JOIN_H

#include "domain/run.h"

struct join_point {
        int64_t run_id, step_index;
        bool any_one, fail_fast;
        int64_t total, pending, completed, failed, max_concurrency;
};
extern const struct record join_point_record;

enum err join_open(struct tx *, const struct join_point *) NODISCARD;
/* Counts a child's end; the one that decides requeues the parent at its place. */
enum err join_child_ended(struct tx *, const struct run *child, struct events *) NODISCARD;
/* A waiting run goes back to the queue, where it was. */
enum err run_wake(struct tx *, struct run *, const char *reason, struct events *) NODISCARD;

#endif
