/* Simulated workers: what src/worker/slot.c does, with dice for a sandbox. */
#include <string.h>

#include "sim.h"

enum { LEASE = 6, BEAT_EVERY = 2 };

static void ask(struct worker *w, enum op_kind kind, int64_t run)
{
        op_init(&w->op, w->sim, kind, &w->sim->worker_by, &w->scope);
        w->op.worker = w;
        w->op.id = run;
        w->op.lease = LEASE;
        w->op.caps = 3;
        if (w->token.p)
                memcpy(w->op.token, w->token.p, w->token.n);
        if (kind == OP_TAKE)
                w->op.claim.wait_until = w->sim->w.boot + 5 * US_PER_S;
        op_submit(&w->op);
}

static void drop_definition(struct worker *w)
{
        if (w->definition)
                definition_cache_release(w->sim->definitions, w->definition);
        w->definition = NULL;
        w->document = STR_NONE;
}

void worker_forget(struct worker *w)
{
        drop_definition(w);
        scope_reset(&w->scope);
        w->state = WORKER_IDLE;
        w->token = STR_NONE;
        w->repeats = false;
}

enum err worker_claim(struct op *op, struct tx *tx)
{
        struct worker *w = op->worker;
        struct sim *s = op->sim;
        struct definition_row row;
        struct claim *claim;
        enum err e;

        drop_definition(w); /* of a turn that was undone */
        op->claim.request = (struct claim_request){ .criteria = { .executor = EXECUTOR_WORKER,
                                                                  .capabilities = STR("gpu,net") },
                                                    .lease_seconds = op->lease,
                                                    .max = 1 };
        e = op_claim(op, tx);
        if (e)
                return e;
        claim = op->claims.items;
        e = snapshot_read(tx, claim->run, claim->task, &w->snapshot);
        row = (struct definition_row){ .id = claim->run->definition_id };
        w->definition = definition_cache_get(s->definitions, row.id,
                                             claim->run->definition_version);
        if (!e && !w->definition)
                e = definition_document(tx, &row, claim->run->definition_version);
        w->document = row.spec;
        return e;
}

static void hold(struct worker *w)
{
        struct sim *s = w->sim;
        const struct claim *claim = w->op.claims.items;

        if (!w->definition &&
            definition_cache_add(s->definitions, &w->scope, claim->run->definition_id,
                                 claim->run->definition_version, w->document, &w->definition))
                violation(s, "a stored definition does not load: " STR_FMT,
                          STR_ARG(w->scope.fault.detail));
        else if (progress_init(&w->scope, w->definition, &w->snapshot, &w->progress))
                violation(s, "a run does not go on: " STR_FMT, STR_ARG(w->scope.fault.detail));
        w->progress.capabilities = STR("gpu,net");
        w->token = claim->token;
        w->run = claim->run->id;
        w->epoch = claim->run->epoch;
        w->beat = s->w.boot;
        w->done = (struct performed){ .outcome = OUTCOME_NONE };
        w->state = WORKER_PLANS;
}

/* ---- one turn of it ---- */

static void apply(struct worker *w)
{
        w->advance = w->plan.advance;
        w->advance.fence = fence_of(&w->sim->worker_by, w->token);
        w->forged = one_in(&w->sim->w, 60);
        w->state = WORKER_ASKS;
        ask(w, OP_ADVANCE, w->run);
        /* Somebody who knows everything but the token. */
        if (w->forged) {
                w->op.token[12] = w->op.token[12] == '0' ? '1' : '0';
                w->advance.fence = fence_of(&w->sim->worker_by, str_from(w->op.token));
        }
}

static void plan(struct worker *w)
{
        w->scope.now = w->sim->w.wall;
        plan_next(&w->scope, &w->progress, w->done.outcome ? &w->done : NULL, &w->plan);
        apply(w);
}

static void perform(struct worker *w)
{
        static const enum outcome bad[] = { OUTCOME_FAILED, OUTCOME_TRANSIENT, OUTCOME_POLICY };
        struct sim *s = w->sim;

        w->done = (struct performed){ .outcome = OUTCOME_OK };
        if (one_in(&s->w, 7))
                w->done = (struct performed){ .outcome = bad[roll(&s->w, LENGTH(bad))],
                                              .message = STR("it broke") };
        else if (value_member(w->plan.parameters, STR("output")))
                w->done.output = *value_member(w->plan.parameters, STR("output"));
        w->state = WORKER_PLANS;
}

bool worker_act(struct worker *w)
{
        struct sim *s = w->sim;

        switch (w->state) {
        case WORKER_IDLE:
                w->state = WORKER_ASKS;
                ask(w, OP_TAKE, 0);
                return true;
        case WORKER_PLANS:
                if (one_in(&s->w, 60)) { /* it dies and somebody else takes its place */
                        worker_forget(w);
                        return false;
                }
                if (one_in(&s->w, 60)) {
                        w->state = WORKER_ASKS;
                        ask(w, OP_GIVE_BACK, w->run);
                        return true;
                }
                plan(w);
                return true;
        case WORKER_PERFORMS:
                if (s->w.boot - w->beat > BEAT_EVERY * US_PER_S) {
                        w->state = WORKER_ASKS;
                        ask(w, OP_BEAT, w->run);
                        return true;
                }
                if (s->w.boot >= w->until)
                        perform(w);
                return false;
        case WORKER_LEAVES:
                w->state = WORKER_ASKS;
                ask(w, OP_CLEANED, w->run);
                return true;
        case WORKER_ASKS:
                break;
        }
        return false;
}

/* ---- answers ---- */

/* The run is somebody else's, or over; what ran for it is dead. */
static void lost(struct worker *w)
{
        w->state = WORKER_LEAVES;
}

static void advanced(struct worker *w, enum err e)
{
        struct sim *s = w->sim;
        int64_t at = w->snapshot.run->current_step;

        if (w->repeats) { /* the answer of the first time counts */
                w->repeats = false;
                e = ERR_OK;
        } else if (e == ERR_NOT_FOUND) {
                reached(s, PLAN_REFUSED);
                plan_refused(&w->scope, &w->progress, w->scope.fault.detail, &w->plan);
                apply(w);
                return;
        } else if (e == ERR_STALE_TOKEN && w->forged) {
                apply(w); /* now with the right token */
                return;
        } else if (e == ERR_UNAVAILABLE) {
                apply(w); /* what was performed must not be forgotten */
                return;
        } else if (e) {
                lost(w);
                return;
        } else {
                *w->snapshot.run = w->after;
                w->snapshot.run->current_step = at;
                if (one_in(&s->w, 40)) {
                        w->repeats = true;
                        ask(w, OP_ADVANCE, w->run);
                        return;
                }
        }
        if (!w->plan.perform) {
                worker_forget(w);
                return;
        }
        w->until = s->w.boot + roll(&s->w, one_in(&s->w, 25) ? 20 * US_PER_S : US_PER_S);
        w->state = WORKER_PERFORMS;
        /* It dies with the step under way, or stops beating for long. */
        if (one_in(&s->w, 50)) {
                reached(s, INTERRUPTED);
                worker_forget(w);
        } else if (one_in(&s->w, 50)) {
                w->beat = w->until = s->w.boot + 30 * US_PER_S;
        }
}

void worker_answered(struct worker *w)
{
        enum err e = w->op.claim.call.result;

        if (w->sim->failed)
                return;
        if (w->op.kind == OP_TAKE && !e) {
                hold(w);
        } else if (w->op.kind == OP_ADVANCE) {
                advanced(w, e);
        } else if (w->op.kind == OP_BEAT) {
                w->beat = w->sim->w.boot;
                w->state = WORKER_PERFORMS;
                if (e && e != ERR_UNAVAILABLE)
                        lost(w);
        } else {
                worker_forget(w);
        }
}
