#include "worker/slot.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/failpoint.h"
#include "core/log.h"
#include "domain/definition.h"
#include "domain/log_line.h"
#include "domain/server.h"
#include "domain/volume.h"

#define CLAIM_WAIT (600 * US_PER_S)
enum { LOG_MAX = 16 << 20, LOG_PIECE = 65536, APPLY_TRIES = 300, PAUSE_MS = 200 };
/* What a run may make this worker remember: parsed outputs, rendered parameters. */
enum { MEMORY_MAX = 256 << 20 };

static void pause_ms(int ms)
{
        struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1000000L };

        nanosleep(&t, NULL);
}

/* ---- calls of the store ---- */

static void drop_definition(struct slot *s)
{
        definition_cache_release(s->worker->options.definitions, s->definition);
        s->definition = NULL;
        s->document = STR_NONE;
}

/* Where its files are: here, if they are nowhere yet.  That is not known until it is committed. */
static enum err place_workspace(struct slot *s, struct tx *tx, const struct workspace *w)
{
        struct str volume = s->worker->options.volume;

        s->elsewhere = volume.n && w->volume.p && !str_eq(volume, w->volume);
        if (!volume.n || w->volume.p)
                return ERR_OK;
        s->workspace_read = 0;
        return volume_bind(tx, w->id, volume);
}

/* Uid and quota of the run's workspace; what was read within the last second is good enough. */
static enum err read_workspace(struct slot *s, struct tx *tx, struct str id)
{
        struct principal all = { .all_workspaces = true };
        int64_t now = worker_boot_now(s->worker);
        struct workspace found;
        enum err e;

        if (str_is(id, s->workspace_id) && now - s->workspace_read < US_PER_S)
                return ERR_OK;
        e = workspace_get(tx, &all, id, &found);
        if (e)
                return e;
        if (!str_is(id, s->workspace_id)) {
                s->has_directory = false;
                s->used_at = 0;
        }
        snprintf(s->workspace_id, sizeof(s->workspace_id), STR_FMT, STR_ARG(id));
        s->workspace_uid = (uint32_t)found.uid;
        s->workspace_quota = found.quota_bytes;
        s->workspace_read = now;
        return place_workspace(s, tx, &found);
}

/* A server that stood still for long has lost its number, and with it what the worker held, and has another by now. */
static void take_name(struct slot *s, struct tx *tx)
{
        const struct domain *domain = tx_context(tx);
        struct str name = server_worker(&tx_scope(tx)->arena, domain->now.server);

        snprintf(s->actor, sizeof(s->actor), STR_FMT, STR_ARG(name));
        s->by.actor = str_from(s->actor);
}

/* May be run twice before it is committed: everything of the first time is void then. */
static enum err claim_run(struct call *call, struct tx *tx)
{
        struct slot *s = (struct slot *)call;
        struct definition_row row;
        struct claim *claim;
        enum err e;

        drop_definition(s); /* of a turn that was undone */
        take_name(s, tx);
        e = waiting_claim(tx, &s->by, &s->claim, &s->claims);
        if (e)
                return e;
        claim = s->claims.items;
        e = snapshot_read(tx, claim->run, claim->task, &s->snapshot);
        if (!e)
                e = read_workspace(s, tx, claim->run->workspace_id);
        s->log_bytes = 0;
        if (!e && claim->run->revision > 0)
                e = log_end(tx, claim->run->id, &s->log_bytes);
        if (e)
                return e;
        row = (struct definition_row){ .id = claim->run->definition_id };
        s->definition = definition_cache_get(s->worker->options.definitions, row.id,
                                             claim->run->definition_version);
        if (!s->definition)
                e = definition_document(tx, &row, claim->run->definition_version);
        s->document = row.spec;
        return e;
}

static void claim_done(struct call *call)
{
        struct slot *s = (struct slot *)call;

        pthread_mutex_lock(&s->lock);
        s->has_answer = true;
        pthread_cond_signal(&s->answered);
        pthread_mutex_unlock(&s->lock);
}

struct advance_call {
        struct call call;
        struct advance advance;
        struct run run;
};

static enum err advance_run(struct call *call, struct tx *tx)
{
        struct advance_call *c = (struct advance_call *)call;

        return run_advance(tx, &c->advance, &c->run);
}

struct look_call {
        struct call call;
        int64_t run;
        struct run found;
};

static enum err look_at(struct call *call, struct tx *tx)
{
        struct look_call *c = (struct look_call *)call;

        return run_load(tx, c->run, &c->found);
}

static enum err tell_cleaned(struct call *call, struct tx *tx)
{
        return run_cleaned(tx, ((struct look_call *)call)->run);
}

struct release_call {
        struct call call;
        const struct fence *fence;
        int64_t run;
        bool passes_on;
};

static enum err release_run(struct call *call, struct tx *tx)
{
        struct release_call *c = (struct release_call *)call;
        struct run run;

        if (c->passes_on)
                return claim_pass_on(tx, c->fence, c->run, &run);
        return claim_release(tx, c->fence, c->run, STR("the worker stops"), STR_NONE, &run);
}

struct log_call {
        struct call call;
        const struct fence *fence;
        int64_t run, step;
        int stream;
        struct str text;
};

static enum err append_log(struct call *call, struct tx *tx)
{
        struct log_call *c = (struct log_call *)call;

        return log_append(tx, c->fence, c->run, c->step, c->stream, c->text);
}

/* ---- while it holds a run ---- */

static void wake(struct subscription *subscription)
{
        struct slot *s = (struct slot *)(void *)((char *)subscription -
                                                 offsetof(struct slot, subscription));

        s->look = true;
}

/* Somebody wrote in the tree: has the run been canceled, timed out or taken away? */
static void look(struct slot *s)
{
        struct scope scope;
        struct look_call c = { .call = { .run = look_at, .reads = true, .scope = &scope },
                               .run = s->run };

        scope_init(&scope, s->worker->options.world);
        if (store_call(s->worker->options.store, &c.call))
                s->look = true; /* again */
        else if (!run_is_leased(c.found.status) || c.found.epoch != s->epoch)
                s->stop = SLOT_LOST;
        scope_done(&scope);
}

bool slot_is_stopped(struct slot *s)
{
        if (!s->stop && s->look) {
                s->look = false;
                look(s);
        }
        if (!s->stop && s->worker->stopping)
                s->stop = SLOT_RELEASE;
        return s->stop != SLOT_GO_ON;
}

static void log_piece(struct slot *s, struct log_call *c)
{
        failpoint_pass(FAILPOINT_LOG_PIECE);
        if (store_call(s->worker->options.store, &c->call) == ERR_STALE_TOKEN)
                s->stop = SLOT_LOST;
        failpoint_pass(FAILPOINT_LOG_WRITTEN);
        s->log_bytes += (int64_t)c->text.n;
        scope_reset(c->call.scope);
}

void slot_log(struct slot *s, int64_t step, int stream, struct str text)
{
        struct scope scope;
        struct log_call c = { .call = { .run = append_log, .scope = &scope, .class = CALL_LEASE },
                              .fence = &s->fence,
                              .run = s->run,
                              .step = step,
                              .stream = stream };

        if (s->log_bytes >= LOG_MAX)
                return;
        scope_init(&scope, s->worker->options.world);
        while (text.n && s->log_bytes < LOG_MAX) {
                c.text = str_whole(str_slice(text, 0, text.n < LOG_PIECE ? text.n : LOG_PIECE));
                text = str_slice(text, c.text.n, text.n);
                log_piece(s, &c);
        }
        if (s->log_bytes >= LOG_MAX) {
                c.text = STR("\n[the log of this run ends here: 16 MiB]\n");
                log_piece(s, &c);
        }
        scope_done(&scope);
}

static void hold(struct slot *s)
{
        const struct claim *claim = s->claims.items;

        BUG_ON(claim->token.n >= TOKEN_MAX);
        pthread_mutex_lock(&s->lock);
        s->run = claim->run->id;
        s->tree = claim->run->tree_id;
        s->epoch = claim->run->epoch;
        memcpy(s->token, claim->token.p, claim->token.n);
        s->token[claim->token.n] = '\0';
        s->beat = worker_boot_now(s->worker);
        s->stop = SLOT_GO_ON;
        s->look = false;
        s->holds = true;
        pthread_mutex_unlock(&s->lock);
        s->fence = fence_of(&s->by, claim->token);
        s->subscription = (struct subscription){ .topic = s->tree, .wake = wake };
        hub_subscribe(s->worker->options.hub, &s->subscription);
}

static void let_go(struct slot *s)
{
        hub_unsubscribe(s->worker->options.hub, &s->subscription);
        pthread_mutex_lock(&s->lock);
        s->holds = false;
        pthread_mutex_unlock(&s->lock);
}

static void give_back(struct slot *s, bool passes_on)
{
        struct release_call c = { .call = { .run = release_run, .scope = &s->scope },
                                  .fence = &s->fence,
                                  .run = s->run,
                                  .passes_on = passes_on };

        if (passes_on) /* it may come back, if the workspace was given to this volume meanwhile */
                s->workspace_read = 0;
        if (store_call(s->worker->options.store, &c.call))
                log_write(LOG_WARN, "run not given back", "detail",
                          str_c(&s->scope.arena, s->scope.fault.detail), NULL);
}

static void release(struct slot *s)
{
        give_back(s, false);
}

/* The run was ended from outside, and what ran for it is dead: its next attempt may begin. */
static void say_cleaned(struct slot *s)
{
        struct look_call c = { .call = { .run = tell_cleaned, .scope = &s->scope }, .run = s->run };

        if (store_call(s->worker->options.store, &c.call))
                log_write(LOG_WARN, "clean-up not told", "detail",
                          str_c(&s->scope.arena, s->scope.fault.detail), NULL);
}

static bool may_pass(enum err e)
{
        return e == ERR_UNAVAILABLE || e == ERR_OVERLOADED || e == ERR_STORAGE_FULL ||
               e == ERR_INTERNAL;
}

/* A step that was performed must not be forgotten: while the store cannot take it, it is tried again
 * as long as the lease lives. */
static enum err apply(struct slot *s, const struct advance *advance)
{
        struct advance_call c = { .call = { .run = advance_run, .scope = &s->scope },
                                  .advance = *advance };
        enum err e;

        c.advance.fence = s->fence;
        run_advance_likely(&c.advance, c.call.likely);
        for (int i = 0;; i++) {
                e = failpoint(&s->scope, FAILPOINT_APPLY);
                if (!e)
                        e = store_call(s->worker->options.store, &c.call);
                if (!may_pass(e) || i == APPLY_TRIES || s->stop == SLOT_LOST)
                        break;
                pause_ms(PAUSE_MS);
        }
        if (!e) {
                int64_t at = s->snapshot.run->current_step;

                *s->snapshot.run = c.run;
                s->snapshot.run->current_step = at;
        }
        return e;
}

/* Its definition or its input do not allow the run to go on at all. */
static void fail_run(struct slot *s, struct str why)
{
        struct advance a = { .run_id = s->run,
                             .revision = s->snapshot.run->revision,
                             .at = s->snapshot.run->current_step,
                             .move = ADVANCE_FAIL,
                             .outcome = OUTCOME_POLICY,
                             .message = why };

        if (apply(s, &a))
                release(s);
}

static void log_abandoned(struct slot *s, enum err e)
{
        char run[ID_TEXT_SIZE];

        id_print("run", s->run, run);
        log_write(e == ERR_STALE_TOKEN || e == ERR_LEASE_EXPIRED || e == ERR_INVALID_TRANSITION ?
                          LOG_INFO :
                          LOG_WARN,
                  "run left", "run", run, "code", err_name(e), "detail",
                  str_c(&s->scope.arena, s->scope.fault.detail), NULL);
}

/* What lies in the step and not in the lease: the step fails with it. */
static bool is_the_steps_fault(enum err e)
{
        return e == ERR_NOT_FOUND || e == ERR_GRAPH_LIMIT || e == ERR_VALIDATION;
}

static enum err plan_and_apply(struct slot *s, const struct performed *done, struct plan *plan)
{
        enum err e;

        s->scope.now = s->worker->options.world->clock->wall(s->worker->options.world->clock->ctx);
        s->progress.pausing = s->worker->stopping;
        plan_next(&s->scope, &s->progress, done, plan);
        failpoint_pass(FAILPOINT_STEP_PLANNED);
        e = apply(s, &plan->advance);
        while (is_the_steps_fault(e)) {
                plan_refused(&s->scope, &s->progress, s->scope.fault.detail, plan);
                e = apply(s, &plan->advance);
        }
        return e;
}

/* It could not be applied: the run is somebody else's by now, or it is given back. */
static void leave(struct slot *s, enum err e)
{
        log_abandoned(s, e);
        s->stop = SLOT_LOST;
        if (e != ERR_STALE_TOKEN && e != ERR_LEASE_EXPIRED && e != ERR_INVALID_TRANSITION &&
            e != ERR_FOREIGN_RUN)
                release(s);
}

static void work(struct slot *s)
{
        struct performed done = { .outcome = OUTCOME_NONE };
        enum err e = progress_init(&s->scope, s->definition, &s->snapshot, &s->progress);

        if (e) {
                fail_run(s, s->scope.fault.detail);
                return;
        }
        s->progress.capabilities = s->worker->options.capabilities;
        s->progress.without_files = s->elsewhere;
        for (;;) {
                struct plan plan;

                e = plan_and_apply(s, done.outcome ? &done : NULL, &plan);
                if (e)
                        leave(s, e);
                else if (!plan.perform && plan.advance.move == ADVANCE_GO_ON)
                        give_back(s, !s->progress.pausing); /* the next step was not begun */
                if (e || !plan.perform)
                        return;
                if (s->scope.arena.used > MEMORY_MAX) {
                        fail_run(s, STR("the run needs more than 256 MiB of memory: its outputs and"
                                        " parameters are too large"));
                        return;
                }
                failpoint_pass(FAILPOINT_STEP_STARTED);
                done = perform(s, plan.perform, plan.parameters);
                failpoint_pass(FAILPOINT_STEP_PERFORMED);
                /* What ended by itself is recorded even when the worker stops. */
                if (s->stop == SLOT_RELEASE && done.outcome == OUTCOME_CANCELED)
                        release(s);
                if (s->stop == SLOT_LOST || done.outcome == OUTCOME_CANCELED)
                        return;
        }
}

/* ---- the loop ---- */

static enum err claim(struct slot *s)
{
        s->claim.request = (struct claim_request){
                .criteria = { .executor = EXECUTOR_WORKER,
                              .capabilities = s->worker->options.capabilities,
                              .volume = s->worker->options.volume },
                .lease_seconds = WORKER_LEASE,
                .max = 1,
        };
        s->claim.wait_until = worker_boot_now(s->worker) + CLAIM_WAIT;
        s->claim.call = (struct call){ .run = claim_run,
                                       .done = claim_done,
                                       .class = CALL_CLAIM,
                                       .scope = &s->scope };
        s->has_answer = false;
        if (!store_submit(s->worker->options.store, &s->claim.call))
                return ERR_OVERLOADED;
        pthread_mutex_lock(&s->lock);
        while (!s->has_answer)
                pthread_cond_wait(&s->answered, &s->lock);
        pthread_mutex_unlock(&s->lock);
        return s->claim.call.result;
}

static enum err find_definition(struct slot *s)
{
        const struct claim *claim = s->claims.items;

        return s->definition ? ERR_OK :
                               definition_cache_add(s->worker->options.definitions, &s->scope,
                                                    claim->run->definition_id,
                                                    claim->run->definition_version, s->document,
                                                    &s->definition);
}

static void forget(struct slot *s)
{
        drop_definition(s);
        scope_reset(&s->scope);
}

void *slot_main(void *arg)
{
        struct slot *s = arg;

        while (!s->worker->draining) {
                enum err e = claim(s);

                if (!e) {
                        failpoint_pass(FAILPOINT_WORKER_CLAIMED);
                        hold(s);
                        e = find_definition(s);
                        if (e)
                                fail_run(s, s->scope.fault.detail);
                        else
                                work(s);
                        if (s->stop == SLOT_LOST)
                                say_cleaned(s);
                        let_go(s);
                } else if (e != ERR_EMPTY) {
                        log_write(LOG_WARN, "claim failed", "code", err_name(e), "detail",
                                  str_c(&s->scope.arena, s->scope.fault.detail), NULL);
                        pause_ms(PAUSE_MS);
                }
                forget(s);
        }
        return NULL;
}
