#include "domain/channel.h"

#include "domain/claimer.h"
#include "domain/sql.h"

static bool is_name(struct str s)
{
        for (size_t i = 0; i < s.n; i++)
                if (!((s.p[i] >= 'a' && s.p[i] <= 'z') || (s.p[i] >= '0' && s.p[i] <= '9') ||
                      (i && (s.p[i] == '-' || s.p[i] == '_'))))
                        return false;
        return s.n >= 1 && s.n <= 64;
}

/* *lists: who lists channels without this one; NULL: it is good. */
static enum err look_up(struct tx *tx, struct str workspace, struct str rule, struct str channel,
                        const char **lists)
{
        struct str allowed = rule_part(rule, RULE_CHANNELS), listed;
        int64_t name = 0;
        enum err e = tx_number(tx, SQL_WORKSPACE_CHANNELS, &name, NAME(workspace));

        if (e && e != ERR_EMPTY)
                return e;
        listed = name ? tx_name_text(tx, name) : STR_NONE;
        *lists = listed.n && !caps_within(channel, listed)   ? "the workspace" :
                 allowed.n && !caps_within(channel, allowed) ? "the task's execution profile" :
                                                               NULL;
        return ERR_OK;
}

enum err channel_check(struct tx *tx, struct str workspace, struct str rule, struct str channel)
{
        const char *lists;
        enum err e;

        if (!channel.p)
                return ERR_OK;
        if (!is_name(channel))
                return fail_field(tx_scope(tx), "network_channel", ERR_VALIDATION,
                                  "network_channel must be 1 to 64 of a-z, 0-9 and inner - and _");
        e = look_up(tx, workspace, rule, channel, &lists);
        return e || !lists ? e :
                             fail_field(tx_scope(tx), "network_channel", ERR_VALIDATION,
                                        "%s lists its channels, and " STR_FMT " is none of them", lists,
                                        STR_ARG(channel));
}

enum err channels_check(struct scope *scope, const char *field, struct str channels)
{
        while (channels.n)
                if (!is_name(str_cut(channels, ',', &channels)))
                        return fail_field(scope, field, ERR_VALIDATION,
                                          "each of %s must be 1 to 64 of a-z, 0-9 and inner - and _",
                                          field);
        return ERR_OK;
}

enum err channel_of_run(struct tx *tx, const struct principal *by, const struct run *run,
                        const char *operation)
{
        struct events events = { .by = by, .tree = run->tree_id };
        const char *lists;
        struct task task;
        enum err e;

        if (!run->network_channel.p)
                return ERR_OK;
        e = tx_one(tx, SQL_TASK_GET, &task, INT(run->task_id));
        if (!e)
                e = look_up(tx, run->workspace_id, task.claim_rule, run->network_channel, &lists);
        if (e || !lists)
                return e;
        events_add(tx, &events, EVENT_RUN_REJECTED, run->task_id, run->id,
                   arena_printf(&tx_scope(tx)->arena,
                                "{\"operation\":\"%s\",\"reason\":\"stale_network_channel\"}", operation));
        e = events_append(tx, &events);
        return e ? e :
                   fail(tx_scope(tx), ERR_STALE_CHANNEL,
                        "%s no longer lists the run's channel " STR_FMT
                        ": list it again, or cancel the run and start the task in another one",
                        lists, STR_ARG(run->network_channel));
}
