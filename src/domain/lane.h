/*
 * Lanes: the queue is cut by who may take a run.  A lane is an interned signature (workspace,
 * executor, channel, priority, required and preferred capabilities, owner, agent); ready(lane,
 * queued_at, run) has a row iff the run is queued and nothing holds it.  A claim probes the heads of
 * the lanes it may take, so its cost does not depend on the queue's length.
 */
#ifndef BATON_DOMAIN_LANE_H
#define BATON_DOMAIN_LANE_H

#include "store/tx.h"

enum executor { EXECUTOR_AGENT, EXECUTOR_WORKER, EXECUTOR_GATEWAY };
extern const struct names executor_names;

struct lane {
        int64_t id;
        struct str workspace;
        int64_t executor;
        struct str channel;
        int64_t priority;
        struct str required, preferred, owner, agent;
};

struct lane_table;

struct lane_table *lane_table_new(void);
void lane_table_free(struct lane_table *);
enum err lanes_load(struct tx *, struct lane_table *) NODISCARD;
void lanes_kept(struct lane_table *);
/* Forgets lanes made by what was undone: since the last commit, or since lanes_kept(). */
void lanes_rolled_back(struct lane_table *, bool whole);
void lanes_committed(struct lane_table *);
size_t lanes_n(const struct lane_table *);
const struct lane *lane_at(const struct lane_table *, size_t);
const struct lane *lane_get(const struct lane_table *, int64_t id);

/* The number of this signature's lane, made if new. */
enum err lane_find(struct tx *, const struct lane *signature, int64_t *id) NODISCARD;

/* Who asks. */
struct claim_criteria {
        struct str workspace;      /* absent = all */
        enum executor executor;
        struct str session_id, agent_name, capabilities;
        struct str channel;        /* absent = any */
        int64_t priority_min;
};
bool lane_allows(const struct lane *, const struct claim_criteria *);

/* Every name of a is in b (both sorted, joined by commas). */
bool caps_within(struct str a, struct str b);
int caps_common(struct str a, struct str b);

#endif
