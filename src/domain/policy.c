#include "domain/policy.h"

#include "core/json_out.h"
#include "domain/domain.h"
#include "domain/secret.h"
#include "domain/sql.h"

enum { BODY_MAX = 65536 };

/* Of the whole server; known until a webhook changes. */
static enum err count_policies(struct tx *tx, int64_t *n)
{
        struct domain *d = tx_context(tx);
        enum err e = ERR_OK;

        if (d->policies < 0)
                e = tx_number(tx, SQL_WEBHOOK_POLICIES, &d->policies);
        *n = d->policies;
        return e;
}

/* ---- the question ---- */

struct question {
        struct str workspace_id, actor, origin, session_id, agent_name, capabilities, channel;
        int priority_min;
        int64_t run_id, max, lease_seconds;
};
#define AT(member) offsetof(struct question, member)
static const struct field question_fields[] = {
        { "workspace_id", FIELD_STR, FIELD_WIRE, AT(workspace_id) },
        { "actor", FIELD_ACTOR, FIELD_WIRE, AT(actor) },
        { "origin", FIELD_ACTOR, FIELD_WIRE, AT(origin) },
        { "session_id", FIELD_STR, FIELD_WIRE, AT(session_id) },
        { "agent_name", FIELD_STR, FIELD_WIRE, AT(agent_name) },
        { "capabilities", FIELD_CAPS, FIELD_WIRE, AT(capabilities) },
        { "channel", FIELD_STR, FIELD_WIRE, AT(channel) },
        { "priority_min", FIELD_ENUM, FIELD_WIRE, AT(priority_min), &priority_names },
        { "run_id", FIELD_ID, FIELD_WIRE, AT(run_id), "run" },
        { "max", FIELD_INT, FIELD_WIRE, AT(max) },
        { "lease_seconds", FIELD_INT, FIELD_WIRE, AT(lease_seconds) },
};
static const struct record question_record = { "PreClaim", question_fields, LENGTH(question_fields),
                                               sizeof(struct question), -1 };

static struct str body_of(struct tx *tx, const struct principal *by, const struct claim_request *r)
{
        const struct question question = { .workspace_id = r->criteria.workspace,
                                           .actor = by->actor,
                                           .origin = by->origin,
                                           .session_id = r->criteria.session_id,
                                           .agent_name = r->criteria.agent_name,
                                           .capabilities = r->criteria.capabilities,
                                           .channel = r->criteria.channel,
                                           .priority_min = (int)r->criteria.priority_min,
                                           .run_id = r->run,
                                           .max = r->max,
                                           .lease_seconds = r->lease_seconds };
        struct buf text = BUF_INIT(BODY_MAX);
        struct json_out j = { .out = &text };
        struct str copy;

        json_begin_object(&j);
        json_key(&j, "type");
        json_put_text(&j, WEBHOOK_PRE_CLAIM);
        json_key(&j, "timestamp");
        json_put_time(&j, tx_now(tx));
        json_key(&j, "data");
        json_record(&j, &question_record, &question);
        json_end_object(&j);
        BUG_ON(text.full);
        copy = str_dup(&tx_scope(tx)->arena, buf_view(&text));
        buf_done(&text);
        return copy;
}

static void sign(struct tx *tx, const struct webhook *w, struct str body, struct policy *out)
{
        struct arena *arena = &tx_scope(tx)->arena;
        struct str key = webhook_key(tx, w);
        char id[ID_TEXT_SIZE];

        if (!key.p) {
                *out = (struct policy){ .state = POLICY_SILENT,
                                        .reason = STR("its secret does not open") };
                return;
        }
        id_print("ask", scope_id(tx_scope(tx)), id);
        *out = (struct policy){ .state = POLICY_ASKS,
                                .url = w->url,
                                .id = str_dup(arena, str_from(id)),
                                .timestamp = arena_printf(arena, "%lld",
                                                          (long long)(tx_now(tx) / US_PER_S)),
                                .body = body };
        out->signature = webhook_signature(arena, key, out->id, out->timestamp, body);
        secret_wipe(key);
}

static enum err ask(struct tx *tx, const struct principal *by, const struct claim_request *r,
                    struct policy *p)
{
        struct webhook w;
        int64_t n;
        enum err e = count_policies(tx, &n);

        if (!e && n)
                e = tx_one(tx, SQL_WEBHOOK_POLICY, &w, NAME(r->criteria.workspace), INT(0));
        if (e == ERR_EMPTY || (!e && !n)) {
                p->state = POLICY_ALLOWS;
                return ERR_OK;
        }
        if (!e)
                sign(tx, &w, body_of(tx, by, r), p);
        return e;
}

/* ---- the answer ---- */

enum err policy_apply(struct tx *tx, const struct principal *by, struct policy *p,
                      struct claim_request *r)
{
        struct claim_criteria *c = &r->criteria;
        enum err e = p->state == POLICY_UNKNOWN ? ask(tx, by, r, p) : ERR_OK;

        if (e)
                return e;
        if (p->state == POLICY_ASKS)
                return ERR_EMPTY;
        if (p->state == POLICY_DENIES)
                return fail(tx_scope(tx), ERR_PERMISSION_DENIED,
                            "the workspace's policy denies the claim: " STR_FMT,
                            STR_ARG(p->reason));
        if (p->state == POLICY_SILENT) {
                e = fail(tx_scope(tx), ERR_UNAVAILABLE,
                         "the workspace's policy could not be asked: " STR_FMT, STR_ARG(p->reason));
                tx_scope(tx)->fault.retry_after = 1;
                return e;
        }
        if (p->priority_min > c->priority_min)
                c->priority_min = p->priority_min;
        if (p->narrows)
                c->capabilities = caps_both(&tx_scope(tx)->arena, c->capabilities, p->capabilities);
        return ERR_OK;
}
