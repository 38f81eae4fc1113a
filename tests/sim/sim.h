/*
 * The simulator: the production domain, planner, tick and writer turn on a database in memory, in
 * one thread, in a simulated world.
 *
 *   server.c    the server under test, as src/server/serve.c puts it together; restarts, failing commits
 *   op.c        what clients and workers ask, and what must come of it
 *   worker.c    simulated workers: claim, plan, perform, apply
 *   model.c     what is known from acknowledgements and events, without the code under test
 *   graph.c     the same of tasks among each other: trees, dependencies, reviews
 *   rows.c      what the database really holds
 *   sim.c       the loop over operations and seeds
 */
#ifndef BATON_SIM_SIM_H
#define BATON_SIM_SIM_H

#include "domain/definition.h"
#include "domain/step.h"
#include "domain/verdict.h"
#include "flow/definition_cache.h"
#include "flow/plan.h"
#include "hub/hooks.h"
#include "rows.h"
#include "world.h"

enum reach {
#define REACH(name, sentence) REACH_##name,
#include "reach.def"
#undef REACH
        REACH_COUNT
};

enum { CLIENTS = 6, SESSIONS = 3, WORKERS = 8, HELD_MAX = 96, KEYS_MAX = 48, APPROVALS_MAX = 64, MARKS_MAX = 16, BULK = 6,
       FOLLOWERS = 4, STEPS_MAX = 8, BATCH = 24, TOKEN_TEXT = 80, DEFINITIONS = 13 };
#define ATTENTION (4 * US_PER_S) /* before a run is marked; less than the longer leases */

/* ---- what is known ---- */

struct task_fact {
        int64_t id, attempts, max_attempts, last_run;
        uint64_t title; /* hash, as acknowledged last */
        int retry;      /* which policy, 0 = none; or that of its definition */
        bool canceled, touched;
        int caps;       /* what a claimer must have: bits */
        struct run_fact *runs;
        struct run_fact *open_root;
        int last_status; /* of the newest root run that was not canceled, RUN_NONE = none */
        int inputs;      /* that nobody has taken */
        int64_t last_input, taker; /* the newest one, and the run that took it, or 0 */
        bool plain;      /* follows no definition */
        int profile;     /* capabilities that its profile wants: bits */
        struct task_fact *parent;
        int children, depth;
        struct edge *needs, *wanted;
        bool doomed;     /* a prerequisite ended badly, and it is to be canceled */
        int64_t mark;    /* of the last search that came by */
        struct review_fact *reviews, *review; /* all; the one that it waits for */
        bool circuit;    /* that is over, and a person must go on */
};

/* A dependency. */
struct edge {
        struct task_fact *task, *on;
        int on_failure;
        struct edge *next_of_task, *next_of_on;
};

struct review_fact {
        int64_t id, round, attempt;
        struct run_fact *run;
        int status;
        const struct principal *reviewer;
        struct review_fact *next_of_task;
};

struct run_fact {
        int64_t id, epoch, attempt, recoveries, round;
        struct task_fact *task;
        struct run_fact *next_of_task, *parent, *children, *sibling;
        int kind, executor, step, branch, status;
        int64_t born;       /* number of the turn */
        bool touched, marked;
        int64_t queued_slow; /* since when it is queued, on the lease clock */
        int64_t changed;    /* turn in which something of it was acknowledged */
        struct run_row row; /* as it was last seen */
        uint64_t result;
        int64_t wake_min; /* a new attempt must not be taken before, on the wall clock */
        int wall_epoch;   /* while that is not set back */
        /* The lease. */
        char token[TOKEN_TEXT]; /* the last one given */
        const struct principal *holder;
        const char *session;
        int64_t lease_us, beat_boot, beat_slow;
        int beat_restarts;
        /* The wait. */
        int wait_step;
        int64_t wait_born; /* children of this wait were born no earlier */
        struct join_row join;
        bool decided;
        int64_t approval;
        unsigned char steps[STEPS_MAX]; /* folded from events: enum step_status */
};

/* A tree's events so far; kept with its root task. */
struct tree_fact {
        int64_t seq, at;
};

/* ---- what is asked ---- */

enum op_kind {
#define OP(name, class, weight, fill, run, expect, check) OP_##name,
#include "op.def"
#undef OP
        OP_COUNT
};

struct sim;
struct worker;

/* One run of a call for many. */
struct bulk_row {
        int64_t id, from_pos, to_pos;
        enum err result;
};

struct op {
        struct claim_call claim; /* first: .call goes through the store */
        enum op_kind kind;
        struct sim *sim;
        struct scope scope;
        struct worker *worker; /* or NULL: a client's */
        const struct principal *by;
        /* Arguments. */
        int64_t id; /* of a task, a run, an approval, a tree */
        int64_t input, on;
        int on_failure, review_policy;
        char token[TOKEN_TEXT], title[32], key[24], body[24], result[24];
        int64_t lease, max_attempts, timeout, after;
        int n, priority, caps, retry, definition, client;
        const char *session;
        bool start, approve, replay, was_parked;
        bool mismatch; /* the key is used again with another body */
        bool spoiled;  /* it fails after it wrote, and must be undone alone */
        enum outcome failure;
        int outcome; /* of a review */
        enum op_kind each; /* what is done to each of n rows */
        struct bulk_row rows[BULK];
        struct list given; /* claims that are taken back */
        /* Of its last turn. */
        int64_t ran;              /* when: number of what ran so far */
        int64_t from_pos, to_pos; /* events in between are its own */
        struct task *tasks;
        struct run **runs;
        int n_tasks;
        struct heartbeat beat;
        struct list claims, events;
        struct str text; /* the answer, as it is kept with a key */
        struct op *next;
};

/* A claim as its holder knows it; stale ones are kept and tried again. */
struct held {
        int64_t run, epoch;
        char token[TOKEN_TEXT], result[24];
        int client;
        bool over;
};

/* A request with an Idempotency-Key. */
struct keyed {
        struct op args; /* as it was sent; only the arguments are used */
        bool known;     /* it was carried out */
        uint64_t text;
        int64_t kept_at; /* wall */
};

struct follower {
        struct subscription subscription; /* first */
        int64_t tree, cursor;
        bool woken, reading;
};

struct worker {
        struct sim *sim;
        struct scope scope;
        struct op op;
        enum { WORKER_IDLE, WORKER_ASKS, WORKER_PLANS, WORKER_PERFORMS, WORKER_LEAVES } state;
        bool repeats; /* what was just applied is applied once more */
        bool forged;  /* it was asked with a token that is wrong */
        const struct definition *definition;
        struct str document;
        struct snapshot snapshot;
        struct progress progress;
        struct plan plan;
        struct advance advance;
        struct run after;
        struct performed done;
        struct str token;
        int64_t run, epoch, until, beat;
};

/* ---- all of it ---- */

struct sim {
        struct hooks hooks; /* first: the store's hooks are given it */
        struct sim_world w;
        uint64_t seed;
        int64_t *reached; /* REACH_COUNT, over all seeds */
        char path[64];
        struct rows *rows;
        uint64_t hash;
        bool failed;
        int64_t ops, suspect; /* so far; the id that is looked at */

        /* The server. */
        struct store *store;
        struct definition_cache *definitions;
        struct statement *statements; /* the domain's, and one of ours */
        struct scope scope;
        bool fail_commit, commit_failed; /* commit_failed: of this turn, or its file is not open again */

        /* The world outside. */
        struct op *served[512]; /* of this turn, in the order in which they were answered */
        size_t n_served;
        struct op *waiters; /* all that are not answered yet */
        char workspace[40];
        struct principal clients[CLIENTS], worker_by;
        struct worker workers[WORKERS];
        struct held held[HELD_MAX];
        struct keyed keys[KEYS_MAX];
        struct follower followers[FOLLOWERS];
        size_t n_held, n_keys, n_approvals, n_marked;
        int64_t approvals[APPROVALS_MAX];
        int64_t marked[MARKS_MAX];
        struct task_fact *recent[64]; /* tasks that clients speak about */
        size_t n_recent;
        struct task_fact *grove; /* a tree that grows large */
        int grown;
        int64_t definition_ids[DEFINITIONS];
        int64_t next_key, next_title;

        /* What is known. */
        struct map tasks, runs, trees, tokens, open_approvals, reviews;
        int64_t judged[64], marks; /* reviews that clients speak about */
        size_t n_judged;
        struct { /* what calls wrote before they were parked, in this turn */
                const struct op *op;
                int64_t from, to;
        } loose[64];
        size_t n_loose;
        struct run_fact *touched[4096];
        struct task_fact *touched_tasks[4096];
        size_t n_touched, n_touched_tasks;
        struct run_fact *leased[1024];
        size_t n_leased;
        const struct stored_event *events; /* of this turn, from pos on */
        size_t n_events;
        int64_t pos, turn, ran, tick_ran, tick_from, tick_to, daemon;
        bool ticked;
        int64_t tick_wall, tick_boot, slow, still_until; /* the lease clock as it must at least run */
        int restarts, wall_epoch;
        bool archived, scheduler_paused;
        struct tree_fact scheduler; /* events of the scheduler: its tree's number is no key of a map */
};

#define reached(sim, name) ((sim)->reached[REACH_##name]++)

/* Something does not hold: told once, and the seed has failed. */
void violation(struct sim *, const char *fmt, ...) PRINTF(2, 3);

/* server.c */
void server_start(struct sim *, bool first);
void server_stop(struct sim *);
void server_turn(struct sim *); /* once; fills served */
int64_t tx_last_event(struct tx *);

/* op.c */
void op_submit(struct op *);
/* In a transaction: claims, or waits. */
enum err op_claim(struct op *, struct tx *);
bool op_client(struct sim *); /* one made up by the dice; false: nothing fits */
void follower_read(struct sim *, struct follower *);
void op_init(struct op *, struct sim *, enum op_kind, const struct principal *, struct scope *);
void op_drop(struct op *);          /* nobody will answer it */
void op_judge(struct op *); /* after its turn, events read */
void definitions_make(struct sim *);

/* graph.c */
bool is_below_canceled(const struct task_fact *); /* itself, or one above it */
bool is_blocked(const struct task_fact *);
struct edge *edge_of(const struct task_fact *, const struct task_fact *on); /* or NULL */
bool must_end_before(struct sim *, struct task_fact *first, struct task_fact *then);
void child_born(struct sim *, struct task_fact *, int64_t parent);
void attempt_begins(struct sim *, struct run_fact *); /* of a root run */
void task_ends(struct sim *, struct task_fact *);     /* is canceled */
bool graph_event(struct sim *, const struct stored_event *); /* false: it is of something else */
void graph_free(struct task_fact *);

/* worker.c */
bool worker_act(struct worker *); /* true: it asked something */
void worker_answered(struct worker *);
void worker_forget(struct worker *);
enum err worker_claim(struct op *, struct tx *);

/* model.c */
const struct stored_event *event_after(struct sim *, int64_t pos); /* of this turn */
void model_event(struct sim *, const struct stored_event *, const struct op *);
void model_boot(struct sim *);
void model_turn(struct sim *); /* all that a turn brought */
void model_all(struct sim *);  /* everything that is open */
void model_end(struct sim *);  /* everything */
int64_t number_in(const struct stored_event *, const char *key); /* -1: it says none */
bool says(const struct stored_event *, const char *text);
/* key: with quotes and colon, as it stands in the payload */
int64_t id_in(const struct stored_event *, const char *key, const char *prefix);
void touch_run(struct sim *, struct run_fact *); /* its row is looked at after the turn */
void touch_task(struct sim *, struct task_fact *);
struct task_fact *task_of(struct sim *, int64_t id);
struct run_fact *run_of(struct sim *, int64_t id);
bool run_holds_surely(struct sim *, const struct run_fact *); /* its lease cannot be over */
bool run_may_be_over(struct sim *, const struct run_fact *);
void model_beat(struct sim *, struct run_fact *, int64_t lease_us);
int task_status_of(const struct task_fact *);

#endif
