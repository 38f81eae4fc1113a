#include "domain/profile.h"

#include <string.h>

#include "domain/attempt.h"
#include "domain/channel.h"
#include "domain/claimer.h"
#include "domain/domain.h"
#include "domain/profile_record.h"
#include "domain/sql.h"
#include "json/json_in.h"

static const char *const coordinator_modes[] = { "inherit", "guided", NULL };
static const char *const worker_modes[] = { "inherit", "select", NULL };
static const char *const sandbox_modes[] = { "inherit", "none", "ref", NULL };
static const char *const runtime_modes[] = { "default", "evidence", NULL };
static const struct names coordinator_mode_names = { coordinator_modes, NULL };
static const struct names worker_mode_names = { worker_modes, NULL };
static const struct names sandbox_mode_names = { sandbox_modes, NULL };
static const struct names runtime_mode_names = { runtime_modes, NULL };

enum { GIVEN_MODE = 1, SELECTOR_MAX = 128 };

#define TEXT_OF(type, at, member) { #member, FIELD_STR, FIELD_WIRE, offsetof(type, at member) }
#define LIST_OF(type, at, member) { #member, FIELD_CAPS, FIELD_WIRE | FIELD_TRIMS, offsetof(type, at member) }
#define AGENT(type, at) \
        TEXT_OF(type, at, agent_name), TEXT_OF(type, at, provider), TEXT_OF(type, at, model)
#define AGENTS(type, at) LIST_OF(type, at, allowed_agent_names), LIST_OF(type, at, preferred_agent_names)
#define CAPABILITIES(type, at) \
        LIST_OF(type, at, required_capabilities), LIST_OF(type, at, preferred_capabilities)
#define PLACES(type)                                                                      \
        LIST_OF(type, , allowed_channel_ids), LIST_OF(type, , preferred_channel_ids),     \
                LIST_OF(type, , allowed_peer_ids), LIST_OF(type, , preferred_peer_ids)
#define MODE(type, names) { "mode", FIELD_ENUM, FIELD_WIRE, offsetof(type, mode), &names }

static const struct field coordinator_fields[] = {
        MODE(struct coordinator, coordinator_mode_names),
        AGENT(struct coordinator, choice.),
        { "guidance", FIELD_STR, FIELD_WIRE, offsetof(struct coordinator, guidance), NULL, 0, GUIDANCE_MAX },
};
static const struct field worker_fields[] = {
        MODE(struct profile_worker, worker_mode_names),
        AGENT(struct profile_worker, choice.),
        AGENTS(struct profile_worker, choice.),
        CAPABILITIES(struct profile_worker, choice.),
};
static const struct field review_fields[] = {
        AGENT(struct agent_choice, ),
        AGENTS(struct agent_choice, ),
        PLACES(struct agent_choice),
        CAPABILITIES(struct agent_choice, ),
};
static const struct field participant_fields[] = {
        AGENTS(struct agent_choice, ),
        PLACES(struct agent_choice),
        CAPABILITIES(struct agent_choice, ),
};
static const struct field sandbox_fields[] = {
        MODE(struct profile_sandbox, sandbox_mode_names),
        TEXT_OF(struct profile_sandbox, , sandbox_ref),
};
static const struct field runtime_fields[] = { MODE(struct profile_runtime, runtime_mode_names) };

/* As it is told, and as it is asked for: the same members, but what is asked for may not have others. */
#define BLOCK(noun, label, type, given)                                                              \
        static const struct record noun##_record = { label, noun##_fields, LENGTH(noun##_fields),    \
                                                     sizeof(type), given };                          \
        static const struct record noun##_put_record = { label "Put", noun##_fields, LENGTH(noun##_fields), \
                                                         sizeof(type), given }
BLOCK(coordinator, "ProfileCoordinator", struct coordinator, offsetof(struct coordinator, given));
BLOCK(worker, "ProfileWorker", struct profile_worker, offsetof(struct profile_worker, given));
BLOCK(review, "ProfileReview", struct agent_choice, -1);
BLOCK(participant, "ProfileParticipants", struct agent_choice, -1);
BLOCK(sandbox, "ProfileSandbox", struct profile_sandbox, -1);
BLOCK(runtime, "ProfileRuntime", struct profile_runtime, -1);

#define AT(member) offsetof(struct profile, member)
#define BLOCKS(record)                                                                            \
        { "task_id", FIELD_ID, FIELD_WIRE, AT(task_id), "task" },                                 \
        { "coordinator", FIELD_RECORD, FIELD_WIRE, AT(coordinator), &coordinator_##record },      \
        { "worker", FIELD_RECORD, FIELD_WIRE, AT(worker), &worker_##record },                     \
        { "review", FIELD_RECORD, FIELD_WIRE, AT(review), &review_##record },                     \
        { "participants", FIELD_RECORD, FIELD_WIRE, AT(participants), &participant_##record },    \
        { "sandbox", FIELD_RECORD, FIELD_WIRE, AT(sandbox), &sandbox_##record },                  \
        { "runtime", FIELD_RECORD, FIELD_WIRE, AT(runtime), &runtime_##record }
static const struct field profile_fields[] = {
        BLOCKS(record),
        { "created_at", FIELD_TIME, FIELD_WIRE, AT(created_at) },
        { "updated_at", FIELD_TIME, FIELD_WIRE, AT(updated_at) },
};
static const struct field body_fields[] = {
        BLOCKS(put_record),
        { "created_at", FIELD_STR, FIELD_WIRE | FIELD_FIXED },
        { "updated_at", FIELD_STR, FIELD_WIRE | FIELD_FIXED },
};
const struct record profile_record = { "ExecutionProfile", profile_fields, LENGTH(profile_fields),
                                       sizeof(struct profile), -1 };
const struct record profile_body_record = { "ExecutionProfilePut", body_fields, LENGTH(body_fields),
                                            sizeof(struct profile), -1 };

#undef AT
#define AT(member) offsetof(struct profile_row, member)
static const struct field row_fields[] = {
        { "task_id", FIELD_ID, FIELD_COLUMN, AT(task_id), "task" },
        { "blocks", FIELD_JSON, FIELD_COLUMN, AT(blocks) },
        { "created_at", FIELD_TIME, FIELD_COLUMN, AT(created_at) },
        { "updated_at", FIELD_TIME, FIELD_COLUMN, AT(updated_at) },
};
const struct record profile_row_record = { "profile_row", row_fields, LENGTH(row_fields),
                                           sizeof(struct profile_row), -1 };

/* ---- reading ---- */

static void complete(struct arena *arena, struct profile *p)
{
        p->coordinator = p->coordinator ? p->coordinator : arena_new(arena, struct coordinator);
        p->worker = p->worker ? p->worker : arena_new(arena, struct profile_worker);
        p->review = p->review ? p->review : arena_new(arena, struct agent_choice);
        p->participants = p->participants ? p->participants : arena_new(arena, struct agent_choice);
        p->sandbox = p->sandbox ? p->sandbox : arena_new(arena, struct profile_sandbox);
        p->runtime = p->runtime ? p->runtime : arena_new(arena, struct profile_runtime);
}

enum err profile_of(struct tx *tx, int64_t task, struct profile *out)
{
        struct profile_row row = { 0 };
        struct profile p = { 0 };
        enum err e = tx_one(tx, SQL_PROFILE_GET, &row, INT(task));

        if (!e)
                e = json_read(tx_scope(tx), row.blocks, &profile_record, &p);
        if (e && e != ERR_EMPTY)
                return e;
        complete(&tx_scope(tx)->arena, &p);
        p.task_id = task;
        p.created_at = row.created_at;
        p.updated_at = row.updated_at;
        *out = p;
        return ERR_OK;
}

enum err profile_get(struct tx *tx, const struct principal *by, int64_t id, struct profile *out)
{
        struct task task;
        enum err e = task_get(tx, by, id, &task);

        return e ? e : profile_of(tx, id, out);
}

/* ---- checking ---- */

static const char *const refusal_words[] = { "provider", "sandbox-none", "sandbox-ref" };

enum err profile_refusals(struct scope *scope, struct str words, unsigned *out)
{
        *out = 0;
        while (words.n) {
                struct str word = str_trim(str_cut(words, ',', &words));
                size_t i = 0;

                while (i < LENGTH(refusal_words) && !str_is(word, refusal_words[i]))
                        i++;
                if (i == LENGTH(refusal_words))
                        return fail_field(scope, "profile-refuse", ERR_VALIDATION,
                                          "--profile-refuse takes provider, sandbox-none and sandbox-ref, not"
                                          " \"" STR_FMT "\"",
                                          STR_ARG(word));
                *out |= 1u << i;
        }
        return ERR_OK;
}

/* What this server does not let profiles say. */
static enum err check_refusals(struct scope *scope, const struct profile *p, unsigned refuses)
{
        const struct agent_choice *c = &p->coordinator->choice, *w = &p->worker->choice, *r = p->review;
        const struct {
                const char *path;
                bool said;
                unsigned bit;
        } rows[] = {
                { "coordinator.provider", c->provider.n || c->model.n, PROFILE_PROVIDER },
                { "worker.provider", w->provider.n || w->model.n, PROFILE_PROVIDER },
                { "review.provider", r->provider.n || r->model.n, PROFILE_PROVIDER },
                { "sandbox.mode", p->sandbox->mode == SANDBOX_NONE, PROFILE_SANDBOX_NONE },
                { "sandbox.mode", p->sandbox->mode == SANDBOX_REF, PROFILE_SANDBOX_REF },
        };

        for (size_t i = 0; i < LENGTH(rows); i++)
                if (rows[i].said && refuses & rows[i].bit)
                        return fail_field(scope, rows[i].path, ERR_VALIDATION,
                                          "this server lets no profile say that (--profile-refuse)");
        return ERR_OK;
}

static bool is_peer(struct str s)
{
        for (size_t i = 0; i < s.n; i++)
                if (!((s.p[i] >= 'a' && s.p[i] <= 'z') || (s.p[i] >= '0' && s.p[i] <= '9') ||
                      (i && memchr("._-", s.p[i], 3))))
                        return false;
        return s.n >= 1 && s.n <= SELECTOR_MAX;
}

static enum err check_text(struct scope *scope, const char *path, struct str *text)
{
        *text = text->p ? str_trim(*text) : STR_NONE;
        if (!text->n)
                *text = STR_NONE;
        if (text->n > SELECTOR_MAX)
                return fail_limit(scope, path, ERR_VALIDATION, SELECTOR_MAX, (int64_t)text->n, path);
        for (size_t i = 0; i < text->n; i++)
                if (strchr("\t\r\n,", text->p[i]))
                        return fail_field(scope, path, ERR_VALIDATION,
                                          "%s must not hold a tab, a line end or a comma", path);
        return ERR_OK;
}

static enum err check_list(struct scope *scope, const char *path, struct str names)
{
        if (str_ends(str_from(path), "_channel_ids"))
                return channels_check(scope, path, names);
        while (names.n) {
                struct str name = str_cut(names, ',', &names);

                if (str_ends(str_from(path), "_peer_ids") && !is_peer(name))
                        return fail_field(scope, path, ERR_VALIDATION,
                                          "each of %s must be 1 to 128 of a-z, 0-9 and inner . _ and -", path);
                if (str_ends(str_from(path), "_capabilities") && memchr(name.p, ' ', name.n))
                        return fail_field(scope, path, ERR_VALIDATION,
                                          "a capability has no blank inside, as \"" STR_FMT "\" has", STR_ARG(name));
        }
        return ERR_OK;
}

/* The texts of a block, by what the names of its fields say. */
static enum err check_block(struct scope *scope, const char *name, const struct record *type, void *block)
{
        enum err e = ERR_OK;

        for (size_t i = 0; !e && i < type->n; i++) {
                const struct field *f = &type->fields[i];
                const char *path = arena_printf(&scope->arena, "%s.%s", name, f->name).p;

                if (f->kind == FIELD_CAPS)
                        e = check_list(scope, path, *FIELD_AT(block, f, struct str));
                else if (f->kind == FIELD_STR && strcmp(f->name, "guidance") != 0)
                        e = check_text(scope, path, FIELD_AT(block, f, struct str));
        }
        return e;
}

static enum err check_texts(struct scope *scope, struct profile *p)
{
        enum err e = ERR_OK;

        for (size_t i = 0; !e && i < profile_record.n; i++) {
                const struct field *f = &profile_fields[i];

                if (f->kind == FIELD_RECORD)
                        e = check_block(scope, f->name, f->type, *FIELD_AT(p, f, void *));
        }
        return e;
}

/* Whether a block says anything beside its mode. */
static bool says_something(const struct record *type, const void *block)
{
        for (size_t i = 1; i < type->n; i++)
                if (!field_is_empty(&type->fields[i], block))
                        return true;
        return false;
}

/* A mode that is not given follows from the rest of its block; one that is given must agree with it. */
static enum err check_mode(struct scope *scope, const char *path, uint64_t given, bool says, int *mode,
                           const char *chosen)
{
        if (!(given & GIVEN_MODE))
                *mode = says;
        if ((*mode != 0) == says)
                return ERR_OK;
        return says ? fail_field(scope, path, ERR_VALIDATION,
                                 "%s is inherit, but the block names something: say %s, or leave it out", path,
                                 chosen) :
                      fail_field(scope, path, ERR_VALIDATION,
                                 "%s is %s, but the block names nothing", path, chosen);
}

static enum err check_sandbox(struct scope *scope, const struct profile *p)
{
        if ((p->sandbox->mode == SANDBOX_REF) != (p->sandbox->sandbox_ref.n > 0))
                return fail_field(scope, "sandbox.sandbox_ref", ERR_VALIDATION,
                                  "sandbox.sandbox_ref goes with sandbox.mode ref, and only with it");
        if (p->runtime->mode == RUNTIME_EVIDENCE && p->sandbox->mode != SANDBOX_REF)
                return fail_field(scope, "runtime.mode", ERR_VALIDATION,
                                  "runtime.mode evidence needs a sandbox: give sandbox.mode ref and"
                                  " sandbox.sandbox_ref");
        return ERR_OK;
}

/* Whom the worker's block and the participants' both let claim; absent: everybody. */
static struct str agents_allowed(struct arena *arena, const struct profile *p)
{
        const struct agent_choice *w = &p->worker->choice;
        struct str mine = w->agent_name.n ? w->agent_name : w->allowed_agent_names;
        struct str theirs = p->participants->allowed_agent_names;

        return mine.n && theirs.n ? caps_both(arena, mine, theirs) : mine.n ? mine : theirs;
}

static enum err check_agent(struct scope *scope, const char *path, const struct agent_choice *c)
{
        return !c->agent_name.n || !c->allowed_agent_names.n ||
                               caps_within(c->agent_name, c->allowed_agent_names) ?
                       ERR_OK :
                       fail_field(scope, path, ERR_VALIDATION,
                                  "%s must be one of the block's allowed_agent_names", path);
}

static enum err check_agents(struct scope *scope, const struct profile *p)
{
        enum err e = check_agent(scope, "worker.agent_name", &p->worker->choice);

        if (!e)
                e = check_agent(scope, "review.agent_name", p->review);
        if (!e && p->participants->allowed_agent_names.n && !agents_allowed(&scope->arena, p).n)
                e = fail_field(scope, "participants.allowed_agent_names", ERR_VALIDATION,
                               "no agent that worker allows is among participants.allowed_agent_names:"
                               " nobody could claim a run");
        return e;
}

/* The built-in worker is no agent: it has no name, is told nothing and has the server's sandbox. */
static enum err check_definition(struct scope *scope, const struct profile *p)
{
        const struct agent_choice *w = &p->worker->choice, *all = p->participants;
        const struct {
                const char *path;
                bool said;
        } rows[] = {
                { "coordinator", says_something(&coordinator_record, p->coordinator) },
                { "worker.agent_name", w->agent_name.n },
                { "worker.provider", w->provider.n },
                { "worker.model", w->model.n },
                { "worker.allowed_agent_names", w->allowed_agent_names.n },
                { "worker.preferred_agent_names", w->preferred_agent_names.n },
                { "participants.allowed_agent_names", all->allowed_agent_names.n },
                { "participants.preferred_agent_names", all->preferred_agent_names.n },
                { "participants.allowed_peer_ids", all->allowed_peer_ids.n },
                { "participants.preferred_peer_ids", all->preferred_peer_ids.n },
                { "sandbox", p->sandbox->mode },
                { "runtime", p->runtime->mode },
        };

        for (size_t i = 0; i < LENGTH(rows); i++)
                if (rows[i].said)
                        return fail_field(scope, rows[i].path, ERR_VALIDATION,
                                          "the task follows a definition, whose steps the built-in worker does:"
                                          " %s has no meaning for it",
                                          rows[i].path);
        return ERR_OK;
}

static enum err check(struct scope *scope, const struct task *task, unsigned refuses, struct profile *p)
{
        struct coordinator *c = p->coordinator;
        struct profile_worker *w = p->worker;
        enum err e = p->task_id && p->task_id != task->id ?
                             fail_field(scope, "task_id", ERR_VALIDATION, "task_id is that of another task") :
                             ERR_OK;

        if (!e)
                e = check_texts(scope, p);
        if (!e)
                e = check_mode(scope, "coordinator.mode", c->given, says_something(&coordinator_record, c),
                               &c->mode, "guided");
        if (!e)
                e = check_mode(scope, "worker.mode", w->given, says_something(&worker_record, w), &w->mode,
                               "select");
        if (!e)
                e = check_sandbox(scope, p);
        if (!e)
                e = check_agents(scope, p);
        if (!e)
                e = check_refusals(scope, p, refuses);
        if (!e && task->definition_id)
                e = check_definition(scope, p);
        if (!e && task->network_channel.n && p->participants->allowed_channel_ids.n &&
            !caps_within(task->network_channel, p->participants->allowed_channel_ids))
                e = fail_field(scope, "participants.allowed_channel_ids", ERR_VALIDATION,
                               "the task's channel " STR_FMT " is none of participants.allowed_channel_ids",
                               STR_ARG(task->network_channel));
        return e;
}

/* ---- changing ---- */

/* The blocks as they are stored. */
static enum err print(struct scope *scope, const struct profile *p, struct str *out)
{
        struct profile blocks = *p;
        struct buf text = BUF_INIT(1 << 20);
        struct json_out j = { .out = &text };
        int64_t n;

        blocks.task_id = blocks.created_at = blocks.updated_at = 0;
        json_record(&j, &profile_record, &blocks);
        *out = str_dup(&scope->arena, buf_view(&text));
        n = (int64_t)(text.n - p->coordinator->guidance.n);
        buf_done(&text);
        return n <= PROFILE_MAX ? ERR_OK :
                                  fail_limit(scope, "body", ERR_TOO_LARGE, PROFILE_MAX, n,
                                             "bytes of a profile beside its guidance");
}

static struct str rule_of(struct arena *arena, const struct profile *p)
{
        const struct agent_choice *w = &p->worker->choice, *all = p->participants;
        const struct str parts[RULES] = {
                [RULE_CHANNELS] = all->allowed_channel_ids,
                [RULE_REQUIRED] = caps_union(arena, w->required_capabilities, all->required_capabilities),
                [RULE_PREFERRED] = caps_union(arena, w->preferred_capabilities, all->preferred_capabilities),
                [RULE_AGENTS] = agents_allowed(arena, p),
                [RULE_AGENTS_PREFERRED] =
                        caps_union(arena, w->preferred_agent_names, all->preferred_agent_names),
                [RULE_PEERS] = all->allowed_peer_ids,
                [RULE_PEERS_PREFERRED] = all->preferred_peer_ids,
        };
        struct str rule = STR("");

        for (size_t i = 0; i < RULES; i++)
                rule = arena_printf(arena, STR_FMT "%s" STR_FMT, STR_ARG(rule), i ? "\n" : "",
                                    STR_ARG(parts[i]));
        return rule_from(rule, 0);
}

static enum err task_for_change(struct tx *tx, const struct principal *by, int64_t id, struct task *task)
{
        enum err e = task_get(tx, by, id, task);

        if (!e)
                e = task_show(tx, task);
        if (!e && task->current_run_id)
                e = fail(tx_scope(tx), ERR_INVALID_TRANSITION,
                         "a run of the task is under way: its profile is changed when the run has ended or was"
                         " given back");
        return e;
}

/* Its task's next claims follow the new rule; told by an event and in the audit log. */
static enum err follow(struct tx *tx, const struct principal *by, struct task *task, struct str rule,
                       struct events *events, const struct audit_change *change)
{
        struct run open;
        enum err e;

        task->claim_rule = rule;
        task->updated_at = tx_now(tx);
        e = tx_exec(tx, SQL_TASK_CLAIM_RULE, INT(task->id), NAME(rule), INT(task->updated_at));
        if (!e)
                e = attempt_open(tx, task->id, &open);
        if (!e && open.status == RUN_QUEUED)
                e = run_follow(tx, task, false, &open);
        if (!e)
                e = events_append(tx, events);
        return e ? e : audit_append(tx, by, change);
}

static enum err row_of(struct tx *tx, int64_t task, struct profile_row *row, struct str *digest)
{
        enum err e = tx_one(tx, SQL_PROFILE_GET, row, INT(task));

        if (!e)
                *digest = audit_digest(tx, &profile_row_record, row);
        return e;
}

enum err profile_put(struct tx *tx, const struct principal *by, int64_t id, struct profile *p)
{
        struct arena *arena = &tx_scope(tx)->arena;
        struct audit_change change = { .action = AUDIT_PROFILE_UPDATED };
        struct events events = { .by = by };
        struct profile_row row;
        struct task task;
        struct str text;
        enum err e = task_for_change(tx, by, id, &task);

        complete(arena, p);
        if (!e)
                e = check(tx_scope(tx), &task, ((struct domain *)tx_context(tx))->profile_refuses, p);
        if (!e)
                e = print(tx_scope(tx), p, &text);
        if (!e && (e = row_of(tx, id, &row, &change.before)) == ERR_EMPTY)
                e = ERR_OK;
        if (!e)
                e = tx_exec(tx, SQL_PROFILE_PUT, INT(id), TEXT(text), INT(tx_now(tx)));
        if (!e)
                e = row_of(tx, id, &row, &change.after);
        if (e)
                return e;
        p->task_id = id;
        p->created_at = row.created_at;
        p->updated_at = row.updated_at;
        change.resource = audit_id(tx, "task", id);
        change.workspace = task.workspace_id;
        events.tree = task.tree_id;
        events_add(tx, &events, EVENT_TASK_PROFILE_UPDATED, id, 0,
                   arena_printf(arena,
                                "{\"coordinator_mode\":\"%s\",\"worker_mode\":\"%s\",\"sandbox_mode\":\"%s\"}",
                                coordinator_modes[p->coordinator->mode], worker_modes[p->worker->mode],
                                sandbox_modes[p->sandbox->mode]));
        return follow(tx, by, &task, rule_of(arena, p), &events, &change);
}

enum err profile_delete(struct tx *tx, const struct principal *by, int64_t id)
{
        struct audit_change change = { .action = AUDIT_PROFILE_DELETED };
        struct events events = { .by = by };
        struct profile_row row;
        struct task task;
        enum err e = task_for_change(tx, by, id, &task);

        if (!e && (e = row_of(tx, id, &row, &change.before)) == ERR_EMPTY)
                e = fail_missing(tx_scope(tx), "execution_profile");
        if (!e)
                e = tx_exec(tx, SQL_PROFILE_DROP, INT(id));
        if (e)
                return e;
        change.resource = audit_id(tx, "task", id);
        change.workspace = task.workspace_id;
        events.tree = task.tree_id;
        events_add(tx, &events, EVENT_TASK_PROFILE_DELETED, id, 0, STR_NONE);
        return follow(tx, by, &task, STR_NONE, &events, &change);
}
