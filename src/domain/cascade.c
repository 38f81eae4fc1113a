#include "domain/cascade.h"

#include <string.h>

#include "domain/cancel.h"
#include "domain/sql.h"

#define PIECE (5 * US_PER_MS)

#define AT(member) offsetof(struct cascade, member)
static const struct field cascade_fields[] = {
        { "task_id", FIELD_ID, FIELD_COLUMN, AT(task_id), "task" },
        { "at", FIELD_INT, FIELD_COLUMN, AT(at) },
        { "direct", FIELD_BOOL, FIELD_COLUMN, AT(direct) },
        { "actor", FIELD_NAME, FIELD_COLUMN, AT(actor) },
        { "origin", FIELD_NAME, FIELD_COLUMN, AT(origin) },
        { "detail", FIELD_STR, FIELD_COLUMN, AT(detail) },
        { "metadata", FIELD_JSON, FIELD_COLUMN, AT(metadata) },
};
const struct record cascade_record = { "cascade", cascade_fields, LENGTH(cascade_fields),
                                       sizeof(struct cascade), -1 };

static int64_t boot_now(struct tx *tx)
{
        const struct clock *clock = tx_scope(tx)->world->clock;

        return clock->boot(clock->ctx);
}

/* ---- the way down ---- */

/* The next below the root: a task, then what is below it, then its next brother.  ERR_EMPTY: that was all. */
static enum err next_below(struct tx *tx, int64_t root, struct task *task)
{
        enum err e = task->child_count ? tx_one(tx, SQL_TASK_NEXT_CHILD, task, INT(task->id), INT(0)) :
                                         ERR_EMPTY;

        while (e == ERR_EMPTY && task->id != root) {
                int64_t parent = task->parent_task_id;

                e = tx_one(tx, SQL_TASK_NEXT_CHILD, task, INT(parent), INT(task->id));
                if (e == ERR_EMPTY && parent == root)
                        return e;
                if (e == ERR_EMPTY) {
                        enum err there = tx_one(tx, SQL_TASK_GET, task, INT(parent));

                        if (there)
                                return there;
                }
        }
        return e;
}

/* Where it had come to; where that was deleted, it begins anew: what is canceled is passed by.  ERR_EMPTY: nothing
 * of it is there any more. */
static enum err resume(struct tx *tx, const struct cascade *c, struct task *task)
{
        enum err e = c->at ? tx_one(tx, SQL_TASK_GET, task, INT(c->at)) : ERR_EMPTY;

        return e == ERR_EMPTY ? tx_one(tx, SQL_TASK_GET, task, INT(c->task_id)) : e;
}

static bool may_go_on(struct tx *tx, struct cascades *of)
{
        return --of->left >= 0 && (!of->until || boot_now(tx) < of->until);
}

/* ERR_EMPTY at its end, ERR_OK when it has come as far as may be. */
static enum err go_on(struct tx *tx, struct cascade *c, struct cascades *of, struct events *events)
{
        struct task task;
        enum err e = resume(tx, c, &task);

        if (e)
                return e;
        events->tree = task.tree_id;
        if (!c->at) {
                if (!c->direct && task_is_closed(task.status))
                        return ERR_EMPTY;
                of->left--;
                c->at = task.id;
                e = cancel_task(tx, &task, c, events);
        }
        while (!e && !(e = next_below(tx, c->task_id, &task))) {
                if (!may_go_on(tx, of))
                        return ERR_OK;
                c->at = task.id;
                /* What has ended is left as it is, what lives below it is not. */
                if (!task_is_closed(task.status))
                        e = cancel_task(tx, &task, c, events);
        }
        return e;
}

/* What is left becomes a row. */
static enum err keep(struct tx *tx, const struct cascade *c)
{
        ((struct domain *)tx_context(tx))->now.cascading = true;
        tx_tick_again(tx, TICK_AT_ONCE);
        return tx_insert(tx, SQL_CASCADE_ADD, c);
}

static enum err advance(struct tx *tx, struct cascade *c, struct cascades *of)
{
        const struct principal by = { .actor = c->actor, .origin = c->origin, .all_workspaces = true };
        struct events events = { .by = &by };
        bool begins = of->left > 0 || c->at;
        enum err e = begins ? go_on(tx, c, of, &events) : ERR_OK, told;

        if (e && e != ERR_EMPTY)
                return e;
        told = events_append(tx, &events);
        return told || e == ERR_EMPTY ? told : keep(tx, c);
}

/* ---- of an operation ---- */

void cascades_open(struct tx *tx, struct cascades *own)
{
        struct domain *domain = tx_context(tx);

        if (!domain->cascades)
                domain->cascades = own;
}

void cascade_add(struct tx *tx, const struct principal *by, struct cascade c)
{
        struct cascades *all = ((struct domain *)tx_context(tx))->cascades;

        if (all->n == all->size) {
                struct cascade *old = all->items;

                all->size = all->size ? all->size * 2 : 8;
                all->items = arena_array(&tx_scope(tx)->arena, struct cascade, all->size);
                if (all->n)
                        memcpy(all->items, old, all->n * sizeof(*old));
        }
        c.actor = by->actor;
        c.origin = by->origin;
        all->items[all->n++] = c;
}

enum err cascades_close(struct tx *tx, struct cascades *own, enum err result)
{
        struct domain *domain = tx_context(tx);

        if (domain->cascades != own)
                return result;
        while (!result && own->n) {
                struct cascade next = own->items[--own->n];

                result = advance(tx, &next, own);
        }
        domain->cascades = NULL;
        return result;
}

enum err cascade_run(struct tx *tx, const struct principal *by, struct cascade c)
{
        struct cascades own = { .left = CASCADE_TASKS };

        cascades_open(tx, &own);
        cascade_add(tx, by, c);
        return cascades_close(tx, &own, ERR_OK);
}

/* ---- what it has not come to ---- */

/* ERR_EMPTY: none. */
static enum err cascade_above(struct tx *tx, int64_t task, struct cascade *out)
{
        const struct domain *domain = tx_context(tx);

        return domain->now.cascading ? tx_one(tx, SQL_CASCADE_ABOVE, out, INT(task)) : ERR_EMPTY;
}

enum err cascade_reaches(struct tx *tx, int64_t task, bool *reached)
{
        struct cascade c;
        enum err e = cascade_above(tx, task, &c);

        *reached = !e;
        return e == ERR_EMPTY ? ERR_OK : e;
}

enum err cascade_overtake(struct tx *tx, int64_t id, bool *reached)
{
        struct cascades own = { 0 }; /* what depends on it waits for its turn */
        struct principal by = { .all_workspaces = true };
        struct events events = { .by = &by };
        struct cascade c;
        struct task task;
        enum err e = cascade_above(tx, id, &c);

        *reached = !e;
        if (e)
                return e == ERR_EMPTY ? ERR_OK : e;
        by.actor = c.actor;
        by.origin = c.origin;
        e = tx_one(tx, SQL_TASK_GET, &task, INT(id));
        events.tree = task.tree_id;
        cascades_open(tx, &own);
        if (!e)
                e = cancel_task(tx, &task, &c, &events);
        if (!e)
                e = events_append(tx, &events);
        return cascades_close(tx, &own, e);
}

/* ---- the tick ---- */

enum err cascade_load(struct tx *tx)
{
        struct domain *domain = tx_context(tx);
        int64_t any = 0;
        enum err e = tx_numbers(tx, SQL_CASCADE_ANY, &any, 1, NULL, 0);

        domain->now.cascading = any;
        return e;
}

enum err cascade_tick(struct tx *tx, struct domain *domain)
{
        struct cascades own = { .left = CASCADE_TASKS, .until = boot_now(tx) + PIECE };
        struct cascade c;
        enum err e = domain->now.cascading ? tx_row(tx, SQL_CASCADE_NEXT, &c, NULL, 0) : ERR_EMPTY;

        if (e)
                return e == ERR_EMPTY ? ERR_OK : e;
        e = tx_exec(tx, SQL_CASCADE_DROP, INT(c.task_id));
        cascades_open(tx, &own);
        if (!e)
                cascade_add(tx, &(struct principal){ .actor = c.actor, .origin = c.origin }, c);
        e = cascades_close(tx, &own, e);
        if (!e)
                e = cascade_load(tx);
        if (domain->now.cascading)
                tx_tick_again(tx, TICK_AT_ONCE);
        else /* claims that met nothing but its runs and gave up */
                tx_hint(tx, HINT_RESUMED, 0, 0);
        return e;
}
