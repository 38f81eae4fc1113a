/* Finding a reviewer, and what becomes of a review that nobody finished. */
#include "domain/claimer.h"
#include "domain/domain.h"
#include "domain/key.h"
#include "domain/profile.h"
#include "domain/sql.h"
#include "domain/verdict.h"

/* A piece: each look at a review reads the keys of sessions. */
enum { OVERDUE_ROWS = 100, ROUTE_ROWS = 20 };
enum { PREFERRED_AGENT = 4 }; /* counts as so many preferred capabilities */
#define ROUTE_PAUSE_MIN US_PER_S
#define ROUTE_PAUSE_MAX (60 * US_PER_S)

static struct str delivery(struct tx *tx, const char *who, const struct review *review)
{
        char id[ID_TEXT_SIZE];

        id_print("review", review->id, id);
        return arena_printf(&tx_scope(tx)->arena, "%s:%s", who, id);
}

static enum err end(struct tx *tx, struct review *review, int outcome, const char *who, const char *why)
{
        const struct verdict verdict = { .outcome = outcome,
                                         .confidence = STR("1"),
                                         .reason = str_from(why),
                                         .delivery_id = delivery(tx, who, review) };

        return verdict_record(tx, &((struct domain *)tx_context(tx))->daemon, review, &verdict);
}

static enum err expire(struct tx *tx)
{
        struct list rows;
        struct review *review;
        enum err e = tx_all(tx, SQL_REVIEW_OVERDUE, &rows, INT(tx_now(tx)), INT(OVERDUE_ROWS));

        review = rows.items;
        for (size_t i = 0; !e && i < rows.n; i++) {
                /* A rejection of the one before may have canceled it. */
                e = tx_one(tx, SQL_REVIEW_GET, &review[i], INT(review[i].id));
                if (!e && review[i].status < REVIEW_RECORDED)
                        e = end(tx, &review[i], VERDICT_TIMEOUT, "review-deadline",
                                "nobody gave a verdict in time");
        }
        return e;
}

/* The agent that did the work, if the key with which it did is still valid. */
static struct str agent_of(const struct list *keys, const struct run *run)
{
        const struct key *key = keys->items;

        for (size_t i = 0; i < keys->n; i++)
                if (str_eq(key[i].actor, run->claimed_by))
                        return key[i].agent_name;
        return STR_NONE;
}

/* Never who did the work, nor who asked for the judgement. */
static bool is_partial(const struct key *key, const struct run *run, const struct review *review,
                       struct str agent)
{
        return review_is_own_work(run, key->actor, key->session_id) ||
               str_eq(key->actor, run->claimed_by) || str_eq(key->actor, review->requested_by) ||
               (agent.p && str_eq(key->agent_name, agent));
}

struct choice {
        const struct key *key; /* the best that is free, or NULL */
        bool busy;             /* one that is not would do */
};

static bool is_named(struct str name, struct str list)
{
        return name.n && caps_within(name, list);
}

/* Whether the key may judge: by what the run needs, and by what the task's profile says of reviewers. */
static bool may_judge(const struct key *key, const struct run *run, const struct agent_choice *wanted)
{
        return (!key->capabilities.p || caps_within(run->required_capabilities, key->capabilities)) &&
               caps_within(wanted->required_capabilities, key->capabilities) &&
               (!wanted->agent_name.n || str_eq(wanted->agent_name, key->agent_name)) &&
               (!wanted->allowed_agent_names.n || is_named(key->agent_name, wanted->allowed_agent_names));
}

static int score_of(const struct key *key, const struct run *run, const struct agent_choice *wanted)
{
        return caps_common(run->preferred_capabilities, key->capabilities) +
               caps_common(wanted->preferred_capabilities, key->capabilities) +
               (is_named(key->agent_name, wanted->preferred_agent_names) ? PREFERRED_AGENT : 0);
}

/* Who knows more of what the task prefers comes first, then who is first by the session's name. */
static enum err choose(struct tx *tx, const struct review *review, const struct run *run,
                       const struct list *keys, struct choice *out)
{
        struct str agent = agent_of(keys, run);
        struct profile profile;
        int best = -1;
        enum err e = profile_of(tx, run->task_id, &profile);

        *out = (struct choice){ 0 };
        if (e)
                return e;
        for (size_t i = 0; i < keys->n; i++) {
                const struct key *key = (const struct key *)keys->items + i;
                int score = score_of(key, run, profile.review);
                struct review other;

                if (is_partial(key, run, review, agent) || !may_judge(key, run, profile.review))
                        continue;
                e = tx_one(tx, SQL_REVIEW_OF_SESSION, &other, NAME(key->session_id),
                           NAME(review->workspace_id));
                if (e && e != ERR_EMPTY)
                        return e;
                out->busy |= !e;
                if (e && (score > best ||
                          (score == best && str_cmp(key->session_id, out->key->session_id) < 0))) {
                        out->key = key;
                        best = score;
                }
        }
        return ERR_OK;
}

static enum err route(struct tx *tx, struct review *review)
{
        struct domain *domain = tx_context(tx);
        int64_t age = tx_now(tx) - review->created_at;
        struct choice choice;
        struct list keys;
        struct run run;
        enum err e = run_load(tx, review->run_id, &run);

        if (!e)
                e = tx_all(tx, SQL_REVIEWERS, &keys, INT(tx_now(tx)), NAME(review->workspace_id));
        if (!e)
                e = choose(tx, review, &run, &keys, &choice);
        if (e)
                return e;
        if (choice.key)
                return review_give(tx, &domain->daemon, review, &run, choice.key->session_id,
                                   choice.key->actor);
        /* Where agents judge, one that only its own author could judge is stuck; whoever asked for one
         * by hand, and a workspace without agents, have people for it. */
        if (keys.n && !choice.busy && str_eq(review->requested_by, domain->daemon.actor))
                return end(tx, review, VERDICT_BLOCKED, "review-router:no-route",
                           "no session may judge this run");
        age = age < ROUTE_PAUSE_MIN ? ROUTE_PAUSE_MIN : age > ROUTE_PAUSE_MAX ? ROUTE_PAUSE_MAX : age;
        return tx_exec(tx, SQL_REVIEW_ROUTE_LATER, INT(review->id), INT(tx_now(tx) + age));
}

enum err reviews_tick(struct tx *tx)
{
        struct list rows;
        struct review *review;
        enum err e = expire(tx);

        if (!e)
                e = tx_all(tx, SQL_REVIEW_TO_ROUTE, &rows, INT(tx_now(tx)), INT(ROUTE_ROWS));
        review = rows.items;
        for (size_t i = 0; !e && i < rows.n; i++) {
                e = tx_one(tx, SQL_REVIEW_GET, &review[i], INT(review[i].id));
                if (!e && review[i].status == REVIEW_REQUESTED)
                        e = route(tx, &review[i]);
        }
        return e;
}
