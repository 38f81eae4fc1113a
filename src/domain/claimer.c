#include "domain/claimer.h"

#include <string.h>

#include "domain/task.h"

/* ---- lists of names ---- */

bool caps_within(struct str a, struct str b)
{
        while (a.n) {
                struct str name = str_cut(a, ',', &a);
                bool found = false;

                while (b.n && !found) {
                        int order = str_cmp(str_cut(b, ',', &b), name);

                        if (order > 0)
                                return false;
                        found = order == 0;
                }
                if (!found)
                        return false;
        }
        return true;
}

int caps_common(struct str a, struct str b)
{
        int n = 0;

        while (a.n)
                n += caps_within(str_cut(a, ',', &a), b);
        return n;
}

/* A name as it is, commas and all, is in the list. */
static bool names_hold(struct str list, struct str name)
{
        while (list.n)
                if (str_eq(str_cut(list, ',', &list), name))
                        return true;
        return false;
}

struct str caps_union(struct arena *arena, struct str a, struct str b)
{
        char *text, *at;

        if (!a.n || !b.n)
                return a.n ? a : b.n ? b : STR_NONE;
        text = at = arena_alloc(arena, a.n + b.n + 2, 1);
        while (a.n || b.n) {
                struct str after_a, after_b, x = str_cut(a, ',', &after_a), y = str_cut(b, ',', &after_b);
                int order = !a.n ? 1 : !b.n ? -1 : str_cmp(x, y);
                struct str name = order <= 0 ? x : y;

                if (at > text)
                        *at++ = ',';
                memcpy(at, name.p, name.n);
                at += name.n;
                a = order <= 0 ? after_a : a;
                b = order >= 0 ? after_b : b;
        }
        return (struct str){ text, (size_t)(at - text) };
}

struct str caps_both(struct arena *arena, struct str a, struct str b)
{
        struct str out = STR_NONE;

        while (a.n) {
                struct str name = str_cut(a, ',', &a);

                if (caps_within(name, b))
                        out = arena_printf(arena, STR_FMT "%s" STR_FMT, STR_ARG(out), out.n ? "," : "",
                                           STR_ARG(name));
        }
        return out;
}

struct str caps_words(struct arena *arena, struct str names)
{
        struct str out = STR("");

        while (names.n) {
                struct str name = str_cut(names, ',', &names);

                out = arena_printf(arena, STR_FMT "%s" STR_FMT, STR_ARG(out), out.n ? ", " : "",
                                   STR_ARG(name));
        }
        return out;
}

/* ---- rules ---- */

struct str rule_part(struct str rule, enum rule part)
{
        for (int i = 0; i < (int)part; i++)
                str_cut(rule, '\n', &rule);
        return str_cut(rule, '\n', &rule);
}

struct str rule_from(struct str rule, enum rule part)
{
        for (int i = 0; i < (int)part; i++)
                str_cut(rule, '\n', &rule);
        for (size_t i = 0; i < rule.n; i++)
                if (rule.p[i] != '\n')
                        return rule;
        return STR_NONE;
}

/* ---- who may claim ---- */

static struct str agents_of(const struct lane *l, enum rule part)
{
        return rule_part(l->agent, part - RULE_AGENTS);
}

static bool executor_allows(const struct lane *l, const struct claim_criteria *c)
{
        return l->executor == (int64_t)c->executor;
}

static struct str executor_words(struct arena *arena, const struct lane *l)
{
        return arena_printf(arena, "of the executor %s", executor_names.text[l->executor]);
}

static bool workspace_allows(const struct lane *l, const struct claim_criteria *c)
{
        return !c->workspace.p || str_eq(l->workspace, c->workspace);
}

static struct str workspace_words(struct arena *arena, const struct lane *l)
{
        return arena_printf(arena, "that claims in the workspace " STR_FMT, STR_ARG(l->workspace));
}

static bool priority_allows(const struct lane *l, const struct claim_criteria *c)
{
        return l->priority >= c->priority_min;
}

static struct str priority_words(struct arena *arena, const struct lane *l)
{
        return arena_printf(arena, "that takes the priority %s", priority_names.text[l->priority]);
}

static bool channel_allows(const struct lane *l, const struct claim_criteria *c)
{
        return !c->channel.p || str_eq(l->channel, c->channel);
}

static struct str channel_words(struct arena *arena, const struct lane *l)
{
        return l->channel.p ? arena_printf(arena, "that names the channel " STR_FMT " or none",
                                           STR_ARG(l->channel)) :
                              STR("that names no channel");
}

static bool capabilities_allow(const struct lane *l, const struct claim_criteria *c)
{
        return caps_within(l->required, c->capabilities);
}

static struct str capabilities_words(struct arena *arena, const struct lane *l)
{
        return l->required.n ? arena_printf(arena, "with the capabilities " STR_FMT,
                                            STR_ARG(caps_words(arena, l->required))) :
                               STR_NONE;
}

/* Owner: none; or pool:<agent name>; or agent_session:<session>; or volume:<name>, of runs that a worker performs. */
static bool owner_allows(const struct lane *l, const struct claim_criteria *c)
{
        struct str ref, kind = str_cut(l->owner, ':', &ref);

        if (!l->owner.p)
                return true;
        if (str_is(kind, "pool"))
                return str_eq(ref, c->agent_name) && ref.n;
        if (str_is(kind, "agent_session"))
                return str_eq(ref, c->session_id) && ref.n;
        if (str_is(kind, "volume"))
                return c->volume.p && (!c->volume.n || str_eq(ref, c->volume));
        return false;
}

static struct str owner_words(struct arena *arena, const struct lane *l)
{
        struct str ref, kind = str_cut(l->owner, ':', &ref);

        if (!l->owner.p)
                return STR_NONE;
        if (str_is(kind, "pool"))
                return arena_printf(arena, "named " STR_FMT ", the pool that owns the task", STR_ARG(ref));
        if (str_is(kind, "agent_session"))
                return arena_printf(arena, "in the session " STR_FMT ", which owns the task", STR_ARG(ref));
        if (str_is(kind, "volume"))
                return arena_printf(arena, "with the volume " STR_FMT ", where the workspace's files are", STR_ARG(ref));
        return arena_printf(arena, "in whose name the task is: its owner " STR_FMT
                                   " is none who claims",
                            STR_ARG(l->owner));
}

static bool agents_allow(const struct lane *l, const struct claim_criteria *c)
{
        struct str only = agents_of(l, RULE_AGENTS);

        return !only.n || names_hold(only, c->agent_name);
}

static struct str agents_words(struct arena *arena, const struct lane *l)
{
        struct str only = agents_of(l, RULE_AGENTS);

        return only.n ? arena_printf(arena, "named one of " STR_FMT, STR_ARG(caps_words(arena, only))) :
                        STR_NONE;
}

static bool peers_allow(const struct lane *l, const struct claim_criteria *c)
{
        struct str only = agents_of(l, RULE_PEERS);

        return !only.n || !c->peer.p || names_hold(only, c->peer);
}

static struct str peers_words(struct arena *arena, const struct lane *l)
{
        struct str only = agents_of(l, RULE_PEERS);

        return only.n ? arena_printf(arena, "that is no network peer, or one of " STR_FMT,
                                     STR_ARG(caps_words(arena, only))) :
                        STR_NONE;
}

/* All must hold.  `asks`: not of every run, so that it is worth saying. */
static const struct filter {
        bool (*allows)(const struct lane *, const struct claim_criteria *);
        struct str (*words)(struct arena *, const struct lane *); /* "an agent …"; absent: any */
        bool asks;
} filters[] = {
        { executor_allows, executor_words, false },
        { workspace_allows, workspace_words, false },
        { priority_allows, priority_words, false },
        { channel_allows, channel_words, true },
        { capabilities_allow, capabilities_words, true },
        { owner_allows, owner_words, true },
        { agents_allow, agents_words, true },
        { peers_allow, peers_words, true },
};

bool lane_allows(const struct lane *l, const struct claim_criteria *c)
{
        for (size_t i = 0; i < LENGTH(filters); i++)
                if (!filters[i].allows(l, c))
                        return false;
        return true;
}

struct str lane_refusal(struct arena *arena, const struct lane *l, const struct claim_criteria *c)
{
        for (size_t i = 0; i < LENGTH(filters); i++)
                if (!filters[i].allows(l, c))
                        return filters[i].words(arena, l);
        return STR_NONE;
}

struct str lane_wants(struct arena *arena, const struct lane *l)
{
        struct str all = STR("");

        for (size_t i = 0; i < LENGTH(filters); i++) {
                struct str words = filters[i].asks ? filters[i].words(arena, l) : STR_NONE;

                if (words.p)
                        all = arena_printf(arena, STR_FMT "%s" STR_FMT, STR_ARG(all), all.n ? "; " : "",
                                           STR_ARG(words));
        }
        return all;
}

int lane_preference(const struct lane *l, const struct claim_criteria *c)
{
        return caps_common(l->preferred, c->capabilities) +
               (l->agent.p ? names_hold(agents_of(l, RULE_AGENTS_PREFERRED), c->agent_name) +
                                     names_hold(agents_of(l, RULE_PEERS_PREFERRED), c->peer) :
                             0);
}
