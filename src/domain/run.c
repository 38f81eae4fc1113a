#include "domain/run.h"

#include <assert.h>
#include <sodium.h>
#include <string.h>

#include "core/failpoint.h"
#include "domain/attention.h"
#include "domain/cascade.h"
#include "domain/claimer.h"
#include "domain/domain.h"
#include "domain/lane_record.h"
#include "domain/sql.h"
#include "domain/volume.h"

static const char *const statuses[] = { "queued",
                                        "claimed",
                                        "starting",
                                        "running",
                                        "awaiting_approval",
                                        "awaiting_input",
                                        "awaiting_subtask",
                                        "awaiting_parallel",
                                        "sleeping",
                                        "completed",
                                        "failed",
                                        "canceled",
                                        "timed_out",
                                        NULL };
static const struct alias status_aliases[] = { { "cancelled", RUN_CANCELED },
                                               { "error", RUN_FAILED },
                                               { "done", RUN_COMPLETED },
                                               { "ok", RUN_COMPLETED },
                                               { "timeout", RUN_TIMED_OUT },
                                               { NULL, 0 } };
const struct names run_status_names = { statuses, status_aliases };
static const char *const kinds[] = { "root", "branch", "subtask", NULL };
const struct names run_kind_names = { kinds, NULL };

static const struct field usage_fields[] = {
#define USAGE(member) \
        { #member, FIELD_INT, FIELD_WIRE | FIELD_ALWAYS, offsetof(struct usage, member) }
        USAGE(input_tokens),  USAGE(output_tokens), USAGE(total_tokens),
        USAGE(cost_microusd), USAGE(steps),         USAGE(tool_calls),
#undef USAGE
};
static const struct record usage_record = { "Usage", usage_fields, LENGTH(usage_fields),
                                            sizeof(struct usage), -1 };

#define AT(member) offsetof(struct run, member)
enum { BOTH = FIELD_COLUMN | FIELD_WIRE, SHOWN = BOTH | FIELD_ALWAYS };
static const struct field run_fields[] = {
        { "id", FIELD_ID, BOTH | FIELD_REQUIRED, AT(id), "run" },
        { "task_id", FIELD_ID, BOTH | FIELD_REQUIRED, AT(task_id), "task" },
        { "tree_id", FIELD_ID, FIELD_COLUMN, AT(tree_id), "task" },
        { "workspace_id", FIELD_NAME, FIELD_COLUMN, AT(workspace_id) },
        { "definition_id", FIELD_ID, BOTH, AT(definition_id), "def" },
        { "definition_version", FIELD_INT, BOTH, AT(definition_version) },
        { "current_step", FIELD_INT, BOTH | FIELD_FOLLOWS, AT(current_step) },
        { "kind", FIELD_ENUM, BOTH, AT(kind), &run_kind_names },
        { "status", FIELD_ENUM, BOTH, AT(status), &run_status_names },
        { "executor", FIELD_ENUM, BOTH, AT(executor), &executor_names },
        { "attempt", FIELD_INT, SHOWN, AT(attempt) },
        { "epoch", FIELD_INT, SHOWN, AT(epoch) },
        { "revision", FIELD_INT, FIELD_COLUMN, AT(revision) },
        { "priority", FIELD_ENUM, BOTH, AT(priority), &priority_names },
        { "previous_run_id", FIELD_ID, BOTH, AT(previous_run_id), "run" },
        { "parent_run_id", FIELD_ID, BOTH, AT(parent_run_id), "run" },
        { "parent_step_index", FIELD_INT, BOTH | FIELD_FOLLOWS, AT(parent_step_index) },
        { "branch_index", FIELD_INT, BOTH | FIELD_FOLLOWS, AT(branch_index) },
        { "branch_name", FIELD_STR, BOTH, AT(branch_name) },
        { "path", FIELD_STR, FIELD_COLUMN, AT(path) },
        { "locals", FIELD_JSON, FIELD_COLUMN, AT(locals) },
        { "nesting", FIELD_INT, FIELD_COLUMN, AT(nesting) },
        { "failure_kind", FIELD_ENUM, BOTH, AT(failure_kind), &outcome_names },
        { "error", FIELD_STR, BOTH, AT(error) },
        { "claimed_by", FIELD_ACTOR, BOTH, AT(claimed_by) },
        { "session_id", FIELD_NAME, BOTH, AT(session_id) },
        { "claim_token_hash", FIELD_BYTES, BOTH, AT(claim_token_hash) },
        { "token_nonce", FIELD_BYTES, FIELD_COLUMN, AT(token_nonce) },
        { "lease_until", FIELD_TIME, BOTH, AT(lease_until) },
        { "lease_us", FIELD_INT, FIELD_COLUMN, AT(lease_us) },
        { "heartbeat_at", FIELD_TIME, BOTH, AT(heartbeat_at) },
        { "cancel_requested", FIELD_BOOL, FIELD_COLUMN, AT(cancel_requested) },
        { "recoveries", FIELD_INT, SHOWN, AT(recoveries) },
        { "origin", FIELD_ACTOR, BOTH | FIELD_REQUIRED, AT(origin) },
        { "idempotency_key", FIELD_STR, BOTH, AT(idempotency_key) },
        { "network_channel", FIELD_NAME, BOTH, AT(network_channel) },
        { "coordination_channel_id", FIELD_NAME, BOTH, AT(coordination_channel_id) },
        { "required_capabilities", FIELD_CAPS, BOTH, AT(required_capabilities) },
        { "preferred_capabilities", FIELD_CAPS, BOTH, AT(preferred_capabilities) },
        { "lane", FIELD_INT, FIELD_COLUMN, AT(lane) },
        { "hold", FIELD_INT, FIELD_COLUMN, AT(hold) },
        { "review", FIELD_JSON, BOTH, AT(review) },
        { "attention", FIELD_STR, BOTH, AT(attention) },
        { "queued_at", FIELD_TIME, BOTH | FIELD_REQUIRED, AT(queued_at) },
        { "claimed_at", FIELD_TIME, BOTH, AT(claimed_at) },
        { "started_at", FIELD_TIME, BOTH, AT(started_at) },
        { "ended_at", FIELD_TIME, BOTH, AT(ended_at) },
        { "due_at", FIELD_TIME, BOTH, AT(due_at) },
        { "wake_at", FIELD_TIME, FIELD_COLUMN, AT(wake_at) },
        { "input_tokens", FIELD_INT, FIELD_COLUMN, AT(input_tokens) },
        { "output_tokens", FIELD_INT, FIELD_COLUMN, AT(output_tokens) },
        { "cost_microusd", FIELD_INT, FIELD_COLUMN, AT(cost_microusd) },
        { "steps", FIELD_INT, FIELD_COLUMN, AT(steps) },
        { "tool_calls", FIELD_INT, FIELD_COLUMN, AT(tool_calls) },
        { "usage", FIELD_RECORD, FIELD_WIRE | FIELD_REQUIRED, AT(usage), &usage_record },
        { "last_activity_at", FIELD_TIME, FIELD_WIRE, AT(last_activity_at) },
        { "metadata", FIELD_JSON, BOTH, AT(metadata) },
        { "input", FIELD_JSON, BOTH, AT(input) },
        { "result", FIELD_JSON, BOTH, AT(result) },
};
const struct record run_record = { "Run", run_fields, LENGTH(run_fields), sizeof(struct run), -1 };

#define BIT(state) (1u << (state))
enum {
        WAITING = BIT(RUN_AWAITING_APPROVAL) | BIT(RUN_AWAITING_INPUT) | BIT(RUN_AWAITING_SUBTASK) |
                  BIT(RUN_AWAITING_PARALLEL) | BIT(RUN_SLEEPING),
        ENDED_BADLY = BIT(RUN_FAILED) | BIT(RUN_CANCELED) | BIT(RUN_TIMED_OUT),
};

static const unsigned run_next[RUN_STATUSES] = {
        [RUN_QUEUED] = BIT(RUN_CLAIMED) | ENDED_BADLY,
        [RUN_CLAIMED] = BIT(RUN_STARTING) | BIT(RUN_QUEUED) | BIT(RUN_COMPLETED) | ENDED_BADLY,
        [RUN_STARTING] = BIT(RUN_RUNNING) | BIT(RUN_QUEUED) | BIT(RUN_COMPLETED) | ENDED_BADLY,
        [RUN_RUNNING] = WAITING | BIT(RUN_QUEUED) | BIT(RUN_COMPLETED) | ENDED_BADLY,
        [RUN_AWAITING_APPROVAL] = BIT(RUN_QUEUED) | ENDED_BADLY,
        [RUN_AWAITING_INPUT] = BIT(RUN_QUEUED) | ENDED_BADLY,
        [RUN_AWAITING_SUBTASK] = BIT(RUN_QUEUED) | ENDED_BADLY,
        [RUN_AWAITING_PARALLEL] = BIT(RUN_QUEUED) | ENDED_BADLY,
        [RUN_SLEEPING] = BIT(RUN_QUEUED) | ENDED_BADLY,
};

bool run_may_move(int from, int to)
{
        return run_next[from] >> to & 1;
}

/* ---- tokens ---- */

enum { TOKEN_BYTES = crypto_generichash_BYTES };

struct fence fence_of(const struct principal *by, struct str token)
{
        struct fence fence = { .by = by };
        unsigned char bytes[TOKEN_BYTES];
        size_t n = 0;

        if (str_starts(token, "btk_") &&
            !sodium_hex2bin(bytes, sizeof(bytes), token.p + 4, token.n - 4, NULL, &n, NULL) &&
            n == sizeof(bytes))
                crypto_hash_sha256(fence.digest, bytes, sizeof(bytes));
        return fence;
}

struct arg fence_arg(const struct fence *fence)
{
        return BLOB(fence ? ((struct str){ (const char *)fence->digest, sizeof(fence->digest) }) :
                            STR_NONE);
}

bool run_is_held_by(const struct run *run, const struct principal *by)
{
        return str_eq(run->claimed_by, by->actor) ||
               (by->session_id.p && str_eq(run->session_id, by->session_id));
}

bool run_has_token(const struct run *run, const struct fence *fence)
{
        return run->claim_token_hash.n == sizeof(fence->digest) &&
               sodium_memcmp(fence->digest, run->claim_token_hash.p, sizeof(fence->digest)) == 0;
}

/* What a token is made of. */
struct token_source {
        int64_t run, epoch;
        unsigned char nonce[16];
};
static_assert(sizeof(struct token_source) == 32, "every byte of it is authenticated");

static struct token_source token_source(const struct run *run, int64_t epoch)
{
        struct token_source source = { .run = run->id, .epoch = epoch };

        BUG_ON(run->token_nonce.n != sizeof(source.nonce));
        memcpy(source.nonce, run->token_nonce.p, sizeof(source.nonce));
        return source;
}

/* BLAKE2b with a key is a MAC by itself, at a fifth of what HMAC-SHA-512 costs. */
static void token_bytes(const struct domain *domain, const struct token_source *source,
                        unsigned char out[TOKEN_BYTES])
{
        crypto_generichash(out, TOKEN_BYTES, (const unsigned char *)source, sizeof(*source),
                           domain->secret, sizeof(domain->secret));
}

static struct str token_print(struct tx *tx, const struct token_source *source)
{
        unsigned char bytes[TOKEN_BYTES];
        char *text = arena_alloc(&tx_scope(tx)->arena, 4 + 2 * TOKEN_BYTES + 1, 1);

        token_bytes(tx_context(tx), source, bytes);
        memcpy(text, "btk_", 4);
        sodium_bin2hex(text + 4, 2 * TOKEN_BYTES + 1, bytes, sizeof(bytes));
        return (struct str){ text, 4 + 2 * TOKEN_BYTES };
}

struct str token_text(struct tx *tx, const struct run *run)
{
        const struct token_source source = token_source(run, run->epoch);

        return token_print(tx, &source);
}

/* No JSON text holds this byte. */
enum { TOKEN_MARK = 1 };

struct str token_recipe(struct arena *arena, const struct run *run)
{
        const struct token_source source = token_source(run, run->epoch);
        char hex[2 * sizeof(source) + 1];

        sodium_bin2hex(hex, sizeof(hex), (const unsigned char *)&source, sizeof(source));
        return arena_printf(arena, "%c%s%c", TOKEN_MARK, hex, TOKEN_MARK);
}

struct str tokens_remake(struct tx *tx, struct str text)
{
        struct buf out = BUF_INIT(2 * text.n + 1);
        struct str copy;

        for (bool recipe = false; text.p; recipe = !recipe) {
                struct str piece = str_cut(text, TOKEN_MARK, &text);
                struct token_source source = { 0 };

                if (recipe && !sodium_hex2bin((unsigned char *)&source, sizeof(source), piece.p,
                                              piece.n, NULL, NULL, NULL))
                        piece = token_print(tx, &source);
                buf_str(&out, piece);
        }
        copy = str_dup(&tx_scope(tx)->arena, buf_view(&out));
        buf_done(&out);
        return copy;
}

/*
 * Nonce and hash of the token of the next claim.  A run has them from its birth: nobody can know the
 * token before it is granted, and a row that is as long before its claim as after it stays in its page.
 */
static void token_make(struct tx *tx, struct run *run)
{
        struct arena *arena = &tx_scope(tx)->arena;
        unsigned char nonce[16], bytes[TOKEN_BYTES], digest[32];
        struct token_source source;

        scope_random(tx_scope(tx), nonce, sizeof(nonce));
        run->token_nonce = str_dup(arena, (struct str){ (char *)nonce, sizeof(nonce) });
        source = token_source(run, run->epoch + 1);
        token_bytes(tx_context(tx), &source, bytes);
        crypto_hash_sha256(digest, bytes, sizeof(bytes));
        run->claim_token_hash = str_dup(arena, (struct str){ (char *)digest, sizeof(digest) });
}

/* ---- creation ---- */

/* What a claimer must and had better be able to do: as the task says, and its execution profile. */
static void run_capabilities(struct tx *tx, const struct task *task, struct run *run)
{
        struct arena *arena = &tx_scope(tx)->arena;

        run->required_capabilities = caps_union(arena, task->required_capabilities,
                                                rule_part(task->claim_rule, RULE_REQUIRED));
        run->preferred_capabilities = caps_union(arena, task->preferred_capabilities,
                                                 rule_part(task->claim_rule, RULE_PREFERRED));
}

static enum err run_lane(struct tx *tx, const struct task *task, struct str volume, struct run *run)
{
        struct lane signature = {
                .workspace = run->workspace_id,
                .executor = run->executor,
                .channel = run->network_channel,
                .priority = run->priority,
                .required = run->required_capabilities,
                .preferred = run->preferred_capabilities,
                /* A worker does the work itself: nobody claims for an owner.  Its runs belong to a volume. */
                .owner = run->executor == EXECUTOR_WORKER ? volume : task->owner,
                .agent = run->executor == EXECUTOR_WORKER ? STR_NONE :
                                                            rule_from(task->claim_rule, RULE_AGENTS),
        };

        return lane_find(tx, &signature, &run->lane);
}

static enum err enter_lane(struct tx *tx, const struct run *run)
{
        enum err e = tx_exec(tx, SQL_READY_ADD, INT(run->lane), INT(run->queued_at), INT(run->id));

        if (e)
                return e;
        lane_fill(tx, run->lane);
        tx_hint(tx, HINT_LANE, run->lane, run->id);
        return ERR_OK;
}

static int64_t holds_of(const struct task *task, const struct run_spec *spec)
{
        int64_t hold = task_holds(task, spec->kind == RUN_ROOT);

        if (spec->wake_at)
                hold |= HOLD_BACKOFF;
        if (spec->clean_at)
                hold |= HOLD_CLEANUP;
        if (spec->limited)
                hold |= HOLD_LIMIT;
        return hold;
}

static enum err leave_lane(struct tx *tx, const struct run *run)
{
        return run->hold ? ERR_OK :
                           tx_exec(tx, SQL_READY_DROP, INT(run->lane), INT(run->queued_at),
                                   INT(run->id));
}

enum err run_rehold(struct tx *tx, struct run *run, int64_t hold)
{
        enum err e;

        if (hold == run->hold)
                return ERR_OK;
        e = leave_lane(tx, run);
        run->hold = hold;
        if (!e)
                e = tx_exec(tx, SQL_RUN_HOLD, INT(run->id), INT(hold), OPT(run->wake_at));
        return e || hold ? e : enter_lane(tx, run);
}

enum err run_after(struct tx *tx, int64_t previous, struct run_spec *spec)
{
        struct run run;
        enum err e = previous ? run_load(tx, previous, &run) : ERR_EMPTY;

        if (e)
                return e == ERR_EMPTY ? ERR_OK : e;
        if ((run.hold & HOLD_CLEANUP) && run.ended_at + CLEANUP_GRACE > tx_now(tx))
                spec->clean_at = run.ended_at + CLEANUP_GRACE;
        return ERR_OK;
}

enum err run_cleaned(struct tx *tx, int64_t id)
{
        struct run run, next;
        enum err e = run_load(tx, id, &run);

        if (e || !run_is_terminal(run.status) || !(run.hold & HOLD_CLEANUP))
                return e == ERR_EMPTY ? ERR_OK : e;
        e = tx_exec(tx, SQL_RUN_HOLD, INT(id), INT(0), NONE());
        if (!e)
                e = tx_one(tx, SQL_RUN_OPEN_ROOT, &next, INT(run.task_id));
        if (e || !(next.hold & HOLD_CLEANUP))
                return e == ERR_EMPTY ? ERR_OK : e;
        if (!(next.hold & HOLD_BACKOFF))
                next.wake_at = 0;
        return run_rehold(tx, &next, next.hold & ~HOLD_CLEANUP);
}

enum err run_create(struct tx *tx, struct task *task, const struct run_spec *spec,
                    struct events *events, struct run *out)
{
        struct scope *scope = tx_scope(tx);
        struct run run = {
                .id = scope_id(scope),
                .task_id = task->id,
                .tree_id = task->tree_id,
                .workspace_id = task->workspace_id,
                .definition_id = spec->definition_id,
                .definition_version = spec->definition_version,
                .kind = spec->kind,
                .status = RUN_QUEUED,
                .executor = spec->executor,
                .attempt = spec->attempt,
                .priority = task->priority,
                .previous_run_id = spec->previous_run_id,
                .parent_run_id = spec->parent ? spec->parent->id : 0,
                .parent_step_index = spec->parent_step_index,
                .branch_index = spec->branch_index,
                .branch_name = spec->branch_name,
                .path = spec->path,
                .locals = spec->locals,
                .nesting = spec->parent ? spec->parent->nesting + 1 : 0,
                .origin = events->by->origin,
                .idempotency_key = spec->idempotency_key,
                .network_channel = spec->network_channel.p ? spec->network_channel :
                                                             task->network_channel,
                .hold = holds_of(task, spec),
                .queued_at = tx_now(tx),
                .wake_at = spec->wake_at > spec->clean_at ? spec->wake_at : spec->clean_at,
                .review = spec->review,
                .input = spec->input,
                .metadata = spec->metadata,
        };
        enum err e;

        token_make(tx, &run);
        run_capabilities(tx, task, &run);
        e = run_lane(tx, task, STR_NONE, &run);
        if (!e)
                e = tx_insert(tx, SQL_RUN_ADD, &run);
        if (!e && !run.hold)
                e = enter_lane(tx, &run);
        if (e)
                return e;
        events_add(tx, events, EVENT_RUN_QUEUED, run.task_id, run.id,
                  arena_printf(&scope->arena, "{\"attempt\":%lld}", (long long)run.attempt));
        *out = run;
        return ERR_OK;
}

static enum err change_lane(struct tx *tx, const struct task *task, struct str volume, struct run *run)
{
        enum err e = leave_lane(tx, run);

        run_capabilities(tx, task, run);
        if (!e)
                e = run_lane(tx, task, volume, run);
        if (!e)
                e = tx_exec(tx, SQL_RUN_FOLLOW, INT(run->id), INT(run->priority),
                            NAME(run->network_channel), NAME(run->required_capabilities),
                            NAME(run->preferred_capabilities), INT(run->lane));
        return e || run->hold ? e : enter_lane(tx, run);
}

enum err run_follow(struct tx *tx, const struct task *task, bool channel, struct run *run)
{
        const struct lane *lane = lane_get(lane_table_of(tx), run->lane);

        run->priority = task->priority;
        if (channel)
                run->network_channel = task->network_channel;
        return change_lane(tx, task, lane ? lane->owner : STR_NONE, run);
}

enum err run_to_volume(struct tx *tx, struct str volume, struct run *run)
{
        struct task task;
        enum err e = tx_one(tx, SQL_TASK_GET, &task, INT(run->task_id));

        return e ? e : change_lane(tx, &task, volume_owner(&tx_scope(tx)->arena, volume), run);
}

/* ---- reading ---- */

enum err run_load(struct tx *tx, int64_t id, struct run *out)
{
        return tx_one(tx, SQL_RUN_GET, out, INT(id));
}

enum err run_read_ahead(struct tx *tx, const int64_t *runs, size_t n, bool moves)
{
        struct arena *arena = &tx_scope(tx)->arena;
        int64_t *tasks, *trees;
        size_t there = 0;
        enum err e;

        if (!tx_reads_ahead(tx) || n < 2)
                return ERR_OK;
        tasks = arena_array(arena, int64_t, n);
        trees = arena_array(arena, int64_t, n);
        e = tx_read_ahead(tx, SQL_RUN_GET, runs, n);
        for (size_t i = 0; !e && moves && i < n; i++) {
                struct run run;

                e = run_load(tx, runs[i], &run);
                if (!e) {
                        tasks[there] = run.task_id;
                        trees[there++] = run.tree_id;
                }
                e = e == ERR_EMPTY ? ERR_OK : e;
        }
        if (!e)
                e = tx_read_ahead(tx, SQL_TASK_GET, tasks, there);
        return e ? e : tx_read_ahead(tx, SQL_EVENT_NEWEST, trees, there);
}

enum err run_get(struct tx *tx, const struct principal *by, int64_t id, struct run *out)
{
        struct run run;
        enum err e = run_load(tx, id, &run);

        if (e == ERR_EMPTY ||
            (!e && !by->all_workspaces && !str_eq(run.workspace_id, by->workspace)))
                return fail_missing(tx_scope(tx), "run");
        if (!e)
                *out = run;
        return e;
}

void run_show(struct tx *tx, struct run *run)
{
        run->usage = arena_new(&tx_scope(tx)->arena, struct usage);
        *run->usage = (struct usage){ run->input_tokens,
                                      run->output_tokens,
                                      run->input_tokens + run->output_tokens,
                                      run->cost_microusd,
                                      run->steps,
                                      run->tool_calls };
        if (!run->claimed_by.p || run_is_waiting(run->status))
                run->claim_token_hash = STR_NONE; /* of a claim still to come */
        if (run->lease_until)
                run->lease_until = lease_wall(tx_context(tx), tx_now(tx), run->lease_until);
}

enum err run_activity(struct tx *tx, struct run *run)
{
        const int64_t times[] = { run->queued_at, run->claimed_at, run->started_at,
                                  run->heartbeat_at, run->ended_at };
        enum err e = tx_number(tx, SQL_STEP_NEWEST, &run->last_activity_at, INT(run->id));

        for (size_t i = 0; i < LENGTH(times); i++)
                if (times[i] > run->last_activity_at)
                        run->last_activity_at = times[i];
        return e;
}

/* The index that a page is read by, what fits fewest runs first. */
static enum sql list_statement(const struct run_filter *f)
{
        return f->of_definition         ? SQL_RUN_LIST_DEFINITION :
               f->task_id               ? SQL_RUN_LIST_TASK :
               f->parent_run_id         ? SQL_RUN_LIST_PARENT :
               f->session_id.p          ? SQL_RUN_LIST_SESSION :
               f->status < 0            ? SQL_RUN_LIST :
               f->status == RUN_QUEUED  ? SQL_RUN_LIST_QUEUED :
               run_is_leased(f->status) ? SQL_RUN_LIST_LEASED :
                                          SQL_RUN_LIST_STATUS;
}

/* Ids are ordered by time: a bound in time is a bound on ids. */
enum err run_list(struct tx *tx, const struct principal *by, const struct run_filter *f,
                  struct list *out)
{
        int64_t below = f->before ? f->before : INT64_MAX;

        if (f->created_before && id_at(f->created_before) < below)
                below = id_at(f->created_before);
        return tx_all(tx, list_statement(f), out, NAME(by->workspace), INT(below), INT(f->status),
                      NAME(f->session_id), INT(f->parent_run_id), INT(f->definition_id),
                      INT(id_at(f->created_after)), INT(f->limit), INT(f->task_id));
}

/* Why a fence does not hold, in the order that the contract gives. */
static enum err fence_error(struct tx *tx, const struct run *run, const struct fence *fence)
{
        struct scope *scope = tx_scope(tx);
        bool canceled;
        enum err e;

        if (!run_has_token(run, fence))
                return fail(scope, ERR_STALE_TOKEN,
                            "the claim token is not the current one of this run: its lease was"
                            " given up, expired or taken over");
        if (!run_is_held_by(run, fence->by))
                return fail(scope, ERR_FOREIGN_RUN,
                            "the claim token was given to another principal");
        if (!run_is_leased(run->status))
                return fail(scope, ERR_INVALID_TRANSITION, "the run is %s",
                            run_status_names.text[run->status]);
        if (run->lease_until <= lease_now(tx_context(tx)))
                return fail(scope, ERR_LEASE_EXPIRED, "the lease has expired; claim the run again");
        e = cascade_reaches(tx, run->task_id, &canceled);
        return e || !canceled ? e : fail(scope, ERR_INVALID_TRANSITION, "the run is canceled");
}

enum err run_check_fence(struct tx *tx, const struct run *run, const struct fence *fence)
{
        return fence_error(tx, run, fence);
}

/* ---- moving ---- */

static void lease_clear(struct tx *tx, struct run *run)
{
        run->lease_until = 0;
        run->heartbeat_at = 0;
        token_make(tx, run);
}

/* The columns that follow from the target state. */
static void apply_target(struct tx *tx, struct run *run, const struct run_change *change)
{
        int from = run->status;

        run->status = change->to;
        run->wake_at = change->wake_at;
        if (change->to == RUN_CLAIMED) {
                if (!run->token_nonce.p) /* queued by an older program */
                        token_make(tx, run);
                run->epoch++;
                run->claimed_at = run->heartbeat_at = tx_now(tx);
                run->lease_until = lease_now(tx_context(tx)) + run->lease_us;
        } else if (change->to == RUN_STARTING || change->to == RUN_RUNNING) {
                if (!run->started_at)
                        run->started_at = tx_now(tx);
        } else if (run_is_waiting(change->to)) {
                lease_clear(tx, run);
                run->session_id = STR_NONE;
        } else if (change->to == RUN_QUEUED) {
                if (run_is_leased(from))
                        lease_clear(tx, run);
                run->claimed_by = run->session_id = STR_NONE;
                run->claimed_at = 0;
                run->hold = change->hold;
                if (run_is_leased(from) && run->steps == 0)
                        run->started_at = 0;
        } else {
                run->ended_at = tx_now(tx);
                run->failure_kind = change->failure_kind;
                run->error = change->error;
                run->result = change->result;
                run->lease_until = 0; /* hold stays, in memory only: a join asks what it was */
        }
}

static enum err write_row(struct tx *tx, const struct run *run, const struct run *before,
                          const struct fence *fence, int64_t *changed)
{
        int64_t now = lease_now(tx_context(tx));

        if (run_is_terminal(run->status))
                return tx_exec_one(tx, SQL_RUN_END, changed, INT(run->id), INT(run->status),
                                   INT(run->failure_kind), TEXT(run->error), TEXT(run->result),
                                   OPT(run->ended_at), INT(run->current_step),
                                   INT(run->revision), INT(run->steps), INT(before->status),
                                   INT(before->epoch), fence_arg(fence), INT(now), OPT(run->started_at),
                                   INT(run->hold & HOLD_CLEANUP));
        return tx_exec_one(
                tx, SQL_RUN_MOVE, changed, INT(run->id), INT(run->status), INT(run->hold),
                INT(run->epoch), INT(run->current_step), NAME(run->claimed_by),
                NAME(run->session_id), BLOB(run->claim_token_hash), BLOB(run->token_nonce),
                OPT(run->lease_until), INT(run->lease_us), OPT(run->heartbeat_at),
                OPT(run->claimed_at), OPT(run->started_at), OPT(run->wake_at),
                INT(run->recoveries), INT(run->cancel_requested), INT(run->revision),
                INT(run->steps), INT(before->status), INT(before->epoch), fence_arg(fence), INT(now));
}

enum err run_set_deadline(struct tx *tx, struct run *run, int64_t timeout_seconds)
{
        if (!timeout_seconds || run->due_at)
                return ERR_OK;
        run->due_at = tx_now(tx) + timeout_seconds * US_PER_S;
        return tx_exec(tx, SQL_RUN_DUE_SET, INT(run->id), INT(run->due_at));
}

void run_begin(struct tx *tx, struct run *run, struct events *events)
{
        bool again = run->started_at != 0;

        BUG_ON(run->status != RUN_CLAIMED);
        run->status = RUN_RUNNING;
        if (!again)
                run->started_at = tx_now(tx);
        events_add(tx, events, EVENT_RUN_STARTING, run->task_id, run->id, STR_NONE);
        events_add(tx, events, again ? EVENT_RUN_RESUMED : EVENT_RUN_STARTED, run->task_id, run->id,
                  STR_NONE);
}

enum err run_write(struct tx *tx, struct run *run, const struct fence *fence, bool begun)
{
        struct run before = *run;
        int64_t changed = 0;
        enum err e;

        if (begun)
                before.status = RUN_CLAIMED;
        run->revision++;
        e = write_row(tx, run, &before, fence, &changed);
        if (!e && !changed)
                e = fail(tx_scope(tx), ERR_STALE_TOKEN, "the run was moved by somebody else");
        return e || !run->attention.p ? e : attention_set(tx, run, STR_NONE);
}

enum err run_end_steps(struct tx *tx, const struct run *run)
{
        const char *kind = outcome_names.text[run->failure_kind];

        return tx_exec(tx, SQL_STEP_END_OPEN, INT(run->id), INT(tx_now(tx)),
                       TEXT(arena_printf(&tx_scope(tx)->arena,
                                         "{\"kind\":\"%s\",\"message\":\"the run has ended\"}",
                                         kind)));
}

enum err run_move(struct tx *tx, struct run *run, const struct run_change *change,
                  struct events *events)
{
        struct run before = *run;
        int64_t changed = 0;
        enum err e;

        if (change->begun)
                before.status = RUN_CLAIMED;
        if (change->fence && (e = fence_error(tx, run, change->fence)))
                return e;
        if (!run_may_move(run->status, change->to))
                return fail(tx_scope(tx), ERR_INVALID_TRANSITION, "a run that is %s cannot become %s",
                            run_status_names.text[run->status], run_status_names.text[change->to]);
        apply_target(tx, run, change);
        /* Its holder has not been asked: a command of it may still run. */
        if (run_is_terminal(run->status) && run->executor == EXECUTOR_WORKER && !change->fence &&
            run_is_leased(before.status))
                run->hold |= HOLD_CLEANUP;
        e = write_row(tx, run, &before, change->fence, &changed);
        if (!e && !changed)
                e = fail(tx_scope(tx), change->fence ? ERR_STALE_TOKEN : ERR_INVALID_TRANSITION,
                         "the run was moved by somebody else");
        if (!e)
                e = failpoint(tx_scope(tx), FAILPOINT_RUN_MOVED);
        if (!e && run->attention.p)
                e = attention_set(tx, run, STR_NONE);
        if (!e && before.status == RUN_QUEUED)
                e = leave_lane(tx, &before);
        if (!e && run->status == RUN_QUEUED && !run->hold)
                e = enter_lane(tx, run);
        if (e)
                return e;
        if (run_is_terminal(run->status) && run->executor == EXECUTOR_WORKER && !change->fence)
                e = run_end_steps(tx, run);
        if (e)
                return e;
        if (change->event)
                events_add(tx, events, change->event, run->task_id, run->id, change->payload);
        return ERR_OK;
}
