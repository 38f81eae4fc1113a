/*
 * The production store and domain on one thread, with a clock and randomness of the test's own: the
 * same seed and the same deeds give the same rows.  Every deed is one turn of the writer.
 */
#ifndef BATON_TESTS_FAULTS_RIG_H
#define BATON_TESTS_FAULTS_RIG_H

#include "domain/domain.h"
#include "image.h"
#include "store/store.h"
#include "vfs.h"

enum deed {
        DEED_CREATE,    /* a task with a run */
        DEED_GROUP,     /* four of them and a refusal that has written, in one commit */
        DEED_CLAIM,
        DEED_START,
        DEED_HEARTBEAT,
        DEED_COMPLETE,
        DEED_FAIL,
        DEED_RELEASE,
        DEED_CANCEL,    /* a task */
        DEED_PATCH,
        DEED_RETRY,
        DEED_STALE,     /* completes with a token that is not current */
        DEED_IDLE,      /* some seconds pass: leases end, the log is copied home */
        DEED_RESTART,   /* close, open, boot */
        DEEDS
};

enum { RIG_TURNS = 512, RIG_HELD = 64 };

struct rig {
        char path[128];
        const char *reserve; /* the store's; NULL = none */
        struct vfs *vfs;
        struct clock clock;
        struct world world;
        int64_t now;
        uint64_t random, dice; /* of the program's world; of the test */
        struct store *store;   /* NULL while nothing runs */
        struct domain *domain;
        struct principal by;
        char workspace[40];

        int64_t tasks[RIG_HELD];
        struct held {
                int64_t run, task;
                char token[80];
        } held[RIG_HELD];
        size_t n_tasks, n_held;
        int64_t failed; /* a task whose run has failed */

        int turn;
        enum { RIG_BLIND, RIG_ALL, RIG_STATES, RIG_FAULT } watching; /* which are kept below */
        struct digest states[RIG_TURNS];  /* what a reader sees after each turn */
        struct digest remains[RIG_TURNS]; /* what would be found if the process were killed then */
        int refusals[RIG_TURNS];          /* up to each turn */
        int fault_turn;                   /* the first in which something failed; 0 = none yet */
        bool fault_told;                  /* and somebody was answered so */
        int acked, refused, unknown, told; /* calls by how they were answered; unknown at turn's begin */
        int64_t faults; /* of the disk, at turn's begin */
        int created;                      /* tasks that were acknowledged */
        int early; /* acknowledged although a failed commit was still in doubt */
};

void rig_init(struct rig *, struct vfs *, const char *path, uint64_t seed);
/* Starts the program on the file: opens, migrates, boots.  Two turns. */
enum err rig_open(struct rig *);
/* Ends it as a drain does. */
void rig_close(struct rig *);
/* The answer of the deed's (last) call; ERR_EMPTY when there is nothing to do it to. */
enum err rig_do(struct rig *, enum deed);

uint64_t dice_roll(uint64_t *state); /* xorshift */

#endif
