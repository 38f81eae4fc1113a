#include "domain/server.h"

#include "core/log.h"
#include "domain/attention.h"
#include "domain/claim.h"
#include "domain/sql.h"

enum { SERVERS = 1024, PAGE = 200 };

#define AT(member) offsetof(struct server_row, member)
static const struct field server_fields[] = {
        { "number", FIELD_INT, FIELD_COLUMN, AT(number) },
        { "worker", FIELD_INT, FIELD_COLUMN, AT(worker) },
        { "host", FIELD_STR, FIELD_COLUMN, AT(host) },
        { "volume", FIELD_STR, FIELD_COLUMN, AT(volume) },
        { "seen_at", FIELD_TIME, FIELD_COLUMN, AT(seen_at) },
        { "active", FIELD_INT, FIELD_COLUMN, AT(active) },
};
const struct record server_record = { "server", server_fields, LENGTH(server_fields), sizeof(struct server_row), -1 };

struct str server_worker(struct arena *arena, int64_t number)
{
        return number ? arena_printf(arena, "daemon:worker-%lld", (long long)number) : STR("daemon:worker");
}

/* What a worker held goes back to the queue; absent: what any of them did. */
static enum err take_back(struct tx *tx, struct str worker)
{
        struct list runs = { .n = PAGE };
        enum err e = ERR_OK;

        while (!e && runs.n == PAGE) {
                struct run *run;

                e = tx_all(tx, SQL_RUN_LEASED_BY_DAEMON, &runs, INT(PAGE), NAME(worker));
                run = runs.items;
                for (size_t i = 0; !e && i < runs.n; i++)
                        e = claim_expire(tx, &run[i], true);
        }
        return e;
}

static enum err bury(struct tx *tx, int64_t number)
{
        enum err e = take_back(tx, server_worker(&tx_scope(tx)->arena, number));

        return e ? e : tx_exec(tx, SQL_SERVER_DROP, INT(number));
}

static enum err free_number(struct tx *tx, int64_t *out)
{
        int64_t *taken, number = 0;
        size_t n;
        enum err e = tx_number_rows(tx, SQL_SERVER_NUMBERS, &taken, &n, 1, NULL, 0);

        for (size_t i = 0; !e && i < n && taken[i] == number; i++)
                number++;
        if (!e && number == SERVERS)
                return fail(tx_scope(tx), ERR_UNAVAILABLE, "%d servers use this database; stop one", SERVERS);
        *out = number;
        return e;
}

enum err server_join(struct tx *tx)
{
        struct domain *d = tx_context(tx);
        int64_t number = 0;
        enum err e;

        if (!d->place.p)
                return take_back(tx, STR_NONE);
        e = tx_number(tx, SQL_SERVER_AT, &number, TEXT(d->place));
        if (e == ERR_EMPTY)
                e = free_number(tx, &number);
        if (e)
                return e;
        tx_scope(tx)->ids->server = number;
        e = bury(tx, number);
        if (!e)
                e = tx_exec(tx, SQL_SERVER_ADD, INT(number), TEXT(d->place), TEXT(d->host), INT(tx_now(tx)),
                            INT(lease_now(d)), INT(d->worker), TEXT(d->volume));
        if (e)
                return e;
        d->now.server = number;
        d->now.server_seen = lease_now(d);
        return ERR_OK;
}

enum err server_stay(struct tx *tx)
{
        struct domain *d = tx_context(tx);
        int64_t there, now = lease_now(d);
        enum err e;

        if (!d->place.p || now - d->now.server_seen <= SERVER_GONE)
                return ERR_OK;
        e = tx_exec_changed(tx, SQL_SERVER_SEEN, &there, INT(d->now.server), TEXT(d->place), INT(now));
        if (e)
                return e;
        d->now.server_seen = now;
        if (there)
                return ERR_OK;
        log_write(LOG_WARN, "server_was_missed", "then", "it takes a number again", NULL);
        return server_join(tx);
}

static enum err look_for_others(struct tx *tx)
{
        const struct domain *d = tx_context(tx);
        int64_t *gone;
        size_t n;
        enum err e = tx_number_rows(tx, SQL_SERVER_GONE, &gone, &n, 1,
                                    ARGS(INT(lease_now(d) - SERVER_GONE), TEXT(d->place)));

        for (size_t i = 0; !e && i < n; i++) {
                log_write(LOG_WARN, "server_is_missed", "then", "what its worker held goes back", NULL);
                e = bury(tx, gone[i]);
        }
        return e;
}

enum err server_rest(struct tx *tx, int64_t *rest)
{
        const struct domain *d = tx_context(tx);
        int64_t next[3], most = SERVER_REST, told = d->now.server_seen - lease_now(d);
        enum err e;

        *rest = 0;
        if (!d->place.p || !d->lease_saved || d->now.cascading || d->retention.workspace || !tx_may_rest(tx))
                return ERR_OK;
        e = tx_numbers(tx, SQL_SERVER_REST, next, LENGTH(next), NULL, 0);
        if (e || next[0])
                return e;
        if (told >= SERVER_SEEN_EVERY) /* woken by another that has written: what it has told still holds */
                most = told;
        if (next[1] && next[1] - tx_now(tx) < most)
                most = next[1] - tx_now(tx);
        if (next[2] && next[2] < most / US_PER_S)
                most = next[2] * US_PER_S;
        if (attention_due(d) - lease_now(d) < most)
                most = attention_due(d) - lease_now(d);
        *rest = most > US_PER_S ? most : 0;
        return ERR_OK;
}

enum err server_tick(struct tx *tx, int64_t rest)
{
        struct domain *d = tx_context(tx);
        int64_t seen = lease_now(d) + rest, ago = seen - d->now.server_seen;
        enum err e;

        /* Below 0: it rested, and was woken before the time that it has told. */
        if (!d->place.p || (ago >= 0 && ago < SERVER_SEEN_EVERY))
                return ERR_OK;
        d->now.server_seen = seen;
        e = tx_exec(tx, SQL_SERVER_SEEN, INT(d->now.server), TEXT(d->place), INT(d->now.server_seen));
        return e ? e : look_for_others(tx);
}

enum err server_leave(struct tx *tx, void *domain)
{
        const struct domain *d = domain;

        return d->place.p ? tx_exec(tx, SQL_SERVER_DROP, INT(d->now.server)) : ERR_OK;
}

enum err server_leads(struct tx *tx, bool *leads)
{
        const struct domain *d = tx_context(tx);
        int64_t leader = -1;
        enum err e;

        *leads = !d->place.p;
        if (*leads)
                return ERR_OK;
        e = tx_number(tx, SQL_SERVER_LEADER, &leader, INT(lease_now(d) - SERVER_GONE));
        *leads = !e && leader == d->number;
        return e == ERR_EMPTY ? ERR_OK : e;
}

enum err servers_working(struct tx *tx, struct list *out)
{
        enum err e = tx_all(tx, SQL_SERVERS_WORKING, out);
        struct server_row *server = out->items;

        for (size_t i = 0; !e && i < out->n; i++) {
                server[i].seen_at = lease_wall(tx_context(tx), tx_now(tx), server[i].seen_at);
                if (server[i].seen_at > tx_now(tx)) /* it rests, and has told until when */
                        server[i].seen_at = tx_now(tx);
        }
        return e;
}
