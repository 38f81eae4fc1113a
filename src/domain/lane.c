#include "domain/lane.h"

#include <stdlib.h>
#include <string.h>

#include "domain/claimer.h"
#include "domain/lane_record.h"
#include "domain/sql.h"

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

enum { BUCKETS = 4096, WORD = 64 };

struct lane_node {
        struct lane lane;
        struct lane_group *group;
        struct lane_node *next; /* in its bucket */
        bool filled;            /* may hold a run */
};

struct lanes {
        struct lane_node **items;
        size_t n, size;
};

struct lane_group {
        struct str workspace; /* of its first lane */
        enum executor executor;
        int64_t number;       /* its place in its executor's row, from 1 */
        struct lanes lanes;
        size_t filled;        /* how many of them may hold a run */
        struct lane_group *next;
};

/* The groups of an executor, with a bit for each that may hold a run. */
struct row {
        struct lane_group **groups;
        uint64_t *filled;
        size_t n, size;
};

struct lane_table {
        struct lanes all;
        size_t n_committed, n_kept;
        /* Drained since the last commit: rows that a rollback brings back may be in them. */
        struct lanes drained;
        size_t n_drained_kept;
        bool doubted; /* others may have filled lanes */
        struct row rows[EXECUTORS];
        struct lane_node *buckets[BUCKETS];
        struct lane_group *groups[BUCKETS];
};

struct lane_table *lane_table_new(void)
{
        return xcalloc(1, sizeof(struct lane_table));
}

static void push(struct lanes *l, struct lane_node *node)
{
        if (l->n == l->size) {
                l->size = l->size ? l->size * 2 : 4;
                l->items = xrealloc(l->items, l->size * sizeof(struct lane_node *));
        }
        l->items[l->n++] = node;
}

static void group_free(struct lane_group *g)
{
        free(g->lanes.items);
        free(g);
}

void lane_table_free(struct lane_table *t)
{
        for (size_t i = 0; i < t->all.n; i++)
                free(t->all.items[i]);
        for (size_t x = 0; x < EXECUTORS; x++) {
                for (size_t i = 0; i < t->rows[x].n; i++)
                        group_free(t->rows[x].groups[i]);
                free(t->rows[x].groups);
                free(t->rows[x].filled);
        }
        free(t->all.items);
        free(t->drained.items);
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

/* ---- groups ---- */

static size_t group_bucket(struct str workspace, enum executor x)
{
        uint64_t h = mix(UINT64_C(1469598103934665603) ^ x, workspace);

        return (h ^ h >> 32) % BUCKETS;
}

static struct lane_group *group_find(const struct lane_table *t, struct str workspace, enum executor x)
{
        struct lane_group *g = t->groups[group_bucket(workspace, x)];

        while (g && (g->executor != x || !str_eq(g->workspace, workspace)))
                g = g->next;
        return g;
}

static struct lane_group *group_add(struct lane_table *t, const struct lane *l)
{
        struct lane_group *g = xcalloc(1, sizeof(*g)), **bucket;
        struct row *row = &t->rows[l->executor];

        if (row->n + 1 >= row->size) {
                size_t words = row->size / WORD;

                row->size = row->size ? row->size * 2 : WORD;
                row->groups = xrealloc(row->groups, row->size * sizeof(struct lane_group *));
                row->filled = xrealloc(row->filled, row->size / WORD * sizeof(uint64_t));
                memset(row->filled + words, 0, (row->size / WORD - words) * sizeof(uint64_t));
        }
        row->groups[row->n++] = g;
        *g = (struct lane_group){ .workspace = l->workspace,
                                  .executor = (enum executor)l->executor,
                                  .number = (int64_t)row->n };
        bucket = &t->groups[group_bucket(g->workspace, g->executor)];
        g->next = *bucket;
        *bucket = g;
        return g;
}

static void set_filled(struct lane_table *t, struct lane_node *node, bool filled)
{
        struct lane_group *g = node->group;
        uint64_t *word = &t->rows[g->executor].filled[g->number / WORD];
        uint64_t bit = UINT64_C(1) << g->number % WORD;

        if (node->filled == filled)
                return;
        node->filled = filled;
        g->filled += filled ? 1 : (size_t)-1;
        *word = g->filled ? *word | bit : *word & ~bit;
}

/* The number may come from anybody's file. */
static bool is_known(const struct lane_table *t, int64_t id)
{
        return id >= 1 && (size_t)id <= t->all.n;
}

bool lane_is_filled(const struct lane_table *t, int64_t id)
{
        return is_known(t, id) && t->all.items[id - 1]->filled;
}

void lane_fill(struct tx *tx, int64_t id)
{
        struct lane_table *t = lane_table_of(tx);

        if (is_known(t, id))
                set_filled(t, t->all.items[id - 1], true);
}

void lane_drain(struct tx *tx, int64_t id)
{
        struct lane_table *t = lane_table_of(tx);

        set_filled(t, t->all.items[id - 1], false);
        push(&t->drained, t->all.items[id - 1]);
}

/* ---- the table ---- */

static struct str keep(char **at, struct str s)
{
        struct str copy = { *at, s.n };

        if (!s.p)
                return STR_NONE;
        memcpy(*at, s.p, s.n);
        *at += s.n;
        return copy;
}

static struct lane_node *remember(struct lane_table *t, const struct lane *l)
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
        node->group = group_find(t, l->workspace, (enum executor)l->executor);
        if (!node->group)
                node->group = group_add(t, &node->lane);
        push(&node->group->lanes, node);
        push(&t->all, node);
        return node;
}

/* The newest lane.  It is its group's newest too, and a group without lanes its row's. */
static void forget(struct lane_table *t)
{
        struct lane_node *node = t->all.items[--t->all.n];
        struct lane_node **at = &t->buckets[bucket_of(&node->lane)];
        struct lane_group *g = node->group, **bucket;

        while (*at != node)
                at = &(*at)->next;
        *at = node->next;
        set_filled(t, node, false);
        if (--g->lanes.n == 0) {
                bucket = &t->groups[group_bucket(g->workspace, g->executor)];
                while (*bucket != g)
                        bucket = &(*bucket)->next;
                *bucket = g->next;
                t->rows[g->executor].n--;
                group_free(g);
        }
        free(node);
}

void lanes_kept(struct lane_table *t)
{
        t->n_kept = t->all.n;
        t->n_drained_kept = t->drained.n;
}

void lanes_rolled_back(struct lane_table *t, bool whole)
{
        if (whole) {
                t->n_kept = t->n_committed;
                t->n_drained_kept = 0;
        }
        while (t->drained.n > t->n_drained_kept)
                set_filled(t, t->drained.items[--t->drained.n], true);
        while (t->all.n > t->n_kept)
                forget(t);
}

void lanes_committed(struct lane_table *t)
{
        t->n_committed = t->n_kept = t->all.n;
        t->drained.n = t->n_drained_kept = 0;
}

size_t lanes_n(const struct lane_table *t)
{
        return t->all.n;
}

const struct lane *lane_at(const struct lane_table *t, size_t i)
{
        return &t->all.items[i]->lane;
}

const struct lane *lane_get(const struct lane_table *t, int64_t id)
{
        /* Numbers are given in order, so position and number agree. */
        return is_known(t, id) ? lane_at(t, (size_t)id - 1) : NULL;
}

enum err lanes_load(struct tx *tx, struct lane_table *t)
{
        struct list rows;
        size_t known = t->all.n;
        enum err e = tx_all(tx, SQL_LANE_NEWER, &rows, INT((int64_t)known));
        const struct lane *lane = rows.items;

        for (size_t i = 0; !e && i < rows.n; i++) {
                BUG_ON(lane[i].id != (int64_t)(known + i) + 1 || lane[i].executor < 0 || lane[i].executor >= EXECUTORS);
                set_filled(t, remember(t, &lane[i]), true);
        }
        lanes_committed(t);
        return e;
}

void lanes_doubt(struct lane_table *t)
{
        t->doubted = true;
}

/* A rollback leaves what was found: a lane may be thought to hold a run that it does not. */
enum err lanes_look(struct tx *tx, struct lane_table *t)
{
        int64_t *ids;
        size_t n;
        enum err e;

        if (!t->doubted)
                return ERR_OK;
        e = tx_number_rows(tx, SQL_LANES_FILLED, &ids, &n, 1, NULL, 0);
        t->doubted = e != ERR_OK;
        for (size_t i = 0; !e && i < n; i++)
                if (is_known(t, ids[i]))
                        set_filled(t, t->all.items[ids[i] - 1], true);
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
        made.id = (int64_t)t->all.n + 1;
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

/* ---- in turn ---- */

const struct lane_group *lane_group_of(const struct lane_table *t, struct str workspace, enum executor x)
{
        return group_find(t, workspace, x);
}

int64_t lane_group_number(const struct lane_group *g)
{
        return g->number;
}

const struct lane *lane_group_next(const struct lane_group *g, const struct claim_criteria *c, size_t *at)
{
        while (*at < g->lanes.n) {
                const struct lane_node *node = g->lanes.items[(*at)++];

                if (node->filled && lane_allows(&node->lane, c))
                        return &node->lane;
        }
        return NULL;
}

/* The first whose bit is set, from `from` to `to` included; 0 = none. */
static int64_t first_filled(const struct row *row, int64_t from, int64_t to)
{
        for (int64_t w = from / WORD; from <= to && w <= to / WORD; w++) {
                uint64_t word = row->filled[w];

                if (w == from / WORD)
                        word &= UINT64_MAX << from % WORD;
                if (word) {
                        int64_t found = w * WORD + __builtin_ctzll(word);

                        return found <= to ? found : 0;
                }
        }
        return 0;
}

const struct lane_group *lanes_turn(const struct lane_table *t, struct lane_turn *turn)
{
        const struct row *row = &t->rows[turn->executor];
        int64_t n = (int64_t)row->n, last = turn->last < n ? turn->last : n, found;

        found = first_filled(row, turn->at + 1, turn->around ? last : n);
        if (!found && !turn->around) {
                turn->around = true;
                found = first_filled(row, 1, last);
        }
        turn->at = found;
        return found ? row->groups[found - 1] : NULL;
}
