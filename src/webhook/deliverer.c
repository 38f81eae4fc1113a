#include "webhook/deliverer.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "core/failpoint.h"
#include "core/log.h"
#include "core/utf8.h"
#include "domain/server.h"
#include "http/fetch.h"

enum {
        STACK = 1 << 20,
        SENDING_MAX = 64, /* requests under way, */
        SHARE = 8,        /* of them to one receiver, */
        SHARE_AILING = 1, /* or to one that failed or was slow the last time */
        TURN_MS = 200,
        REST_MS = 60000, /* while there is no webhook */
        FOLLOW_MS = 2000, /* while another server delivers */
        SLOW_MS = 2000,
        BODY_CAP = 65536, /* read of an answer */
        HEADERS = 4,
};
#define TRIM_EVERY (10 * US_PER_S)

/* A request under way; its texts live in its scope. */
struct sending {
        struct deliverer *deliverer;
        struct scope scope;
        struct posting posting;
        struct fetch_header headers[HEADERS];
        struct fetch_spec spec;
        struct fetch_result result;
        struct sent sent;
        int64_t began; /* boot clock */
        bool busy, ended;
};

/* How somebody who is sent to has done. */
struct receiver {
        int64_t webhook;
        int active;
        bool ailing;
};

struct deliverer {
        struct deliverer_options options;
        pthread_t thread;
        struct scope scope; /* of a turn */
        struct fetch_pool *pool;
        struct sending sending[SENDING_MAX];
        struct receiver *receivers;
        size_t n_receivers, size_receivers;
        struct lookout lookout;
        int64_t next_trim; /* boot clock */
        _Atomic bool draining, stopping;
        _Atomic int64_t delivered, failed, dead, active;
};

static int64_t boot_now(const struct deliverer *d)
{
        return d->options.world->clock->boot(d->options.world->clock->ctx);
}

/* ---- receivers ---- */

static struct receiver *receiver_of(struct deliverer *d, int64_t webhook)
{
        for (size_t i = 0; i < d->n_receivers; i++)
                if (d->receivers[i].webhook == webhook)
                        return &d->receivers[i];
        if (d->n_receivers == d->size_receivers) {
                d->size_receivers = d->size_receivers ? d->size_receivers * 2 : 16;
                d->receivers = xrealloc(d->receivers, d->size_receivers * sizeof(*d->receivers));
        }
        d->receivers[d->n_receivers] = (struct receiver){ .webhook = webhook };
        return &d->receivers[d->n_receivers++];
}

/* Of those who do well and are sent nothing there is nothing to know. */
static void forget_receivers(struct deliverer *d)
{
        size_t kept = 0;

        for (size_t i = 0; i < d->n_receivers; i++)
                if (d->receivers[i].active || d->receivers[i].ailing)
                        d->receivers[kept++] = d->receivers[i];
        d->n_receivers = kept;
}

static bool is_under_way(const struct deliverer *d, int64_t delivery)
{
        for (size_t i = 0; i < SENDING_MAX; i++)
                if (d->sending[i].busy && d->sending[i].posting.delivery == delivery)
                        return true;
        return false;
}

/* ---- what there is to do ---- */

struct look_call {
        struct call call;
        struct deliverer *deliverer;
        struct list findings;
        int64_t any;
        bool leads; /* one server delivers */
        int64_t *due; /* delivery, webhook, … */
        size_t n_due;
};

static enum err look(struct call *call, struct tx *tx)
{
        struct look_call *c = (struct look_call *)call;
        enum err e = deliveries_expected(tx, &c->any);

        if (!e && c->any)
                e = server_leads(tx, &c->leads);
        if (e || !c->leads)
                return e;
        e = deliveries_find(tx, &c->deliverer->lookout, &c->findings);
        return e ? e : deliveries_due(tx, 2 * SHARE, &c->due, &c->n_due);
}

static enum err make(struct call *call, struct tx *tx)
{
        return deliveries_make(tx, ((struct look_call *)call)->findings);
}

/* False when there is nothing to make; what fails is found again in the next turn. */
static bool make_deliveries(struct deliverer *d, struct look_call *found)
{
        found->call = (struct call){ .run = make, .class = CALL_IDLE, .scope = &d->scope };
        return found->findings.n && !store_call(d->options.store, &found->call);
}

struct trim_call {
        struct call call;
        int64_t ended_before;
        bool more;
};

static enum err trim_run(struct call *call, struct tx *tx)
{
        struct trim_call *c = (struct trim_call *)call;

        return deliveries_trim(tx, c->ended_before, &c->more);
}

static void trim(struct deliverer *d)
{
        struct trim_call c = { .call = { .run = trim_run, .class = CALL_IDLE, .scope = &d->scope },
                               .ended_before = d->scope.now - d->options.keep_us };
        enum err e;

        if (boot_now(d) < d->next_trim)
                return;
        e = store_call(d->options.store, &c.call);
        d->next_trim = !e && c.more ? 0 : boot_now(d) + TRIM_EVERY;
}

/* ---- sending ---- */

struct prepare_call {
        struct call call;
        struct sending *sending;
        int64_t delivery;
};

static enum err prepare(struct call *call, struct tx *tx)
{
        struct prepare_call *c = (struct prepare_call *)call;

        return delivery_prepare(tx, c->delivery, &c->sending->posting);
}

static void headers_and_spec(struct sending *s)
{
        const struct posting *p = &s->posting;

        s->headers[0] = (struct fetch_header){ STR("Content-Type"), STR("application/json") };
        s->headers[1] = (struct fetch_header){ STR("webhook-id"), p->id };
        s->headers[2] = (struct fetch_header){ STR("webhook-timestamp"), p->timestamp };
        s->headers[3] = (struct fetch_header){ STR("webhook-signature"), p->signature };
        s->spec = (struct fetch_spec){ .method = STR("POST"),
                                       .url = p->url,
                                       .headers = s->headers,
                                       .n_headers = HEADERS,
                                       .body = p->body,
                                       .body_cap = BODY_CAP,
                                       .timeout_us = DELIVERER_SECONDS * US_PER_S,
                                       .egress = s->deliverer->options.egress };
}

static int64_t retry_after(const struct fetch_result *r)
{
        int64_t seconds = 0;

        for (size_t i = 0; i < r->n_headers; i++)
                if (str_is(r->headers[i].name, "retry-after") &&
                    !(str_to_int(r->headers[i].value, &seconds) && seconds > 0))
                        seconds = 0;
        return seconds;
}

static struct str beginning(struct arena *arena, const struct fetch_result *r)
{
        bool cut = r->body.n > RESPONSE_KEPT;

        return !r->body.n ? STR_NONE :
                            utf8_clean(arena, cut ? str_slice(r->body, 0, RESPONSE_KEPT) : r->body,
                                       cut || r->truncated);
}

/* What is to be recorded; e: there was no answer. */
static void ended(struct sending *s, enum err e)
{
        const struct fetch_result *r = &s->result;

        s->ended = true;
        s->sent = (struct sent){ .delivery = s->posting.delivery,
                                 .webhook = s->posting.webhook,
                                 .attempts = s->posting.attempts,
                                 .duration_ms = (boot_now(s->deliverer) - s->began) / US_PER_MS };
        if (e) {
                s->sent.error = s->scope.fault.detail;
                return;
        }
        s->sent.status = r->status;
        s->sent.response = beginning(&s->scope.arena, r);
        s->sent.retry_after_s = retry_after(r);
        if (r->status < 200 || r->status >= 300)
                s->sent.error = arena_printf(&s->scope.arena, "the receiver answers with status %d",
                                             r->status);
}

static void begin(struct deliverer *d, struct sending *s, int64_t delivery)
{
        struct prepare_call c = { .call = { .run = prepare, .reads = true, .scope = &s->scope },
                                  .sending = s,
                                  .delivery = delivery };
        enum err e;

        scope_reset(&s->scope);
        s->posting = (struct posting){ 0 };
        s->began = boot_now(d);
        e = store_call(d->options.store, &c.call);
        if (e && !s->posting.delivery) /* it is not to be sent any more, or not read just now */
                return;
        s->busy = true;
        s->ended = false;
        receiver_of(d, s->posting.webhook)->active++;
        d->active++;
        if (!e) {
                headers_and_spec(s);
                e = fetch_pool_add(d->pool, &s->scope, &s->spec, &s->result, s);
        }
        failpoint_pass(FAILPOINT_DELIVERY_SENT);
        if (e)
                ended(s, e);
}

static struct sending *free_sending(struct deliverer *d)
{
        for (size_t i = 0; i < SENDING_MAX; i++)
                if (!d->sending[i].busy)
                        return &d->sending[i];
        return NULL;
}

/* Those to whom least is under way come first, so that nobody waits for somebody else's share. */
static void begin_due(struct deliverer *d, const int64_t *due, size_t n)
{
        for (int round = 1; round <= SHARE; round++)
                for (size_t i = 0; i < n; i++) {
                        const struct receiver *r = receiver_of(d, due[2 * i + 1]);
                        struct sending *s = free_sending(d);

                        if (!s)
                                return;
                        if (r->active < round && r->active < (r->ailing ? SHARE_AILING : SHARE) &&
                            !is_under_way(d, due[2 * i]))
                                begin(d, s, due[2 * i]);
                }
}

/* ---- recording ---- */

struct record_call {
        struct call call;
        struct deliverer *deliverer;
};

static enum err record(struct call *call, struct tx *tx)
{
        struct deliverer *d = ((struct record_call *)call)->deliverer;
        enum err e = ERR_OK;

        for (size_t i = 0; !e && i < SENDING_MAX; i++)
                if (d->sending[i].busy && d->sending[i].ended)
                        e = delivery_sent(tx, &d->options.policy, &d->sending[i].sent);
        return e;
}

static void count(struct deliverer *d, const struct sent *sent)
{
        char delivery[ID_TEXT_SIZE], webhook[ID_TEXT_SIZE];

        if (sent->outcome == DELIVERY_DELIVERED)
                d->delivered++;
        else
                d->failed++;
        if (sent->outcome != DELIVERY_DEAD)
                return;
        d->dead++;
        id_print("dlv", sent->delivery, delivery);
        id_print("hook", sent->webhook, webhook);
        log_write(LOG_WARN, "delivery_dead", "delivery", delivery, "webhook", webhook, "error",
                  str_c(&d->scope.arena, sent->error), NULL);
}

static void release(struct deliverer *d, struct sending *s)
{
        struct receiver *r = receiver_of(d, s->posting.webhook);

        r->active--;
        r->ailing = s->sent.outcome != DELIVERY_DELIVERED || s->sent.duration_ms > SLOW_MS;
        s->busy = false;
        d->active--;
}

/* What ended keeps its place until it is recorded, so that it is not sent again meanwhile. */
static void record_ended(struct deliverer *d)
{
        struct record_call c = {
                .call = { .run = record, .class = CALL_CANCEL, .scope = &d->scope }, .deliverer = d
        };
        bool any = false;

        for (size_t i = 0; i < SENDING_MAX; i++)
                any |= d->sending[i].busy && d->sending[i].ended;
        if (!any)
                return;
        failpoint_pass(FAILPOINT_DELIVERY_ANSWERED);
        if (store_call(d->options.store, &c.call))
                return;
        for (size_t i = 0; i < SENDING_MAX; i++) {
                struct sending *s = &d->sending[i];

                if (!s->busy || !s->ended)
                        continue;
                count(d, &s->sent);
                release(d, s);
        }
        forget_receivers(d);
}

static void wait_for_answers(struct deliverer *d, int ms)
{
        struct sending *s;
        enum err e;

        for (; (s = fetch_pool_next(d->pool, ms, &e)); ms = 0)
                ended(s, e);
}

/* ---- life ---- */

/* How long it may rest if nothing is answered meanwhile. */
static int work(struct deliverer *d)
{
        struct look_call c = { .call = { .run = look, .reads = true, .scope = &d->scope },
                               .deliverer = d };
        bool made;

        if (store_call(d->options.store, &c.call))
                return TURN_MS;
        if (!c.any)
                return REST_MS;
        if (!c.leads)
                return FOLLOW_MS;
        begin_due(d, c.due, c.n_due);
        made = make_deliveries(d, &c);
        trim(d);
        return made || d->lookout.more ? 0 : TURN_MS;
}

static void *deliverer_main(void *arg)
{
        struct deliverer *d = arg;

        while (!d->stopping) {
                scope_reset(&d->scope);
                wait_for_answers(d, d->draining ? TURN_MS : work(d));
                record_ended(d);
        }
        return NULL;
}

enum err deliverer_start(struct scope *scope, const struct deliverer_options *options,
                         struct deliverer **out)
{
        struct deliverer *d = xcalloc(1, sizeof(*d));
        pthread_attr_t attributes;
        int failed;

        d->options = *options;
        d->pool = fetch_pool_new();
        scope_init(&d->scope, options->world);
        for (size_t i = 0; i < SENDING_MAX; i++) {
                d->sending[i].deliverer = d;
                scope_init(&d->sending[i].scope, options->world);
        }
        pthread_attr_init(&attributes);
        pthread_attr_setstacksize(&attributes, STACK);
        failed = pthread_create(&d->thread, &attributes, deliverer_main, d);
        pthread_attr_destroy(&attributes);
        if (failed) {
                deliverer_free(d);
                return fail(scope, ERR_UNAVAILABLE, "cannot start the thread of webhooks");
        }
        pthread_setname_np(d->thread, "webhooks");
        *out = d;
        return ERR_OK;
}

void deliverer_wake(void *deliverer)
{
        fetch_pool_wake(((struct deliverer *)deliverer)->pool);
}

void deliverer_drain(struct deliverer *d)
{
        d->draining = true;
}

void deliverer_stop(struct deliverer *d)
{
        d->draining = d->stopping = true;
        fetch_pool_wake(d->pool);
        pthread_join(d->thread, NULL);
}

void deliverer_free(struct deliverer *d)
{
        fetch_pool_free(d->pool);
        for (size_t i = 0; i < SENDING_MAX; i++)
                scope_done(&d->sending[i].scope);
        scope_done(&d->scope);
        lookout_free(&d->lookout);
        free(d->receivers);
        free(d);
}

struct delivery_counts deliverer_counts(const struct deliverer *d)
{
        return (struct delivery_counts){
                .delivered = d->delivered, .failed = d->failed, .dead = d->dead, .active = d->active
        };
}
