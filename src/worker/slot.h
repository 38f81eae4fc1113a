/* One slot of the worker: private to this room. */
#ifndef BATON_WORKER_SLOT_H
#define BATON_WORKER_SLOT_H

#include <pthread.h>

#include "domain/secret.h"
#include "domain/step.h"
#include "domain/waiting.h"
#include "domain/workspace.h"
#include "flow/plan.h"
#include "worker/worker.h"

enum { WORKER_LEASE = 90, WORKER_BEAT = 30, TOKEN_MAX = 80 }; /* seconds; bytes */

enum slot_stop { SLOT_GO_ON, SLOT_RELEASE, SLOT_LOST };

struct slot {
        struct claim_call claim; /* first: the store parks it */
        struct worker *worker;
        struct scope scope; /* of the run in hand; reset for the next */
        struct principal by; /* as whom it claims; its actor is what follows: of the store's thread */
        char actor[40];
        pthread_t thread;
        pthread_mutex_t lock; /* of what follows up to `stop` */
        pthread_cond_t answered;
        bool has_answer;
        bool holds;             /* a lease */
        int64_t run, tree, epoch;
        char token[TOKEN_MAX];
        int64_t beat;           /* boot clock of the last heartbeat */
        _Atomic int stop;       /* enum slot_stop */
        _Atomic bool look;      /* something happened in the tree: is the run still ours? */
        struct subscription subscription;

        /* Of the slot's own thread. */
        struct list claims;
        struct snapshot snapshot;
        char workspace_id[40]; /* of the run in hand, or of the last one */
        uint32_t workspace_uid;
        int64_t workspace_quota, workspace_read; /* bytes; boot clock */
        bool elsewhere;     /* the workspace's files are on another volume */
        bool has_directory; /* the workspace's is known to be there */
        int64_t used, used_at; /* bytes of that workspace, and when they were counted */
        struct secrets secrets;    /* of that workspace, while a step is performed */
        struct redactor *redactor; /* of them; NULL when there are none */
        struct proxy *proxy;       /* of the command that runs; NULL when it has no network */
        const struct definition *definition;
        struct str document; /* of a definition that the cache did not have */
        struct progress progress;
        struct fence fence;
        int64_t log_bytes;
};

/* Polled while a command runs: true = kill it. */
bool slot_is_stopped(struct slot *);
/* A piece of the run's log. */
void slot_log(struct slot *, int64_t step, int stream, struct str text);
/* Performs one effectful step (worker/perform.c). */
struct performed perform(struct slot *, const struct step_spec *, struct value parameters);
/* The claim loop: the body of a slot's thread. */
void *slot_main(void *slot);

struct worker {
        struct worker_options options;
        struct slot *slots;
        int n_started;
        pthread_t keeper;
        bool keeper_started;
        _Atomic bool draining, stopping, over;
};

int64_t worker_boot_now(const struct worker *);

#endif
