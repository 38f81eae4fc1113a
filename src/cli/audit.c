#include <string.h>
#include <sys/stat.h>

#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/reply.h"
#include "domain/audit_chain.h"
#include "domain/sql.h"
#include "store/store.h"
#include "json/json_in.h"

enum { PAGE = 500 };

enum err command_audit_list(struct cli *cli)
{
        static const struct column columns[] = {
                { "AT", "at", SHOW_TIME },
                { "ACTION", "action", SHOW_TEXT },
                { "RESOURCE", "resource", SHOW_TEXT },
                { "ACTOR", "actor", SHOW_TEXT },
                { "KEY", "key_id", SHOW_TEXT },
                { "DETAIL", "detail", SHOW_FREE },
        };
        static const char *const filters[] = { "action", "resource", "actor", "since", "until" };
        struct path path = PATH_INIT(cli);
        enum err e = connect_server(cli);

        path_add(&path, "/v1/audit");
        path_query(&path, "workspace_id", cli_setting(cli, "workspace", "BATON_WORKSPACE"));
        for (size_t i = 0; i < LENGTH(filters); i++)
                path_query(&path, filters[i], cli_option(cli, filters[i]));
        return e ? e : show_list(cli, &path, columns, LENGTH(columns));
}

/* ---- verify ---- */

struct verification {
        struct cli *cli;
        struct audit_chain chain;
        struct str head; /* absent: the key sees one workspace */
};

/* From a file, which no server needs to have open: one snapshot, a page at a time. */
static enum err read_database(struct tx *tx, void *arg)
{
        struct verification *v = arg;
        struct audit_filter f = { .action = -1, .limit = PAGE };
        struct list rows = { .n = PAGE };
        enum err e = audit_head(tx, &v->head);

        while (!e && rows.n == PAGE) {
                e = audit_list(tx, &f, &rows);
                for (size_t i = 0; !e && i < rows.n; i++)
                        audit_chain_add(&v->chain, (const struct audit_entry *)rows.items + i);
                if (v->chain.n)
                        f.before = v->chain.links[v->chain.n - 1].id;
        }
        return e;
}

static enum err from_database(struct verification *v, const char *path)
{
        struct scope *scope = &v->cli->scope;
        struct stat st;

        if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
                path = arena_printf(&scope->arena, "%s/baton.db", path).p;
        return store_read(scope, path, domain_statements, SQL_COUNT, read_database, v);
}

static enum err take_page(struct verification *v, const json_t *reply)
{
        const json_t *items = member_items(reply), *item;
        enum err e = ERR_OK;
        size_t i;

        json_array_foreach(items, i, item) {
                struct audit_entry entry = { 0 };

                if (!e)
                        e = json_to_record(&v->cli->scope, item, "", &audit_record, &entry);
                if (!e)
                        audit_chain_add(&v->chain, &entry);
        }
        return e;
}

static enum err from_server(struct verification *v)
{
        struct str cursor = STR_NONE;
        enum err e = connect_server(v->cli);

        while (!e) {
                struct path path = PATH_INIT(v->cli);
                json_t *reply;

                path_add(&path, "/v1/audit");
                path_query(&path, "limit", "500");
                if (cursor.n)
                        path_query(&path, "cursor", str_c(&v->cli->scope.arena, cursor));
                e = get_json(v->cli, path_end(&path), &reply);
                if (!e && !cursor.p) /* of the snapshot in which the newest row was read */
                        v->head = json_view(json_object_get(reply, "head"));
                if (!e)
                        e = take_page(v, reply);
                if (e || !(cursor = member_text(reply, "next_cursor")).n)
                        break;
        }
        return e;
}

static const char *const fault_words[] = { "sound", "changed", "missing", "reordered", "cut" };
static const char *const fault_sentences[] = {
        [AUDIT_CHANGED] = "is not what was written",
        [AUDIT_MISSING] = "does not follow the row before it: rows were removed or replaced",
        [AUDIT_REORDERED] = "stands behind another row than when it was written",
        [AUDIT_CUT] = "is the last one, but there were later ones, or others",
};

static void show_verdict(struct verification *v, struct audit_verdict verdict)
{
        char id[ID_TEXT_SIZE];
        json_t *shown = json_pack("{s:b, s:I, s:b}", "ok", !verdict.fault, "rows",
                                  (json_int_t)v->chain.n, "complete", v->head.p != NULL);

        id_print("audit", verdict.id, id);
        if (v->head.p)
                json_object_set_new(shown, "head", json_stringn(v->head.p, v->head.n));
        if (verdict.fault)
                json_object_set_new(shown, "fault", json_string(fault_words[verdict.fault]));
        if (verdict.id)
                json_object_set_new(shown, "row", json_string(id));
        json_array_append_new(v->cli->kept, shown);
        v->cli->status = verdict.fault ? 1 : 0;
        if (v->cli->format != OUTPUT_TABLE)
                print_line(v->cli, shown);
        else if (verdict.fault)
                fprintf(v->cli->out.to, "%s: row %s %s\n", fault_words[verdict.fault],
                        verdict.id ? id : "(none)", fault_sentences[verdict.fault]);
        else if (v->head.p)
                fprintf(v->cli->out.to, "%zu rows, sound; head " STR_FMT "\n", v->chain.n,
                        STR_ARG(v->head));
        else
                fprintf(v->cli->out.to,
                        "%zu rows of this workspace, each as it was written; whether there were"
                        " others only a key of all workspaces can see\n",
                        v->chain.n);
}

enum err audit_look(struct cli *cli, const char *database, struct str *fault)
{
        struct verification v = { .cli = cli };
        enum err e = from_database(&v, database);
        struct audit_verdict verdict;
        char id[ID_TEXT_SIZE];

        *fault = STR_NONE;
        verdict = audit_chain_judge(&v.chain, v.head, STR_NONE);
        id_print("audit", verdict.id, id);
        if (!e && verdict.fault)
                *fault = arena_printf(&cli->scope.arena, "audit log, %s: row %s %s", fault_words[verdict.fault],
                                      verdict.id ? id : "(none)", fault_sentences[verdict.fault]);
        audit_chain_done(&v.chain);
        return e;
}

enum err command_audit_verify(struct cli *cli)
{
        struct verification v = { .cli = cli };
        const char *database = cli_option(cli, "database"), *noted = cli_option(cli, "head");
        enum err e;

        if (noted && strlen(noted) != AUDIT_HASH)
                return fail_field(&cli->scope, "head", ERR_VALIDATION,
                                  "--head must be the %d hex digits that an earlier verification"
                                  " printed",
                                  AUDIT_HASH);
        e = database ? from_database(&v, database) : from_server(&v);
        if (!e)
                show_verdict(&v, audit_chain_judge(&v.chain, v.head,
                                                   noted ? str_from(noted) : STR_NONE));
        audit_chain_done(&v.chain);
        return e;
}
