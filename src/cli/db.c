/* Commands on a database itself; they ask no server. */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/reply.h"
#include "domain/invariant.h"
#include "domain/migrations.h"
#include "domain/search.h"
#include "store/backup.h"
#include "store/copy.h"
#include "store/state.h"

/* ---- which database ---- */

/* A URL, or the file of a data directory. */
struct place {
        const char *path;
        bool is_url;
        int lock; /* of the data directory; -1: not taken */
};

static const char *file_in(struct cli *cli, const char *directory)
{
        return arena_printf(&cli->scope.arena, "%s/baton.db", directory).p;
}

/* As `baton serve` finds its store. */
static enum err find_place(struct cli *cli, bool make, struct place *out)
{
        const char *store = cli_setting(cli, "store", "BATON_STORE");
        enum err e;

        *out = (struct place){ .path = store, .is_url = store, .lock = -1 };
        if (store && !store_is_url(store))
                return fail_field(&cli->scope, "store", ERR_VALIDATION,
                                  "--store must be a URL as postgres://user@host/name");
        e = find_data(cli, make);
        if (!e && !store)
                out->path = file_in(cli, cli->connection.data);
        return e;
}

/* As a server holds it: none can start meanwhile. */
static enum err lock_directory(struct cli *cli, const char *directory, struct place *place)
{
        const char *path = arena_printf(&cli->scope.arena, "%s/lock", directory).p;

        place->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (place->lock < 0)
                return fail(&cli->scope, ERR_UNAVAILABLE, "cannot write in %s: %s", directory, strerror(errno));
        if (flock(place->lock, LOCK_EX | LOCK_NB) == 0)
                return ERR_OK;
        close(place->lock);
        place->lock = -1;
        return fail(&cli->scope, ERR_CONFLICT, "a server uses %s: stop it first", directory);
}

static void leave(struct place *place)
{
        if (place->lock >= 0)
                close(place->lock);
}

/* ---- showing ---- */

static bool shows_json(struct cli *cli, json_t *shown)
{
        json_array_append_new(cli->kept, shown);
        if (cli->format != OUTPUT_TABLE)
                print_line(cli, shown);
        return cli->format != OUTPUT_TABLE;
}

static json_t *text_of(struct str text)
{
        return json_stringn(text.p, text.n);
}

/* The last n of the program's migrations. */
static json_t *pending_list(size_t n)
{
        json_t *list = json_array();

        for (size_t i = migrations_n - n; i < migrations_n; i++)
                json_array_append_new(list, json_pack("{s:i, s:s}", "number", migrations[i].number, "name",
                                                      migrations[i].name));
        return list;
}

static const struct column pending_columns[] = { { "MIGRATION", "number", SHOW_NUMBER },
                                                 { "NAME", "name", SHOW_TEXT } };

/* ---- status ---- */

static void show_state(struct cli *cli, const struct database_state *state, bool served)
{
        static const struct column columns[] = { { "TABLE", "name", SHOW_TEXT }, { "ROWS", "rows", SHOW_NUMBER } };
        const struct state_table *table = state->tables.items;
        json_t *tables = json_array(), *pending = pending_list(state->pending), *shown;

        for (size_t i = 0; i < state->tables.n; i++)
                json_array_append_new(tables, json_pack("{s:o, s:I}", "name", text_of(table[i].name), "rows",
                                                        (json_int_t)table[i].rows));
        shown = json_pack("{s:o, s:o, s:I, s:I, s:I, s:I, s:b}", "engine", text_of(state->engine), "database",
                          text_of(state->place), "schema", (json_int_t)state->schema, "program_schema",
                          (json_int_t)migrations[migrations_n - 1].number, "needs_schema", (json_int_t)state->needs,
                          "bytes", (json_int_t)state->bytes, "served", served);
        if (cli->format == OUTPUT_TABLE) {
                object_print(&cli->out, shown);
                fputc('\n', cli->out.to);
                if (state->pending) {
                        table_print(&cli->out, pending_columns, LENGTH(pending_columns), pending);
                        fputc('\n', cli->out.to);
                }
                table_print(&cli->out, columns, LENGTH(columns), tables);
        }
        json_object_set_new(shown, "pending", pending);
        json_object_set_new(shown, "tables", tables);
        (void)shows_json(cli, shown);
}

static bool is_too_new(const struct database_state *state)
{
        return state->needs > migrations[migrations_n - 1].number;
}

enum err command_db_status(struct cli *cli)
{
        struct database_state state;
        struct place place;
        enum err e = find_place(cli, false, &place);

        if (!e)
                e = store_state(&cli->scope, place.path, migrations, migrations_n, &state);
        if (e)
                return e;
        show_state(cli, &state, place.is_url ? state.users > 0 : data_is_served(cli));
        cli->status = is_too_new(&state) ? err_exit_status(ERR_CONFLICT) : state.pending > 0;
        return ERR_OK;
}

/* ---- migrate ---- */

static void show_pending(struct cli *cli, const struct database_state *state, const char *word)
{
        json_t *pending = pending_list(state->pending);
        json_t *shown = json_pack("{s:I, s:i, s:o}", "schema", (json_int_t)state->schema, "program_schema",
                                  migrations[migrations_n - 1].number, word, pending);

        if (shows_json(cli, shown))
                return;
        if (state->pending)
                table_print(&cli->out, pending_columns, LENGTH(pending_columns), pending);
        else
                fprintf(cli->out.to, "nothing to do: the database has schema %lld\n", (long long)state->schema);
}

/* No database: everything is to be done. */
static enum err read_state(struct cli *cli, const struct place *place, struct database_state *state)
{
        enum err e = store_state(&cli->scope, place->path, migrations, migrations_n, state);

        if (e == ERR_NOT_FOUND) {
                cli->scope.fault = (struct fault){ 0 };
                *state = (struct database_state){ .pending = migrations_n };
                return ERR_OK;
        }
        if (!e && is_too_new(state))
                e = fail(&cli->scope, ERR_CONFLICT, "the database needs a program that knows schema %lld; this one"
                                                    " knows %d: use a newer baton",
                         (long long)state->needs, migrations[migrations_n - 1].number);
        return e;
}

enum err command_db_migrate(struct cli *cli)
{
        bool plans = cli_option(cli, "plan"), applies = cli_option(cli, "apply");
        struct database_state state;
        struct place place;
        enum err e;

        if (plans == applies)
                return fail(&cli->scope, ERR_VALIDATION, "say either --plan or --apply");
        e = find_place(cli, applies, &place);
        if (!e && applies && !place.is_url)
                e = lock_directory(cli, cli->connection.data, &place);
        if (!e)
                e = read_state(cli, &place, &state);
        if (!e && applies && state.pending)
                e = store_migrate(&cli->scope, place.path, migrations, migrations_n);
        if (!e)
                show_pending(cli, &state, applies ? "applied" : "pending");
        leave(&place);
        return e;
}

/* ---- backup ---- */

static int64_t size_of(const char *path)
{
        struct stat st = { 0 };

        return stat(path, &st) ? 0 : st.st_size;
}

enum err command_db_backup(struct cli *cli)
{
        const char *to = cli->args[0];
        struct place place;
        json_t *shown;
        enum err e = find_place(cli, false, &place);

        if (!e && place.is_url)
                e = fail(&cli->scope, ERR_VALIDATION,
                         "a PostgreSQL database is backed up with its own tools, also while servers use it:"
                         " pg_dump --format=custom --file=%s URL, and pg_restore to bring it back",
                         to);
        if (!e && access(place.path, F_OK))
                e = fail(&cli->scope, ERR_NOT_FOUND, "there is no database %s: %s", place.path, strerror(errno));
        if (!e)
                e = store_backup(&cli->scope, place.path, to, cli_option(cli, "force"));
        if (e)
                return e;
        shown = json_pack("{s:s, s:I}", "file", to, "bytes", (json_int_t)size_of(to));
        if (!shows_json(cli, shown))
                fprintf(cli->out.to, "%s: %lld bytes\n", to, (long long)size_of(to));
        return ERR_OK;
}

/* ---- restore ---- */

/* Sentences, struct str.  What reads the rows comes when the file is sound and of this program's schema. */
static enum err look(struct cli *cli, const char *path, struct list *faults)
{
        struct str *chain = arena_new(&cli->scope.arena, struct str);
        bool current;
        enum err e = store_verify(&cli->scope, path, migrations, migrations_n, faults, &current);

        if (!e && current && !faults->n)
                e = store_read(&cli->scope, path, invariants, invariants_n, invariants_ask, faults);
        if (!e && current && !faults->n) {
                e = audit_look(cli, path, chain);
                *faults = (struct list){ chain, chain->p != NULL };
        }
        return e;
}

static void show_faults(struct cli *cli, const char *path, const struct list *faults)
{
        const struct str *fault = faults->items;
        json_t *list = json_array();
        json_t *shown = json_pack("{s:s, s:b, s:o}", "file", path, "ok", !faults->n, "faults", list);

        for (size_t i = 0; i < faults->n; i++)
                json_array_append_new(list, text_of(fault[i]));
        cli->status = faults->n > 0;
        if (shows_json(cli, shown))
                return;
        if (!faults->n)
                fprintf(cli->out.to, "%s: sound\n", path);
        for (size_t i = 0; i < faults->n; i++)
                fprintf(cli->out.to, "%s: " STR_FMT "\n", path, STR_ARG(text_clean(&cli->scope, fault[i])));
}

static enum err restore(struct cli *cli, const char *from)
{
        struct place place = { .lock = -1 };
        const char *aside = NULL;
        json_t *shown;
        enum err e = find_data(cli, true);

        if (!e)
                e = lock_directory(cli, cli->connection.data, &place);
        place.path = file_in(cli, cli->connection.data);
        if (!e)
                e = store_restore(&cli->scope, from, place.path, cli_option(cli, "force"), &aside);
        leave(&place);
        if (e)
                return e;
        shown = json_pack("{s:s, s:s, s:s?}", "file", from, "database", place.path, "aside", aside);
        if (shows_json(cli, shown))
                return ERR_OK;
        fprintf(cli->out.to, "%s is the database now\n", place.path);
        if (aside)
                fprintf(cli->out.to, "what was there is %s\n", aside);
        return ERR_OK;
}

enum err command_db_restore(struct cli *cli)
{
        const char *from = cli->args[0];
        struct list faults = { 0 };
        enum err e = look(cli, from, &faults);

        if (e)
                return e;
        if (cli_option(cli, "verify") || faults.n) {
                show_faults(cli, from, &faults);
                return ERR_OK;
        }
        return restore(cli, from);
}

/* ---- copy ---- */

static void show_tables(struct cli *cli, const struct list *tables)
{
        static const struct column columns[] = { { "TABLE", "name", SHOW_TEXT },
                                                 { "ROWS", "rows", SHOW_NUMBER },
                                                 { "DIGEST EQUAL", "equal", SHOW_TEXT },
                                                 { "DIGEST", "digest", SHOW_TEXT } };
        const struct copied_table *table = tables->items;
        json_t *list = json_array();

        for (size_t i = 0; i < tables->n; i++) {
                char hex[2 * COPY_DIGEST + 1];

                sodium_bin2hex(hex, sizeof(hex), table[i].digest, COPY_DIGEST);
                json_array_append_new(list, json_pack("{s:o, s:I, s:b, s:s}", "name", text_of(table[i].name), "rows",
                                                      (json_int_t)table[i].rows, "equal", 1, "digest", hex));
        }
        if (!shows_json(cli, json_pack("{s:o}", "tables", list)))
                table_print(&cli->out, columns, LENGTH(columns), list);
}

/* A data directory stands for the file in it. */
static enum err find_target(struct cli *cli, const char *to, struct place *out)
{
        struct stat st;

        *out = (struct place){ .path = to, .is_url = store_is_url(to), .lock = -1 };
        if (out->is_url || stat(to, &st) || !S_ISDIR(st.st_mode))
                return ERR_OK;
        out->path = file_in(cli, to);
        return lock_directory(cli, to, out);
}

enum err command_db_copy(struct cli *cli)
{
        const char *to = cli_option(cli, "to");
        struct place source = { .lock = -1 }, target = { .lock = -1 };
        struct list tables;
        enum err e;

        if (!to || !*to)
                return fail_field(&cli->scope, "to", ERR_VALIDATION, "--to must say where to: a URL or a file");
        e = find_place(cli, false, &source);
        if (!e && !source.is_url && access(source.path, F_OK))
                e = fail(&cli->scope, ERR_NOT_FOUND, "there is no database %s: %s", source.path, strerror(errno));
        if (!e)
                e = find_target(cli, to, &target);
        if (!e) {
                const struct copy_options options = { source.path, target.path, migrations, migrations_n,
                                                      search_tables };

                e = store_copy(&cli->scope, &options, &tables);
        }
        leave(&target);
        if (e)
                return e;
        show_tables(cli, &tables);
        if (!source.is_url && data_is_served(cli))
                fprintf(cli->err.to, "a server uses the source: what it writes from now on is not in the copy\n");
        return ERR_OK;
}
