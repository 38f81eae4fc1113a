#include <libpq-fe.h>
#include <poll.h>
#include <stdlib.h>

#include "hub/link.h"

/*
 * NOTIFY has a connection and transactions of its own: at the commit of a transaction with NOTIFY,
 * PostgreSQL takes a lock that all such commits of all databases wait for.  Nothing is written, so
 * nothing is synced.
 */
struct link {
        PGconn *conn;
        char *channel;
};

/* Ends a command, or gives up; the caller clears the result. */
static PGresult *answer(PGconn *conn)
{
        struct pollfd fd = { PQsocket(conn), POLLIN, 0 };
        PGresult *last = NULL, *next;

        for (;;) {
                while (PQisBusy(conn))
                        if (poll(&fd, 1, LINK_SECONDS * 1000) <= 0 || !PQconsumeInput(conn))
                                return last;
                if (!(next = PQgetResult(conn)))
                        return last;
                PQclear(last);
                last = next;
        }
}

static bool done(PGresult *result, ExecStatusType wanted)
{
        bool is = PQresultStatus(result) == wanted;

        PQclear(result);
        return is;
}

/* One channel a schema: Baton's tables are in the first of the search path. */
static bool listen_to(struct link *link, struct scope *scope)
{
        PGresult *result;
        char *name;
        bool is;

        if (!PQsendQuery(link->conn, "SELECT left('baton ' || current_schema(), 63)"))
                return false;
        result = answer(link->conn);
        if (PQresultStatus(result) == PGRES_TUPLES_OK)
                link->channel = xstrdup(PQgetvalue(result, 0, 0));
        PQclear(result);
        if (!link->channel)
                return false;
        name = PQescapeIdentifier(link->conn, link->channel, strlen(link->channel));
        is = name &&
             PQsendQuery(link->conn, arena_printf(&scope->arena, "LISTEN %s", name).p) &&
             done(answer(link->conn), PGRES_COMMAND_OK);
        PQfreemem(name);
        return is;
}

static void notify_close(struct link *link)
{
        PQfinish(link->conn);
        free(link->channel);
        free(link);
}

static enum err notify_open(struct scope *scope, const char *url, const char *place,
                            struct link **out)
{
        const char *const keywords[] = { "fallback_application_name", "connect_timeout",
                                         "keepalives_idle", "dbname", NULL };
        const char *const values[] = { "baton bus", "5", "10", url, NULL };
        struct link *link = xcalloc(1, sizeof(*link));
        enum err e = ERR_OK;

        (void)place;
        link->conn = PQconnectdbParams(keywords, values, 1);
        if (PQstatus(link->conn) != CONNECTION_OK || !listen_to(link, scope)) {
                e = fail(scope, ERR_UNAVAILABLE, "%s", PQerrorMessage(link->conn));
                notify_close(link);
                return e;
        }
        *out = link;
        return ERR_OK;
}

static int notify_fd(const struct link *link)
{
        return PQsocket(link->conn);
}

static bool notify_send(struct link *link, struct str text)
{
        char copy[LINK_TEXT_MAX + 1];
        const char *const values[] = { link->channel, copy };

        BUG_ON(text.n > LINK_TEXT_MAX);
        memcpy(copy, text.p, text.n);
        copy[text.n] = '\0';
        return PQsendQueryParams(link->conn, "SELECT pg_notify($1, $2)", 2, NULL, values, NULL,
                                 NULL, 0) &&
               done(answer(link->conn), PGRES_TUPLES_OK);
}

static bool notify_receive(struct link *link, void (*take)(void *, struct str), void *arg)
{
        PGnotify *notice;

        if (!PQconsumeInput(link->conn))
                return false;
        while ((notice = PQnotifies(link->conn))) {
                if (notice->be_pid != PQbackendPID(link->conn))
                        take(arg, str_from(notice->extra));
                PQfreemem(notice);
        }
        return true;
}

const struct link_type notify_link = { "notify",    notify_open, notify_close,
                                       notify_fd,   notify_send, notify_receive };
