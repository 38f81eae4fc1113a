#include "rig.h"

#include <stdio.h>
#include <string.h>

#include "core/arena.h"
#include "domain/attempt.h"
#include "domain/claim.h"
#include "domain/cancel.h"
#include "domain/migrations.h"
#include "domain/sql.h"
#include "domain/workspace.h"

#define START_OF_TIME (INT64_C(1767225600) * US_PER_S)
enum { GROUP = 4 };

/* ---- the world ---- */

uint64_t dice_roll(uint64_t *state)
{
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        return *state;
}

static int64_t wall(void *context)
{
        return START_OF_TIME + ((struct rig *)context)->now;
}

static int64_t boot(void *context)
{
        return ((struct rig *)context)->now;
}

static void fill(void *context, void *bytes, size_t n)
{
        struct rig *rig = context;

        for (size_t i = 0; i < n; i++)
                ((unsigned char *)bytes)[i] = (unsigned char)dice_roll(&rig->random);
}

void rig_init(struct rig *rig, struct vfs *vfs, const char *path, uint64_t seed)
{
        *rig = (struct rig){ .vfs = vfs, .dice = seed * 2 + 1, .now = US_PER_S };
        snprintf(rig->path, sizeof(rig->path), "%s", path);
        rig->clock = (struct clock){ wall, boot, rig };
        rig->world = (struct world){ &rig->clock, fill, rig };
        rig->by = (struct principal){ .actor = STR("human:admin"),
                                      .origin = STR("http:api"),
                                      .scopes = SCOPE_ALL };
}

/* A turn's time and randomness depend on its number alone, so that a run in which something failed
 * stays comparable with one in which nothing did. */
static void turn_begin(struct rig *rig)
{
        BUG_ON(rig->turn + 1 >= RIG_TURNS);
        rig->vfs->turn = ++rig->turn;
        rig->now += 20 * US_PER_MS;
        rig->told = rig->unknown;
        rig->faults = rig->vfs->failed;
        rig->random = (uint64_t)rig->turn * 0x9e3779b97f4a7c15u + 1;
}

static void turn_end(struct rig *rig)
{
        bool first = rig->vfs->failed && !rig->fault_turn;
        char copy[160];

        if (first) {
                rig->fault_turn = rig->turn;
                rig->fault_told = rig->unknown > rig->told;
        }
        rig->refusals[rig->turn] = rig->refused;
        if (rig->watching == RIG_BLIND || (rig->watching == RIG_FAULT && !first))
                return;
        if (rig->store)
                rig->states[rig->turn] = image_digest(rig->path);
        /* Where nothing failed (not even the tick, which nobody is told of) recovery finds this. */
        if (rig->store && rig->watching == RIG_STATES && rig->vfs->failed == rig->faults) {
                rig->remains[rig->turn] = rig->states[rig->turn];
                return;
        }
        snprintf(copy, sizeof(copy), "%s.copy", rig->path);
        image_copy(rig->path, copy);
        rig->remains[rig->turn] = image_digest(copy);
        if (!rig->store)
                rig->states[rig->turn] = rig->remains[rig->turn];
}

static bool is_unknown(enum err e)
{
        return e == ERR_UNAVAILABLE || e == ERR_STORAGE_FULL;
}

static void answered(struct rig *rig, enum err e)
{
        if (is_unknown(e)) {
                rig->unknown++;
        } else if (e && e != ERR_EMPTY) {
                rig->refused++;
        } else if (!e) {
                rig->acked++;
                rig->early += rig->vfs->doubt != 0;
                vfs_acknowledged(rig->vfs);
        }
}

/* ---- the program ---- */

static enum err tick(void *hooks, struct tx *tx)
{
        return domain_tick(((struct rig *)hooks)->domain, tx);
}

static void committed(void *hooks, const struct hint *hints, size_t n)
{
        (void)hints;
        (void)n;
        domain_committed(((struct rig *)hooks)->domain);
}

static void kept(void *hooks)
{
        domain_kept(((struct rig *)hooks)->domain);
}

static void rolled_back(void *hooks, bool whole)
{
        domain_rolled_back(((struct rig *)hooks)->domain, whole);
}

static enum err open_store(struct rig *rig, struct scope *scope)
{
        const struct store_options options = { .path = rig->path,
                                               .reserve = rig->reserve,
                                               .world = &rig->world,
                                               .statements = domain_statements,
                                               .n_statements = SQL_COUNT,
                                               .migrations = migrations,
                                               .n_migrations = migrations_n,
                                               .context = rig->domain,
                                               .hooks = rig,
                                               .committed = committed,
                                               .kept = kept,
                                               .rolled_back = rolled_back,
                                               .tick = tick,
                                               .tick_ms = 250 };

        return store_open(scope, &options, &rig->store);
}

static enum err boot_all(struct tx *tx, void *context)
{
        struct rig *rig = context;
        struct principal all = { .all_workspaces = true };
        struct workspace found;
        enum err e = domain_boot(tx, rig->domain);

        if (!e)
                e = workspace_get(tx, &all, STR("default"), &found);
        if (!e)
                snprintf(rig->workspace, sizeof(rig->workspace), STR_FMT, STR_ARG(found.id));
        rig->by.workspace = str_from(rig->workspace);
        return e;
}

static void let_go(struct rig *rig)
{
        if (rig->store)
                store_close(rig->store);
        domain_free(rig->domain);
        rig->store = NULL;
        rig->domain = NULL;
}

enum err rig_open(struct rig *rig)
{
        struct scope scope;
        enum err e;

        scope_init(&scope, &rig->world);
        rig->domain = domain_new(&rig->world);
        rig->vfs->doubt = 0; /* a new process */
        turn_begin(rig);
        e = open_store(rig, &scope);
        turn_end(rig);
        scope_reset(&scope);
        turn_begin(rig);
        if (!e)
                e = store_run(rig->store, &scope, boot_all, rig);
        answered(rig, e);
        if (e)
                let_go(rig);
        turn_end(rig);
        scope_done(&scope);
        return e;
}

void rig_close(struct rig *rig)
{
        if (rig->store)
                let_go(rig);
}

/* ---- deeds ---- */

struct act {
        struct call call;
        struct scope scope;
        struct rig *rig;
        enum deed deed;
        int64_t id;
        struct held held; /* used by holders, given by a claim */
        size_t place;     /* among what is held */
        bool refuse;      /* after it has written */
        bool done;
};

static enum err create(struct act *a, struct tx *tx)
{
        struct task_spec spec = { .title = STR("a task"),
                                  .priority = PRIORITY_MEDIUM,
                                  .metadata = STR("{\"words\":\"some that fill the row a little\"}"),
                                  .start = true };
        struct task task;
        struct run *run;
        enum err e;

        if (a->deed == DEED_CREATE) /* an id of the caller's own, which is looked up first */
                spec.id = (tx_now(tx) / US_PER_MS - ID_EPOCH_MS) << 22 | 1;
        e = task_create(tx, &a->rig->by, &spec, &task, &run);
        a->id = e ? 0 : task.id;
        return e || !a->refuse ? e : fail(tx_scope(tx), ERR_CONFLICT, "refused after it has written");
}

static enum err claim(struct act *a, struct tx *tx)
{
        struct claim_request request = { .criteria = { .workspace = a->rig->by.workspace,
                                                       .executor = EXECUTOR_AGENT },
                                         .lease_seconds = 5,
                                         .max = 1 };
        struct list claims = { 0 };
        enum err e = claim_next(tx, &a->rig->by, &request, &claims);
        const struct claim *granted = claims.items;

        if (e)
                return e;
        a->held.run = granted->run->id;
        a->held.task = granted->task->id;
        BUG_ON(granted->token.n >= sizeof(a->held.token));
        memcpy(a->held.token, granted->token.p, granted->token.n);
        a->held.token[granted->token.n] = '\0';
        return ERR_OK;
}

static enum err act(struct act *a, struct tx *tx)
{
        const struct principal *by = &a->rig->by;
        struct fence fence = fence_of(by, str_from(a->held.token));
        struct task_patch patch = { .given = PATCH_TITLE, .title = STR("another title") };
        struct heartbeat beat;
        struct task task;
        struct run run, *made;

        switch (a->deed) {
        case DEED_CREATE:
        case DEED_GROUP:
                return create(a, tx);
        case DEED_CLAIM:
                return claim(a, tx);
        case DEED_START:
                return claim_start(tx, &fence, a->held.run, &run);
        case DEED_HEARTBEAT:
                return claim_heartbeat(tx, &fence, a->held.run, 0, &beat);
        case DEED_COMPLETE:
        case DEED_STALE:
                return claim_complete(tx, &fence, a->held.run, STR("{\"done\":true}"), &run);
        case DEED_FAIL:
                return claim_fail(tx, &fence, a->held.run, OUTCOME_FAILED, STR("it went wrong"), STR_NONE,
                                  &run);
        case DEED_RELEASE:
                return claim_release(tx, &fence, a->held.run, STR("enough"), STR_NONE, &run);
        case DEED_CANCEL:
                return task_cancel(tx, by, a->id, STR("not wanted"), STR_NONE, &task);
        case DEED_PATCH:
                return task_patch(tx, by, a->id, &patch, &task);
        case DEED_RETRY:
                return task_retry(tx, by, a->id, STR_NONE, &task, &made);
        case DEED_IDLE:
        case DEED_RESTART:
        case DEEDS:
                break;
        }
        return ERR_INTERNAL;
}

static enum err act_run(struct call *call, struct tx *tx)
{
        return act((struct act *)call, tx);
}

static void forget_held(struct rig *rig, size_t place)
{
        rig->held[place] = rig->held[--rig->n_held];
}

static void forget_task(struct rig *rig, int64_t id)
{
        for (size_t i = 0; i < rig->n_tasks; i++)
                if (rig->tasks[i] == id)
                        rig->tasks[i] = rig->tasks[--rig->n_tasks];
}

/* Later deeds are done to what was acknowledged. */
static void learn(struct act *a)
{
        struct rig *rig = a->rig;

        if (a->deed <= DEED_GROUP) {
                rig->created++;
                if (rig->n_tasks < RIG_HELD)
                        rig->tasks[rig->n_tasks++] = a->id;
        }
        if (a->deed == DEED_CLAIM && rig->n_held < RIG_HELD)
                rig->held[rig->n_held++] = a->held;
        if (a->deed >= DEED_COMPLETE && a->deed <= DEED_RELEASE)
                forget_held(rig, a->place);
        if (a->deed == DEED_COMPLETE)
                forget_task(rig, a->held.task);
        if (a->deed == DEED_CANCEL)
                forget_task(rig, a->id);
        if (a->deed == DEED_FAIL)
                rig->failed = a->held.task;
        if (a->deed == DEED_RETRY)
                rig->failed = 0;
}

static bool is_of_holder(enum deed deed)
{
        return deed >= DEED_START && deed <= DEED_RELEASE;
}

static void act_done(struct call *call)
{
        struct act *a = (struct act *)call;

        a->done = true;
        answered(a->rig, call->result);
        if (!call->result)
                learn(a);
        else if (is_of_holder(a->deed) && !is_unknown(call->result))
                forget_held(a->rig, a->place); /* the lease is over */
}

static enum call_class class_of(enum deed deed)
{
        return deed == DEED_CLAIM  ? CALL_CLAIM :
               deed == DEED_CANCEL ? CALL_CANCEL :
               is_of_holder(deed) || deed == DEED_STALE ? CALL_LEASE :
                                                          CALL_CREATE;
}

static void submit(struct rig *rig, struct act *a, enum deed deed)
{
        size_t place = is_of_holder(deed) ? dice_roll(&rig->dice) % rig->n_held : 0;

        *a = (struct act){ .call = { .run = act_run, .done = act_done, .class = class_of(deed), .scope = &a->scope },
                           .rig = rig,
                           .deed = deed,
                           .place = place };
        scope_init(&a->scope, &rig->world);
        if (is_of_holder(deed) || deed == DEED_STALE)
                a->held = rig->held[place];
        if (deed == DEED_STALE)
                memset(a->held.token + 4, '0', strlen(a->held.token) - 4);
        if (deed == DEED_RETRY)
                a->id = rig->failed;
        else if (rig->n_tasks)
                a->id = rig->tasks[dice_roll(&rig->dice) % rig->n_tasks];
        BUG_ON(!store_submit(rig->store, &a->call));
}

static bool has_object(const struct rig *rig, enum deed deed)
{
        return is_of_holder(deed) || deed == DEED_STALE       ? rig->n_held > 0 :
               deed == DEED_CANCEL || deed == DEED_PATCH      ? rig->n_tasks > 0 :
               deed == DEED_RETRY                             ? rig->failed != 0 :
                                                                true;
}

static enum err idle(struct rig *rig)
{
        /* The tick of the first turn writes; nothing is new for the second, which copies home. */
        for (int i = 0; i < 2; i++) {
                rig->now += US_PER_S;
                turn_begin(rig);
                writer_turn(rig->store);
                turn_end(rig);
        }
        return ERR_OK;
}

enum err rig_do(struct rig *rig, enum deed deed)
{
        struct act acts[GROUP + 1];
        size_t n = deed == DEED_GROUP ? GROUP + 1 : 1;
        enum err e;

        if (!has_object(rig, deed))
                return ERR_EMPTY;
        if (deed == DEED_RESTART) {
                rig_close(rig);
                return rig_open(rig);
        }
        if (deed == DEED_IDLE)
                return idle(rig);
        turn_begin(rig);
        for (size_t i = 0; i < n; i++)
                submit(rig, &acts[i], deed);
        acts[n - 1].refuse = deed == DEED_GROUP;
        for (int i = 0; i < 2 && !acts[n - 1].done; i++)
                writer_turn(rig->store);
        BUG_ON(!acts[n - 1].done);
        turn_end(rig);
        e = acts[deed == DEED_GROUP ? 0 : n - 1].call.result;
        for (size_t i = 0; i < n; i++)
                scope_done(&acts[i].scope);
        return e;
}
