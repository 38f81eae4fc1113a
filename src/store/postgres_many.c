#include <endian.h>
#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

#include "store/postgres.h"

/* Whether what is about to be done may be about rows that the other statement has named by their keys. */
static bool may_meet(const struct prepared *p, const int64_t *key, uint64_t table, struct str column)
{
        return (p->touches & table) && !(key && str_eq(p->shape.key, column));
}

/* ---- rows that wait ---- */

static void drop(int *list, size_t *n, size_t at)
{
        memmove(list + at, list + at + 1, (--*n - at) * sizeof(*list));
}

static void ahead_drop(struct postgres *pg, size_t at)
{
        struct foreseen *f = &pg->prepared[pg->ahead[at]].foreseen;

        PQclear(f->result);
        free(f->rows);
        *f = (struct foreseen){ 0 };
        drop(pg->ahead, &pg->n_ahead, at);
}

void pg_forget(struct postgres *pg)
{
        while (pg->n_ahead)
                ahead_drop(pg, 0);
        while (pg->n_waiting)
                gather_clear(&pg->prepared[pg->waiting[--pg->n_waiting]].gather);
}

static enum err send_arrays(struct scope *scope, struct postgres *pg, int id, int expected)
{
        struct value values[PARAMETERS_MAX] = { 0 };
        struct prepared *p = &pg->prepared[id];

        for (int i = 0; i < p->n; i++) {
                struct str array = gather_array(&p->gather, i);

                values[i] = (struct value){ .p = array.p, .n = (int)array.n };
        }
        return pg_send(scope, pg, MANY, id, values, expected);
}

static enum err send_single(struct scope *scope, struct postgres *pg, int id, int expected)
{
        struct value values[PARAMETERS_MAX] = { 0 };
        const struct prepared *p = &pg->prepared[id];

        for (int i = 0; i < p->n; i++) {
                struct str single = gather_single(&p->gather, i);

                values[i] = (struct value){ .p = single.p, .n = (int)single.n };
        }
        return pg_send(scope, pg, SINGLE, id, values, expected);
}

static enum err send_gathered(struct scope *scope, struct postgres *pg, size_t at)
{
        int id = pg->waiting[at];
        struct gather *g = &pg->prepared[id].gather;
        int expected = g->expected ? (int)g->n : -1;
        enum err e = g->n == 1 ? send_single(scope, pg, id, expected) : send_arrays(scope, pg, id, expected);

        gather_clear(g);
        drop(pg->waiting, &pg->n_waiting, at);
        return e;
}

enum err pg_send_waiting(struct scope *scope, struct postgres *pg)
{
        enum err e = ERR_OK;

        while (!e && pg->n_waiting)
                e = send_gathered(scope, pg, 0);
        return e;
}

/* Whether a row can be meant by such a statement but once: many of one key may wait together. */
static bool is_once(enum shape_kind kind)
{
        return kind == SHAPE_INSERT || kind == SHAPE_DELETE;
}

enum err pg_send_before(struct scope *scope, struct postgres *pg, int id, const int64_t *key)
{
        const struct prepared *p = &pg->prepared[id];
        enum err e = ERR_OK;

        for (size_t i = pg->n_waiting; !e && i-- > 0;) {
                const struct prepared *w = &pg->prepared[pg->waiting[i]];

                if (may_meet(p, key, w->table, w->shape.key) ||
                    ((p->touches & w->table) && gather_has(&w->gather, *key) && !(w == p && is_once(p->shape.kind))))
                        e = send_gathered(scope, pg, i);
        }
        return e;
}

enum err pg_gather(struct tx *tx, int id, const struct value *values, const int64_t *key, bool expected)
{
        struct postgres *pg = postgres_of(tx->engine);
        struct prepared *p = &pg->prepared[id];
        struct gather *g = &p->gather;
        size_t at = 0;
        enum err e = ERR_OK;

        while (at < pg->n_waiting && pg->waiting[at] != id)
                at++;
        if (at < pg->n_waiting && (g->expected > 0) != expected) {
                e = send_gathered(tx->scope, pg, at);
                at = pg->n_waiting;
        }
        if (!e && at == TOGETHER_MAX)
                e = send_gathered(tx->scope, pg, --at);
        if (e)
                return e;
        if (!g->columns)
                gather_begin(g, p->types, p->n);
        if (at == pg->n_waiting)
                pg->waiting[pg->n_waiting++] = id;
        for (int i = 0; i < p->n; i++)
                gather_add(g, i, values[i].p, values[i].n);
        gather_row(g, key);
        g->expected += expected;
        return gather_is_full(g) ? send_gathered(tx->scope, pg, at) : ERR_OK;
}

/* ---- rows that were read ahead ---- */

static void foreseen_void(struct foreseen *f, int64_t key)
{
        for (size_t i = 0; i < f->n; i++)
                if (f->rows[i].key == key)
                        f->rows[i].is_void = true;
}

void pg_void_ahead(struct postgres *pg, int id, const int64_t *key)
{
        const struct prepared *p = &pg->prepared[id];

        for (size_t i = pg->n_ahead; i-- > 0;) {
                struct prepared *a = &pg->prepared[pg->ahead[i]];

                if (may_meet(p, key, a->touches, a->shape.key))
                        ahead_drop(pg, i);
                else if (p->touches & a->touches)
                        foreseen_void(&a->foreseen, *key);
        }
}

bool pg_was_read(struct foreseen *f, const int64_t *key, int *row)
{
        if (!key)
                return false;
        for (size_t i = 0; i < f->n; i++) {
                size_t at = (f->next + i) % f->n;

                if (f->rows[at].key != *key)
                        continue;
                f->next = at + 1;
                *row = f->rows[at].row;
                return !f->rows[at].is_void;
        }
        return false;
}

enum err pg_read_ahead(struct tx *tx, int id, const int64_t *keys, size_t n)
{
        struct postgres *pg = postgres_of(tx->engine);
        struct prepared *p = &pg->prepared[id];
        enum err e = pg_prepare(tx->scope, tx->engine, id);
        struct gather *g = &p->gather;
        struct foreseen *f = &p->foreseen;

        BUG_ON(n > GATHER_ROWS || (!e && (!p->shape.is_set || p->shape.kind != SHAPE_SELECT)));
        for (size_t i = 0; i < pg->n_ahead; i++)
                if (pg->ahead[i] == id)
                        ahead_drop(pg, i);
        if (pg->n_ahead == TOGETHER_MAX)
                ahead_drop(pg, 0);
        if (!e && !p->many)
                e = pg_prepare_many(tx->scope, pg, id);
        if (!e && !g->columns)
                gather_begin(g, p->types, p->n);
        for (size_t i = 0; !e && i < n; i++) {
                int64_t wide = (int64_t)htobe64((uint64_t)keys[i]);

                e = pg_send_before(tx->scope, pg, id, &keys[i]);
                gather_add(g, 0, (const char *)&wide, sizeof(wide));
                gather_row(g, &keys[i]);
        }
        if (!e)
                e = send_arrays(tx->scope, pg, id, -1);
        gather_clear(g);
        if (!e)
                e = pg_answer(tx, &f->result);
        if (e)
                return e;
        f->n = n;
        f->next = 0;
        f->rows = xcalloc(n, sizeof(*f->rows));
        for (size_t i = 0; i < n; i++)
                f->rows[i] = (struct foreseen_row){ .key = keys[i], .row = -1 };
        for (int i = PQntuples(f->result); i-- > 0;)
                f->rows[pg_number(f->result, i, PQnfields(f->result) - 1) - 1].row = i;
        pg->ahead[pg->n_ahead++] = id;
        return ERR_OK;
}
