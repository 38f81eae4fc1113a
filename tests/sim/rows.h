/*
 * What the database holds, read with statements of its own over a connection of its own: nothing
 * here goes through the code under test.  All SQL of the simulator stands in rows.c.
 */
#ifndef BATON_SIM_ROWS_H
#define BATON_SIM_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rows;

struct run_row {
        int64_t task, tree, kind, executor, parent, step, branch, attempt; /* never change */
        int64_t previous;
        int64_t status, epoch, recoveries, hold, lease_until, wake_at, session, ended_at;
        bool has_token, ready, marked;
        uint64_t result; /* hash of the text, 0 = none */
};

struct task_row {
        int64_t status, attempts, max_attempts, last_run, current_run, priority;
        uint64_t title; /* hash of the text */
        bool marked;
};

struct join_row {
        int64_t any_one, fail_fast, total, pending, max_concurrency;
};

enum { PAYLOAD_SHOWN = 384 };
struct stored_event {
        int64_t pos, tree, seq, task, run, type, actor, at;
        uint64_t payload_hash;
        char payload[PAYLOAD_SHOWN]; /* its beginning */
};

struct rows *rows_open(const char *path);
void rows_close(struct rows *);

/* False when there is none. */
bool rows_run(struct rows *, int64_t id, struct run_row *);
bool rows_task(struct rows *, int64_t id, struct task_row *);
bool rows_join(struct rows *, int64_t run, int64_t step, struct join_row *);
bool rows_has_task(struct rows *, int64_t id);
int64_t rows_last_event(struct rows *);
/* Events after a position; they live until the next call. */
const struct stored_event *rows_events(struct rows *, int64_t after, size_t *n);
/* Number of a name, 0 = unknown. */
int64_t rows_name(struct rows *, const char *text);
/* Whether a claimer without capabilities, of an executor, could take something. */
int64_t rows_takeable(struct rows *, int64_t executor);
/* The next lane with a run on offer; 0: there is none. */
int64_t rows_next_lane(struct rows *, int64_t after);

/* Looks for what must not be: the invariant's number and a sentence, and the id of an offender, or
 * NULL.  `ticked` is the wall clock at the last tick. */
const char *rows_search(struct rows *, int64_t ticked, int64_t *id);
/* Prints the tree of a task or a run: its runs and its events. */
void rows_tell(struct rows *, int64_t id);
/* Soundness of the file (I5) and a hash over all that is in it. */
bool rows_sound(struct rows *);
uint64_t rows_hash(struct rows *, uint64_t);

#endif
