/* The log of a run: a line with the offset that a reader has come to, then one piece a line.
 * Whoever goes on at an offset gets what lies behind it, from the next whole character on. */
#include "domain/log_line.h"

#include <string.h>

#include "domain/sql.h"
#include "fuzz.h"
#include "server.h"

enum { RUN = 7, PAGE = 3, PIECES_MAX = 50 };

struct log {
        struct str pieces[PIECES_MAX], all;
        size_t n;
        int64_t from;
};

static enum err write_pieces(struct tx *tx, struct log *log)
{
        int64_t at = 0;
        enum err e = ERR_OK;

        for (size_t i = 0; !e && i < log->n; i++) {
                e = tx_exec(tx, SQL_LOG_ADD, INT(RUN), INT(at), INT(0), INT(1), INT(1),
                            TEXT(log->pieces[i]));
                at += (int64_t)log->pieces[i].n;
        }
        return e;
}

/* As a stream reads it: pages, each from where the last one ended. */
static enum err read_pieces(struct tx *tx, struct log *log)
{
        struct list page = { .n = PAGE };
        int64_t at = log->from;
        enum err e = ERR_OK;

        while (!e && page.n) {
                const struct log_line *line;

                e = log_read(tx, RUN, at, PAGE, &page);
                line = page.items;
                for (size_t i = 0; !e && i < page.n; i++) {
                        MUST(line[i].text.n && str_is_utf8(line[i].text));
                        MUST(line[i].position >= at && line[i].position - at < 4);
                        MUST(str_eq(line[i].text,
                                    str_slice(log->all, (size_t)line[i].position,
                                              (size_t)line[i].position + line[i].text.n)));
                        at = line[i].position + (int64_t)line[i].text.n;
                }
        }
        MUST(e || at + 3 >= (int64_t)log->all.n || log->from > (int64_t)log->all.n);
        return e;
}

static enum err play(struct tx *tx, void *arg)
{
        enum err e = write_pieces(tx, arg);

        return e ? e : read_pieces(tx, arg);
}

void fuzz(struct scope *scope, struct str input)
{
        struct str rest, line = str_cut(input, '\n', &rest);
        struct log log = { .all = STR("") };
        struct server *server;

        if (!str_to_int(line, &log.from) || log.from < 0 || !str_is_utf8(input))
                return;
        while (rest.n && log.n < PIECES_MAX) {
                struct str piece = str_cut(rest, '\n', &rest);

                if (!piece.n)
                        continue; /* nothing is never appended */
                log.pieces[log.n++] = piece;
                log.all = arena_printf(&scope->arena, STR_FMT STR_FMT, STR_ARG(log.all),
                                       STR_ARG(piece));
        }
        server = server_begin();
        MUST(!store_run(server->store, scope, play, &log));
        server_end(server);
}
