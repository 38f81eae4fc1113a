#include "webhook/asker.h"

#include <pthread.h>
#include <stdlib.h>

#include "core/failpoint.h"
#include "http/fetch.h"
#include "json/json_in.h"

enum { STACK = 1 << 20, ASKED_MAX = 256, REST_MS = 60000, ANSWER_MAX = 16384, REASON_MAX = 500 };

/* One under way; the claim's scope is ours until the claim goes back. */
struct question {
        struct claim_call *claim;
        struct fetch_header headers[4];
        struct fetch_spec spec;
        struct fetch_result result;
        struct question *next, **link;
};

struct asker {
        struct store *store;
        const struct egress *egress;
        struct fetch_pool *pool;
        pthread_t thread;
        struct question *first; /* the thread's own */
        size_t n;
        pthread_mutex_t lock; /* of what follows */
        struct claim_call *new, **last;
        bool stopping;
};

/* ---- answers ---- */

enum decision { DECISION_ALLOW, DECISION_DENY };
static const char *const decisions[] = { "allow", "deny", NULL };
static const struct names decision_names = { decisions, NULL };

struct answer {
        int decision, priority_min;
        struct str reason, capabilities;
        uint64_t given;
};
enum { GIVEN_CAPABILITIES = 8 };
#define AT(member) offsetof(struct answer, member)
static const struct field answer_fields[] = {
        { "decision", FIELD_ENUM, FIELD_WIRE | FIELD_REQUIRED, AT(decision), &decision_names },
        { "reason", FIELD_STR, FIELD_WIRE, AT(reason), NULL, 0, REASON_MAX },
        { "priority_min", FIELD_ENUM, FIELD_WIRE, AT(priority_min), &priority_names },
        { "capabilities", FIELD_CAPS, FIELD_WIRE, AT(capabilities) },
};
static const struct record answer_record = { "PreClaimAnswer", answer_fields, LENGTH(answer_fields),
                                             sizeof(struct answer), AT(given) };

static void go_back(struct asker *a, struct claim_call *c, struct policy answer)
{
        c->policy = answer;
        store_resubmit(a->store, &c->call);
}

static void silent(struct asker *a, struct claim_call *c, struct str reason)
{
        go_back(a, c, (struct policy){ .state = POLICY_SILENT, .reason = reason });
}

static void answered(struct asker *a, struct question *q, enum err e)
{
        struct claim_call *c = q->claim;
        struct scope *scope = c->call.scope;
        struct answer answer = { .given = 0 };

        failpoint_pass(FAILPOINT_POLICY_ANSWERED);
        if (!e && (q->result.status < 200 || q->result.status >= 300))
                e = fail(scope, ERR_UNAVAILABLE, "it answers with status %d", q->result.status);
        if (!e && q->result.truncated)
                e = fail(scope, ERR_UNAVAILABLE, "it answers with more than %d bytes", ANSWER_MAX);
        if (!e)
                e = json_read(scope, q->result.body, &answer_record, &answer);
        if (e)
                silent(a, c, scope->fault.detail);
        else if (answer.decision == DECISION_DENY)
                go_back(a, c,
                        (struct policy){ .state = POLICY_DENIES,
                                         .reason = answer.reason.n ? answer.reason :
                                                                     STR("no reason was given") });
        else
                go_back(a, c,
                        (struct policy){ .state = POLICY_ALLOWS,
                                         .priority_min = answer.priority_min,
                                         .capabilities = answer.capabilities,
                                         .narrows = answer.given & GIVEN_CAPABILITIES });
}

/* ---- questions ---- */

static struct question *question_new(struct asker *a, struct claim_call *c)
{
        const struct policy *p = &c->policy;
        struct question *q = xcalloc(1, sizeof(*q));

        q->claim = c;
        q->headers[0] = (struct fetch_header){ STR("Content-Type"), STR("application/json") };
        q->headers[1] = (struct fetch_header){ STR("webhook-id"), p->id };
        q->headers[2] = (struct fetch_header){ STR("webhook-timestamp"), p->timestamp };
        q->headers[3] = (struct fetch_header){ STR("webhook-signature"), p->signature };
        q->spec = (struct fetch_spec){ .method = STR("POST"),
                                       .url = p->url,
                                       .headers = q->headers,
                                       .n_headers = LENGTH(q->headers),
                                       .body = p->body,
                                       .body_cap = ANSWER_MAX,
                                       .timeout_us = POLICY_MS * US_PER_MS,
                                       .egress = a->egress };
        q->link = &a->first;
        q->next = a->first;
        if (q->next)
                q->next->link = &q->next;
        a->first = q;
        a->n++;
        return q;
}

static void question_free(struct asker *a, struct question *q)
{
        *q->link = q->next;
        if (q->next)
                q->next->link = q->link;
        a->n--;
        free(q);
}

static void ask(struct asker *a, struct claim_call *c)
{
        struct question *q;
        enum err e;

        if (a->n == ASKED_MAX) {
                silent(a, c, STR("too many questions are open"));
                return;
        }
        q = question_new(a, c);
        e = fetch_pool_add(a->pool, c->call.scope, &q->spec, &q->result, q);
        if (e) {
                answered(a, q, e);
                question_free(a, q);
        }
}

/* What has come since; *stopping is read with it. */
static struct claim_call *take_new(struct asker *a, bool *stopping)
{
        struct claim_call *first;

        pthread_mutex_lock(&a->lock);
        first = a->new;
        a->new = NULL;
        a->last = &a->new;
        *stopping = a->stopping;
        pthread_mutex_unlock(&a->lock);
        return first;
}

static void *asker_main(void *arg)
{
        struct asker *a = arg;
        bool stopping = false;

        while (!stopping) {
                struct question *q;
                enum err e;

                for (struct claim_call *c = take_new(a, &stopping), *next; c; c = next) {
                        next = c->next;
                        ask(a, c);
                }
                if (!stopping && (q = fetch_pool_next(a->pool, REST_MS, &e))) {
                        answered(a, q, e);
                        question_free(a, q);
                }
        }
        fetch_pool_free(a->pool);
        for (struct question *q = a->first, *next; q; q = next) {
                next = q->next;
                silent(a, q->claim, STR("the server is shutting down"));
                question_free(a, q);
        }
        return NULL;
}

void asker_ask(void *asker, struct claim_call *c)
{
        struct asker *a = asker;
        bool stopping;

        failpoint_pass(FAILPOINT_POLICY_ASKED);
        c->next = NULL;
        pthread_mutex_lock(&a->lock);
        stopping = a->stopping;
        if (!stopping) {
                *a->last = c;
                a->last = &c->next;
                fetch_pool_wake(a->pool);
        }
        pthread_mutex_unlock(&a->lock);
        if (stopping)
                silent(a, c, STR("the server is shutting down"));
}

/* ---- life ---- */

enum err asker_start(struct scope *scope, struct store *store, const struct egress *egress,
                     struct asker **out)
{
        struct asker *a = xcalloc(1, sizeof(*a));
        pthread_attr_t attributes;
        int failed;

        a->store = store;
        a->egress = egress;
        a->pool = fetch_pool_new();
        a->last = &a->new;
        pthread_mutex_init(&a->lock, NULL);
        pthread_attr_init(&attributes);
        pthread_attr_setstacksize(&attributes, STACK);
        failed = pthread_create(&a->thread, &attributes, asker_main, a);
        pthread_attr_destroy(&attributes);
        if (failed) {
                fetch_pool_free(a->pool);
                asker_free(a);
                return fail(scope, ERR_UNAVAILABLE, "cannot start the thread of policies");
        }
        pthread_setname_np(a->thread, "policies");
        *out = a;
        return ERR_OK;
}

void asker_stop(struct asker *a)
{
        pthread_mutex_lock(&a->lock);
        a->stopping = true;
        fetch_pool_wake(a->pool);
        pthread_mutex_unlock(&a->lock);
        pthread_join(a->thread, NULL);
}

void asker_free(struct asker *a)
{
        pthread_mutex_destroy(&a->lock);
        free(a);
}
