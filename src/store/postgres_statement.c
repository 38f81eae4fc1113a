#include <endian.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/failpoint.h"
#include "store/postgres.h"

/* ---- texts ---- */

static bool has_word(const char *text, const char *word)
{
        return strstr(text, word) != NULL;
}

/* Our own words are in capitals. */
static bool text_writes(const char *text)
{
        return has_word(text, "INSERT ") || has_word(text, "UPDATE ") || has_word(text, "DELETE ");
}

static int table_at(const struct postgres *pg, struct str table)
{
        int i = 0;

        while (i < TABLES_MAX && pg->tables[i].p && !str_eq(pg->tables[i], table))
                i++;
        return i;
}

uint64_t pg_table_bit(struct postgres *pg, struct str table)
{
        int i = table_at(pg, table);

        BUG_ON(i == TABLES_MAX);
        pg->tables[i] = table;
        return (uint64_t)1 << i;
}

/* A statement that knows its key has no other table than its own. */
static uint64_t tables_of(const struct postgres *pg, const struct prepared *p)
{
        const char *at = p->shape.key.p ? p->shape.table.p : p->text;
        uint64_t bits = 0;
        struct str word;

        while ((word = shape_word(&at)).n) {
                int i = table_at(pg, word);

                if (i < TABLES_MAX && pg->tables[i].p)
                        bits |= (uint64_t)1 << i;
                if (p->shape.key.p)
                        break;
        }
        return bits;
}

static void read_text(struct scope *scope, struct postgres *pg, int id)
{
        struct prepared *p = &pg->prepared[id];

        p->text = str_c(&pg->arena, str_from(engine_text(scope, &pg->engine, id)));
        p->shape = shape_of(p->text);
        p->writes = text_writes(p->text);
        if (p->writes && p->shape.kind != SHAPE_OTHER)
                p->table = pg_table_bit(pg, p->shape.table);
}

void pg_read_texts(struct scope *scope, struct postgres *pg)
{
        for (size_t i = 0; i < pg->engine.n; i++)
                read_text(scope, pg, (int)i);
        for (size_t i = 0; i < pg->engine.n; i++)
                pg->prepared[i].touches = tables_of(pg, &pg->prepared[i]);
}

void pg_statements_done(struct postgres *pg)
{
        for (size_t i = 0; i < pg->engine.n; i++) {
                gather_done(&pg->prepared[i].gather);
                free(pg->prepared[i].types);
        }
        free(pg->prepared);
        arena_done(&pg->arena);
}

/* ---- preparing ---- */

/* What PostgreSQL takes a parameter for by its place; every number is sent as the widest one. */
static Oid parameter_type(Oid understood)
{
        return understood == TEXT_TYPE || understood == BYTEA_TYPE ? understood : INT8_TYPE;
}

/* `$1 IS NULL` tells no type, and is refused for it however clear the other places are: it is left out. */
static const char *without_null_tests(struct arena *arena, const char *text)
{
        static const char *const tests[] = { " IS NULL", " IS NOT NULL" };
        char *copy = str_c(arena, str_from(text));

        for (char *at = strchr(copy, '$'); at; at = strchr(at + 1, '$')) {
                char *end = at + 1 + strspn(at + 1, "0123456789");

                for (size_t i = 0; i < LENGTH(tests); i++) {
                        size_t n = strlen(tests[i]);

                        if (strncmp(end, tests[i], n) != 0)
                                continue;
                        memset(at, ' ', (size_t)(end - at) + n);
                        memcpy(at, "TRUE", 4);
                }
        }
        return copy;
}

/* A number that stands at no place, for the text is one of several that take the same parameters, is
 * taken for a number; 0: PostgreSQL tells.  The length of the array. */
static int unplaced(const char *text, Oid types[PARAMETERS_MAX])
{
        int n = 0;

        for (int i = 0; i < PARAMETERS_MAX; i++)
                types[i] = INT8_TYPE;
        for (const char *at = strchr(text, '$'); at; at = strchr(at + 1, '$')) {
                int number = (int)strtol(at + 1, NULL, 10);

                BUG_ON(number > PARAMETERS_MAX);
                if (number)
                        types[number - 1] = 0;
                n = number > n ? number : n;
        }
        return n;
}

static enum err describe(struct scope *scope, struct postgres *pg, const char *text, struct prepared *out)
{
        PGresult *result = NULL;
        Oid types[PARAMETERS_MAX];
        enum err e;
        int n;

        text = without_null_tests(&scope->arena, text);
        n = unplaced(text, types);
        if (!pg_queue(pg, PQsendPrepare(pg->conn, "", text, n, types), -1) ||
            !pg_queue(pg, PQsendDescribePrepared(pg->conn, ""), -1))
                return pg_lost(scope, pg);
        e = pg_settle(scope, pg, &result);
        if (e)
                return e;
        out->n = PQnparams(result);
        BUG_ON(out->n > PARAMETERS_MAX);
        out->types = xcalloc((size_t)out->n + 1, sizeof(Oid));
        for (int i = 0; i < out->n; i++)
                out->types[i] = parameter_type(PQparamtype(result, i));
        PQclear(result);
        return ERR_OK;
}

/* "s7", of the statement for many rows "m7". */
static const char *name_of(char kind, int id, char name[16])
{
        snprintf(name, 16, "%c%d", kind, id);
        return name;
}

static Oid array_type(Oid of)
{
        return of == TEXT_TYPE ? 1009 : of == BYTEA_TYPE ? 1001 : 1016;
}

enum err pg_prepare_many(struct scope *scope, struct postgres *pg, int id)
{
        struct prepared *p = &pg->prepared[id];
        const char *names[PARAMETERS_MAX];
        Oid types[PARAMETERS_MAX];
        const char *text;
        char name[16];

        for (int i = 0; i < p->n; i++) {
                types[i] = array_type(p->types[i]);
                names[i] = p->types[i] == TEXT_TYPE ? "text" : p->types[i] == BYTEA_TYPE ? "bytea" : "bigint";
        }
        p->many = true;
        text = shape_set_text(&scope->arena, p->text, names, p->n);
        return pg_queue(pg, PQsendPrepare(pg->conn, name_of(MANY, id, name), text, p->n, types), -1) ?
                       ERR_OK :
                       pg_lost(scope, pg);
}

enum err pg_prepare(struct scope *scope, struct engine *engine, int id)
{
        struct postgres *pg = postgres_of(engine);
        struct prepared *p = &pg->prepared[id];
        char name[16];
        enum err e = ERR_OK;

        BUG_ON(id < 0 || (size_t)id >= engine->n);
        if (p->is)
                return ERR_OK;
        if (!pg->conn)
                return pg_lost(scope, pg);
        if (!p->text)
                read_text(scope, pg, id);
        if (!p->types)
                e = describe(scope, pg, p->text, p);
        if (!e && !pg_queue(pg, PQsendPrepare(pg->conn, name_of(SINGLE, id, name), p->text, p->n, p->types), -1))
                e = pg_lost(scope, pg);
        if (!e && p->shape.is_set && p->writes && pg->mode == ENGINE_WRITER)
                e = pg_prepare_many(scope, pg, id);
        if (!e)
                e = pg_settle(scope, pg, NULL);
        if (e && !engine->failure)
                return fail(scope, ERR_INTERNAL, STR_FMT " in: %.2000s", STR_ARG(scope->fault.detail), p->text);
        p->is = !e;
        return e;
}

/* ---- parameters ---- */

static void value_text(struct value *v, struct str text)
{
        v->p = text.p;
        v->n = (int)text.n;
}

static void value_number(struct value *v, int64_t number)
{
        v->number = (int64_t)htobe64((uint64_t)number);
        v->p = (const char *)&v->number;
        v->n = sizeof(v->number);
}

static enum err value_name(struct tx *tx, struct value *v, struct str text)
{
        int64_t id = 0;
        enum err e = text.p ? tx_name(tx, text, &id) : ERR_OK;

        if (text.p)
                value_number(v, id);
        return e;
}

static enum err value_arg(struct tx *tx, struct value *v, const struct arg *arg)
{
        switch (arg->kind) {
        case ARG_NULL:
                break;
        case ARG_INT:
                value_number(v, arg->number);
                break;
        case ARG_TEXT:
        case ARG_BLOB:
                value_text(v, arg->text);
                break;
        case ARG_NAME:
                return value_name(tx, v, arg->text);
        }
        return ERR_OK;
}

/* Sent for something else it would be read wrongly, or not at all. */
static bool suits(const struct value *v, Oid type)
{
        bool is_number = v->p == (const char *)&v->number;

        return !v->p || is_number == (type == INT8_TYPE);
}

static enum err values_of(struct tx *tx, int id, struct value values[PARAMETERS_MAX],
                          const struct arg *args, size_t n)
{
        const struct prepared *p = &postgres_of(tx->engine)->prepared[id];
        enum err e = pg_prepare(tx->scope, tx->engine, id);

        BUG_ON(n > PARAMETERS_MAX);
        for (size_t i = 0; !e && i < n; i++) {
                e = value_arg(tx, &values[i], &args[i]);
                if (!e && (int)i < p->n && !suits(&values[i], p->types[i]))
                        e = fail(tx->scope, ERR_INTERNAL, "parameter %zu of %s is of another type",
                                 i + 1, tx->engine->registry[id].name);
        }
        return e;
}

enum err pg_send(struct scope *scope, struct postgres *pg, char kind, int id, const struct value *values, int expected)
{
        const char *at[PARAMETERS_MAX] = { 0 };
        int lengths[PARAMETERS_MAX] = { 0 }, binary[PARAMETERS_MAX];
        const struct prepared *p = &pg->prepared[id];
        char name[16];

        for (int i = 0; i < p->n; i++) {
                at[i] = values[i].p;
                lengths[i] = values[i].n;
                binary[i] = 1;
        }
        return pg_queue(pg, PQsendQueryPrepared(pg->conn, name_of(kind, id, name), p->n, at, lengths, binary, 1),
                        expected) ?
                       ERR_OK :
                       pg_lost(scope, pg);
}

/* An error makes a rollback due, whether or not something was written. */
enum err pg_answer(struct tx *tx, PGresult **result)
{
        enum err e = pg_settle(tx->scope, postgres_of(tx->engine), result);

        tx->writes += e != ERR_OK;
        return e;
}

/* The first parameter, if it is a number. */
static const int64_t *first_of(const struct prepared *p, const struct value *values, int64_t *number)
{
        uint64_t wide;

        if (!p->n || p->types[0] != INT8_TYPE || !values[0].p)
                return NULL;
        memcpy(&wide, values[0].p, sizeof(wide));
        *number = (int64_t)be64toh(wide);
        return number;
}

/* The key of the rows that a statement is about; NULL: it is not known. */
static const int64_t *key_of(const struct prepared *p, const struct value *values, int64_t *key)
{
        return p->shape.key.p ? first_of(p, values, key) : NULL;
}

/* ---- rows ---- */

static uint16_t digit(const char *p, int at)
{
        uint16_t d;

        memcpy(&d, p + 2 * at, 2);
        return be16toh(d);
}

/* A whole number of PostgreSQL's own kind, which sum() gives: count, weight, sign, scale, then digits
 * to the base of 10,000. */
static int64_t numeric(const char *p)
{
        int n = digit(p, 0), weight = (int16_t)digit(p, 1);
        int64_t value = 0;

        for (int i = 0; i <= weight; i++)
                value = value * 10000 + (i < n ? digit(p, 4 + i) : 0);
        return digit(p, 2) ? -value : value;
}

int64_t pg_number(const PGresult *result, int row, int column)
{
        const char *p = PQgetvalue(result, row, column);
        uint64_t wide;
        uint32_t narrow;

        if (PQgetisnull(result, row, column))
                return 0;
        switch (PQftype(result, column)) {
        case INT8_TYPE:
                memcpy(&wide, p, sizeof(wide));
                return (int64_t)be64toh(wide);
        case INT4_TYPE:
                memcpy(&narrow, p, sizeof(narrow));
                return (int32_t)be32toh(narrow);
        case INT2_TYPE:
                return (int16_t)digit(p, 0);
        case BOOL_TYPE:
                return *p != 0;
        case NUMERIC_TYPE:
                return numeric(p);
        default:
                return 0;
        }
}

static struct str column_text(struct arena *arena, const PGresult *result, int row, int column)
{
        if (PQgetisnull(result, row, column))
                return STR_NONE;
        return str_dup(arena, (struct str){ PQgetvalue(result, row, column),
                                            (size_t)PQgetlength(result, row, column) });
}

static enum err read_field(struct tx *tx, const PGresult *result, int row, int column,
                           const struct field *f, void *base)
{
        bool is_text = field_is_text(f);

        return field_set(tx, f, base, is_text ? 0 : pg_number(result, row, column),
                         is_text ? column_text(&tx->scope->arena, result, row, column) : STR_NONE);
}

static enum err read_row(struct tx *tx, const PGresult *result, int row, struct rows *rows)
{
        const struct record *record = rows->record;
        void *out = rows_next(tx->scope, rows);
        int column = 0, columns = PQnfields(result);
        enum err e = ERR_OK;

        for (; column < (int)rows->columns && column < columns; column++)
                ((int64_t *)out)[column] = pg_number(result, row, column);
        for (size_t i = 0; !e && record && i < record->n && column < columns; i++)
                if (record->fields[i].flags & FIELD_COLUMN)
                        e = read_field(tx, result, row, column++, &record->fields[i], out);
        return e;
}

static enum err note_write(struct tx *tx, int id, const int64_t *key)
{
        struct postgres *pg = postgres_of(tx->engine);

        pg_void_ahead(pg, id, key);
        pg->wrote = true;
        pg->written |= pg->prepared[id].touches;
        tx->writes++;
        return failpoint(tx->scope, FAILPOINT_WRITE);
}

enum err pg_query(struct tx *tx, int id, const struct arg *args, size_t n, struct rows *rows)
{
        struct postgres *pg = postgres_of(tx->engine);
        struct prepared *p = &pg->prepared[id];
        struct value values[PARAMETERS_MAX] = { 0 };
        PGresult *result = NULL;
        enum err e = values_of(tx, id, values, args, n);
        int64_t number;
        const int64_t *key = e ? NULL : key_of(p, values, &number);
        int row;

        if (!e && rows->most == 1 && p->foreseen.result && pg_was_read(&p->foreseen, first_of(p, values, &number), &row))
                return row < 0 ? ERR_OK : read_row(tx, p->foreseen.result, row, rows);
        if (!e)
                e = pg_send_before(tx->scope, pg, id, key);
        if (!e && p->writes)
                e = note_write(tx, id, key);
        if (!e)
                e = pg_send(tx->scope, pg, SINGLE, id, values, -1);
        if (!e)
                e = pg_answer(tx, &result);
        for (int i = 0; !e && i < PQntuples(result) && rows->n < rows->most; i++)
                e = read_row(tx, result, i, rows);
        PQclear(result);
        return e;
}

/* ---- writing ---- */

enum err pg_flush(struct tx *tx)
{
        enum err e = pg_send_waiting(tx->scope, postgres_of(tx->engine));

        return e ? e : pg_answer(tx, NULL);
}

/* How sure who writes is, and wants to be, of how many rows it changes. */
enum certainty { UNTOLD, EXPECTS_ONE, TOLD };

static enum err put(struct tx *tx, int id, const struct value *values, enum certainty certainty, int64_t *changed)
{
        struct postgres *pg = postgres_of(tx->engine);
        const struct prepared *p = &pg->prepared[id];
        PGresult *result = NULL;
        int64_t number;
        const int64_t *key = key_of(p, values, &number);
        enum err e = pg_send_before(tx->scope, pg, id, key);

        if (!e)
                e = note_write(tx, id, key);
        if (e)
                return e;
        if (certainty != TOLD && p->shape.is_set && p->table && !pg->guarded) {
                e = pg_gather(tx, id, values, key, certainty == EXPECTS_ONE);
                if (!e && changed)
                        *changed = 1;
        } else {
                e = pg_send(tx->scope, pg, SINGLE, id, values, -1);
                if (!e && changed)
                        e = pg_answer(tx, &result);
                if (!e && changed)
                        *changed = strtoll(PQcmdTuples(result), NULL, 10);
                PQclear(result);
        }
        /* A long queue is read now and then: its results need memory. */
        return e || pg->queued < QUEUE_MOST ? e : pg_answer(tx, NULL);
}

static enum err put_args(struct tx *tx, int id, enum certainty certainty, int64_t *changed,
                         const struct arg *args, size_t n)
{
        struct value values[PARAMETERS_MAX] = { 0 };
        enum err e = values_of(tx, id, values, args, n);

        return e ? e : put(tx, id, values, certainty, changed);
}

enum err pg_write(struct tx *tx, int id, int64_t *changed, const struct arg *args, size_t n)
{
        return put_args(tx, id, changed ? TOLD : UNTOLD, changed, args, n);
}

enum err pg_write_one(struct tx *tx, int id, int64_t *changed, const struct arg *args, size_t n)
{
        return put_args(tx, id, EXPECTS_ONE, changed, args, n);
}

enum err pg_insert(struct tx *tx, int id, const void *in)
{
        const struct record *record = tx->engine->registry[id].record;
        struct arg args[PARAMETERS_MAX];
        size_t n = 0;

        for (size_t i = 0; i < record->n; i++)
                if (record->fields[i].flags & FIELD_COLUMN) {
                        BUG_ON(n == PARAMETERS_MAX);
                        args[n++] = field_arg(&record->fields[i], in);
                }
        return put_args(tx, id, UNTOLD, NULL, args, n);
}
