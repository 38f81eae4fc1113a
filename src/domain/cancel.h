/* Cancel: of a run and its descendants in one transaction, of a task and those below it in a cascade. */
#ifndef BATON_DOMAIN_CANCEL_H
#define BATON_DOMAIN_CANCEL_H

#include "domain/run.h"

/* detail and metadata are the caller's words, kept in the events. */
enum err cancel_tree(struct tx *, const struct principal *, struct task *, struct str detail,
                     struct str metadata) NODISCARD;
struct cascade;
/* One task of a cascade, with its open runs. */
enum err cancel_task(struct tx *, struct task *, const struct cascade *, struct events *) NODISCARD;
enum err cancel_run(struct tx *, const struct principal *, int64_t run, struct str detail,
                    struct str metadata, struct run *) NODISCARD;
/* The open descendants of a run; the run itself stays.  The reason is a word of the events. */
enum err cancel_children(struct tx *, const struct run *, const char *reason, struct events *) NODISCARD;
/* Ends a run from outside with all that hangs on it: its open children, its approvals, who waits. */
enum err run_break_off(struct tx *, struct run *, const struct run_change *, struct events *) NODISCARD;
/* The run's deadline has passed. */
enum err run_time_out(struct tx *, struct run *) NODISCARD;

#endif
