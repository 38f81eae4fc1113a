/*
 * Lanes: the queue is cut by who may take a run.  A lane is an interned signature (workspace,
 * executor, channel, priority, required and preferred capabilities, owner, agent rule); ready(lane,
 * queued_at, run) has a row iff the run is queued and nothing holds it.  A claim probes the heads of
 * the lanes it may take, so its cost does not depend on the queue's length.
 *
 * The lanes of a workspace and an executor are a group, so that it does not depend on the number of
 * workspaces either.  Which lanes may hold a run is kept in memory: a lane is filled by the run that
 * enters it and drained by the claim that finds nothing in it, which a rollback takes back.
 */
#ifndef BATON_DOMAIN_LANE_H
#define BATON_DOMAIN_LANE_H

#include "store/tx.h"

enum executor { EXECUTOR_AGENT, EXECUTOR_WORKER, EXECUTOR_GATEWAY, EXECUTORS };
extern const struct names executor_names;

struct lane {
        int64_t id;
        struct str workspace;
        int64_t executor;
        struct str channel;
        int64_t priority;
        struct str required, preferred, owner;
        struct str agent; /* what its rule (claimer.h) says from RULE_AGENTS on, or absent */
};

struct lane_table;

struct lane_table *lane_table_new(void);
void lane_table_free(struct lane_table *);
/* The lanes that the table does not know yet; at a start, all. */
enum err lanes_load(struct tx *, struct lane_table *) NODISCARD;
/* Others may have filled lanes: lanes_look() is to find out, which otherwise does nothing. */
void lanes_doubt(struct lane_table *);
enum err lanes_look(struct tx *, struct lane_table *) NODISCARD;
void lanes_kept(struct lane_table *);
/* Forgets lanes made by what was undone: since the last commit, or since lanes_kept(). */
void lanes_rolled_back(struct lane_table *, bool whole);
void lanes_committed(struct lane_table *);
size_t lanes_n(const struct lane_table *);
const struct lane *lane_at(const struct lane_table *, size_t);
const struct lane *lane_get(const struct lane_table *, int64_t id);
/* It may hold a run; false: none is in it. */
bool lane_is_filled(const struct lane_table *, int64_t id);

/* The number of this signature's lane, made if new. */
enum err lane_find(struct tx *, const struct lane *signature, int64_t *id) NODISCARD;
/* A run enters it. */
void lane_fill(struct tx *, int64_t id);
/* It was looked at, and no run is in it. */
void lane_drain(struct tx *, int64_t id);

struct claim_criteria;
struct lane_group;
/* NULL: that workspace has no lane of this executor. */
const struct lane_group *lane_group_of(const struct lane_table *, struct str workspace, enum executor);
int64_t lane_group_number(const struct lane_group *);
/* Its next lane that may hold a run for this claimer; NULL at the end.  *at begins with 0. */
const struct lane *lane_group_next(const struct lane_group *, const struct claim_criteria *, size_t *at);

/* The groups of an executor that may hold a run, in turn: those after number `last`, then those up to
 * it, each once; NULL at the end. */
struct lane_turn {
        enum executor executor;
        int64_t last, at; /* at begins with `last` */
        bool around;
};
const struct lane_group *lanes_turn(const struct lane_table *, struct lane_turn *);

#endif
