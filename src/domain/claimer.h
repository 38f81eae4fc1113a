/*
 * Claimers: who asks for a run, and the filters that decide whether it may have one of a lane's.  All
 * filters are answered by the lane, none by a run.
 */
#ifndef BATON_DOMAIN_CLAIMER_H
#define BATON_DOMAIN_CLAIMER_H

#include "domain/lane.h"

/* Who asks. */
struct claim_criteria {
        struct str workspace;      /* absent = all */
        enum executor executor;
        struct str session_id, agent_name, capabilities;
        struct str peer;           /* the ref of a network_peer, else absent */
        struct str channel;        /* absent = any */
        int64_t priority_min;
        struct str volume;         /* of a worker, see volume.h; absent: it has none */
};
bool lane_allows(const struct lane *, const struct claim_criteria *);
/* How many of the claimer's capabilities, name and peer the lane prefers. */
int lane_preference(const struct lane *, const struct claim_criteria *);
/* What an agent that claims must be, in words: "with the capabilities a, b; named one of c, d". */
struct str lane_wants(struct arena *, const struct lane *);
/* The same of the first filter that refuses this claimer; absent when it is allowed. */
struct str lane_refusal(struct arena *, const struct lane *, const struct claim_criteria *);

/*
 * What a task's execution profile says about claims: lists of names (sorted, joined by commas), one
 * a line.  Absent: nothing.
 */
enum rule {
        RULE_CHANNELS,          /* of its runs: only these */
        RULE_REQUIRED,          /* capabilities, beside the task's own */
        RULE_PREFERRED,
        RULE_AGENTS,            /* only these */
        RULE_AGENTS_PREFERRED,
        RULE_PEERS,             /* of the network's peers only these */
        RULE_PEERS_PREFERRED,
        RULES,
};
struct str rule_part(struct str rule, enum rule);
/* From that part on; absent when nothing is said there. */
struct str rule_from(struct str rule, enum rule);

/* Every name of a is in b (both sorted, joined by commas). */
bool caps_within(struct str a, struct str b);
int caps_common(struct str a, struct str b);
/* The names of both, absent when there are none. */
struct str caps_union(struct arena *, struct str a, struct str b);
/* Those that are in each of them, absent when none is. */
struct str caps_both(struct arena *, struct str a, struct str b);
/* "a, b" for people. */
struct str caps_words(struct arena *, struct str);

#endif
