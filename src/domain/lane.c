#include "domain/lane.h"

#include <stdlib.h>
#include <string.h>

#include "domain/sql.h"
#include "domain/lane_record.h"

static const char *const executors[] = { "agent", "worker", "gateway", NULL };
const struct names executor_names = { executors, NULL };

#define AT(member) offsetof(struct lane, member)
static const struct field lane_fields[] = {
        { "id", FIELD_INT, FIELD_COLUMN, AT(id) },
        { "workspace_id", FIELD_NAME, FIELD_COLUMN, AT(workspace) },
        { "executor", FIELD_INT, FIELD_COLUMN, AT(executor) },
        { "channel", FIELD_NAME, FIELD_COLUMN, AT(channel) },
        { "priority", FIELD_INT, FIELD_COLUMN, AT(priority) },
        { "required", FIELD_CAPS, FIELD_COLUMN, AT(required) },
        { "preferred", FIELD_CAPS, FIELD_COLUMN, AT(preferred) },
        { "owner", FIELD_NAME, FIELD_COLUMN, AT(owner) },
        { "agent", FIELD_NAME, FIELD_COLUMN, AT(agent) },
};
const struct record lane_record = { "lane", lane_fields, LENGTH(lane_fields), sizeof(struct lane),
                                    -1 };

enum { BUCKETS = 4096 };

struct lane_node {
        struct lane lane;
        struct lane_node *next; /* in its bucket */
};

struct lane_table {
        struct lane_node **all;
        size_t n, size, n_committed, n_kept;
        struct lane_node *buckets[BUCKETS];
};

struct lane_table *lane_table_new(void)
{
        return xcalloc(1, sizeof(struct lane_table));
}

void lane_table_free(struct lane_table *t)
{
        for (size_t i = 0; i < t->n; i++)
                free(t->all[i]);
        free(t->all);
        free(t);
}

static uint64_t mix(uint64_t h, struct str s)
{
        for (size_t i = 0; i < s.n; i++)
                h = (h ^ (unsigned char)s.p[i]) * UINT64_C(1099511628211);
        return (h ^ 0xff) * UINT64_C(1099511628211);
}

static size_t bucket_of(const struct lane *l)
{
        uint64_t h = UINT64_C(1469598103934665603) ^ (uint64_t)(l->executor * 8 + l->priority);

        h = mix(mix(mix(h, l->workspace), l->channel), l->required);
        h = mix(mix(mix(h, l->preferred), l->owner), l->agent);
        return (h ^ h >> 32) % BUCKETS;
}

static bool same(const struct lane *a, const struct lane *b)
{
        return a->executor == b->executor && a->priority == b->priority &&
               str_eq(a->workspace, b->workspace) && str_eq(a->channel, b->channel) &&
               str_eq(a->required, b->required) && str_eq(a->preferred, b->preferred) &&
               str_eq(a->owner, b->owner) && str_eq(a->agent, b->agent);
}

static struct str keep(char **at, struct str s)
{
        struct str copy = { *at, s.n };

        if (!s.p)
                return STR_NONE;
        memcpy(*at, s.p, s.n);
        *at += s.n;
        return copy;
}

static void remember(struct lane_table *t, const struct lane *l)
{
        size_t bytes = l->workspace.n + l->channel.n + l->required.n + l->preferred.n +
                       l->owner.n + l->agent.n;
        struct lane_node *node = xcalloc(1, sizeof(*node) + bytes + 1);
        char *at = (char *)(node + 1);
        size_t bucket;

        node->lane = *l;
        node->lane.workspace = keep(&at, l->workspace);
        node->lane.channel = keep(&at, l->channel);
        node->lane.required = keep(&at, l->required);
        node->lane.preferred = keep(&at, l->preferred);
        node->lane.owner = keep(&at, l->owner);
        node->lane.agent = keep(&at, l->agent);
        bucket = bucket_of(&node->lane);
        node->next = t->buckets[bucket];
        t->buckets[bucket] = node;
        if (t->n == t->size) {
                t->size = t->size ? t->size * 2 : 64;
                t->all = xrealloc(t->all, t->size * sizeof(struct lane_node *));
        }
        t->all[t->n++] = node;
}

void lanes_kept(struct lane_table *t)
{
        t->n_kept = t->n;
}

void lanes_rolled_back(struct lane_table *t, bool whole)
{
        if (whole)
                t->n_kept = t->n_committed;
        while (t->n > t->n_kept) {
                struct lane_node *node = t->all[--t->n];
                struct lane_node **at = &t->buckets[bucket_of(&node->lane)];

                while (*at != node)
                        at = &(*at)->next;
                *at = node->next;
                free(node);
        }
}

void lanes_committed(struct lane_table *t)
{
        t->n_committed = t->n_kept = t->n;
}

size_t lanes_n(const struct lane_table *t)
{
        return t->n;
}

const struct lane *lane_at(const struct lane_table *t, size_t i)
{
        return &t->all[i]->lane;
}

const struct lane *lane_get(const struct lane_table *t, int64_t id)
{
        /* Numbers are given in order, so position and number agree. */
        return id >= 1 && (size_t)id <= t->n ? &t->all[id - 1]->lane : NULL;
}

enum err lanes_load(struct tx *tx, struct lane_table *t)
{
        struct list rows;
        enum err e = tx_rows(tx, SQL_LANE_ALL, &rows, NULL, 0);
        const struct lane *lane = rows.items;

        for (size_t i = 0; !e && i < rows.n; i++) {
                BUG_ON(lane[i].id != (int64_t)i + 1);
                remember(t, &lane[i]);
        }
        lanes_committed(t);
        return e;
}

/* Absent texts are 0 in the table, so that the signature can be unique. */
static enum err number(struct tx *tx, struct str s, int64_t *out)
{
        *out = 0;
        return s.p ? tx_name(tx, s, out) : ERR_OK;
}

static enum err lane_add(struct tx *tx, struct lane_table *t, const struct lane *l, int64_t *id)
{
        int64_t n[6];
        const struct str text[] = { l->workspace, l->channel, l->required,
                                    l->preferred, l->owner,   l->agent };
        struct lane made = *l;
        enum err e = ERR_OK;

        for (size_t i = 0; !e && i < LENGTH(text); i++)
                e = number(tx, text[i], &n[i]);
        made.id = (int64_t)t->n + 1;
        if (!e)
                e = tx_exec(tx, SQL_LANE_ADD, INT(made.id), INT(n[0]), INT(l->executor), INT(n[1]),
                            INT(l->priority), INT(n[2]), INT(n[3]), INT(n[4]), INT(n[5]));
        if (e)
                return e;
        remember(t, &made);
        *id = made.id;
        return ERR_OK;
}

enum err lane_find(struct tx *tx, const struct lane *l, int64_t *id)
{
        struct lane_table *t = lane_table_of(tx);

        for (const struct lane_node *n = t->buckets[bucket_of(l)]; n; n = n->next)
                if (same(&n->lane, l)) {
                        *id = n->lane.id;
                        return ERR_OK;
                }
        return lane_add(tx, t, l, id);
}

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

/* Owner: none; or pool:<agent name>; or agent_session:<session>. */
static bool owner_allows(struct str owner, const struct claim_criteria *c)
{
        struct str ref, kind = str_cut(owner, ':', &ref);

        if (!owner.p)
                return true;
        if (str_is(kind, "pool"))
                return str_eq(ref, c->agent_name) && ref.n;
        if (str_is(kind, "agent_session"))
                return str_eq(ref, c->session_id) && ref.n;
        return false;
}

bool lane_allows(const struct lane *l, const struct claim_criteria *c)
{
        return l->executor == (int64_t)c->executor && l->priority >= c->priority_min &&
               (!c->workspace.p || str_eq(l->workspace, c->workspace)) &&
               (!c->channel.p || str_eq(l->channel, c->channel)) &&
               (!l->agent.p || str_eq(l->agent, c->agent_name)) &&
               caps_within(l->required, c->capabilities) && owner_allows(l->owner, c);
}
