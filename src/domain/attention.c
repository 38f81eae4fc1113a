#include "domain/attention.h"

#include <stdlib.h>
#include <string.h>

#include "domain/domain.h"
#include "domain/sql.h"

enum { LANES_A_TICK = 100, LEASES_A_TICK = 100 };

/* The run at the head of a lane, in the lease clock's time: it stands still with the server. */
struct watch {
        int64_t run, epoch, since;
};

struct attention {
        struct watch *lanes; /* by their place in the lane table */
        size_t n_lanes, next;
        int64_t looked; /* when the look began that is not committed yet; 0: none */
        int64_t lease, run; /* the lease that was looked at last */
};

struct attention *attention_new(void)
{
        return xcalloc(1, sizeof(struct attention));
}

void attention_free(struct attention *a)
{
        free(a->lanes);
        free(a);
}

enum err attention_set(struct tx *tx, struct run *run, struct str mark)
{
        enum err e = tx_exec(tx, SQL_RUN_ATTENTION, INT(run->id), TEXT(mark));

        run->attention = mark;
        return e || run->kind != RUN_ROOT ? e :
                                            tx_exec(tx, SQL_TASK_ATTENTION, INT(run->task_id), TEXT(mark));
}

static enum err mark(struct tx *tx, struct domain *domain, int64_t id, const char *text,
                     enum event_type type)
{
        struct events events = { .by = &domain->daemon };
        struct run run;
        enum err e = run_load(tx, id, &run);

        if (!e)
                e = attention_set(tx, &run, str_from(text));
        if (e)
                return e;
        events.tree = run.tree_id;
        events_add(tx, &events, type, run.task_id, run.id,
                   arena_printf(&tx_scope(tx)->arena, "{\"after_ms\":%lld,\"queued_age_ms\":%lld}",
                                (long long)(domain->attention_after / US_PER_MS),
                                (long long)((tx_now(tx) - run.queued_at) / US_PER_MS)));
        return events_append(tx, &events);
}

/* ---- starved ---- */

static enum err watch_lane(struct tx *tx, struct domain *domain, struct watch *w, int64_t lane)
{
        int64_t head[3], now = lease_now(domain);
        const struct arg args[] = { INT(lane) };
        enum err e = lane_is_filled(domain->lanes, lane) ?
                             tx_numbers(tx, SQL_LANE_WATCH, head, LENGTH(head), args, LENGTH(args)) :
                             ERR_EMPTY;

        if (e == ERR_EMPTY)
                *w = (struct watch){ 0 };
        if (e)
                return e == ERR_EMPTY ? ERR_OK : e;
        if (domain->now.paused || head[2] || head[0] != w->run || head[1] != w->epoch)
                *w = (struct watch){ head[0], head[1], now };
        return now - w->since < domain->attention_after ?
                       ERR_OK :
                       mark(tx, domain, w->run, "starved", EVENT_RUN_STARVED);
}

static void make_room(struct attention *a, size_t n)
{
        if (n <= a->n_lanes)
                return;
        a->lanes = xrealloc(a->lanes, n * sizeof(*a->lanes));
        memset(a->lanes + a->n_lanes, 0, (n - a->n_lanes) * sizeof(*a->lanes));
        a->n_lanes = n;
}

static enum err look_at_lanes(struct tx *tx, struct domain *domain)
{
        struct attention *a = domain->attention;
        size_t n = lanes_n(domain->lanes);
        enum err e = ERR_OK;

        make_room(a, n);
        for (size_t i = 0; !e && i < n && i < LANES_A_TICK; i++) {
                a->next = a->next + 1 < n ? a->next + 1 : 0;
                e = watch_lane(tx, domain, &a->lanes[a->next], lane_at(domain->lanes, a->next)->id);
        }
        return e;
}

int64_t attention_due(const struct domain *domain)
{
        const struct attention *a = domain->attention;
        int64_t due = INT64_MAX;

        for (size_t i = 0; domain->attention_after && i < a->n_lanes; i++)
                if (a->lanes[i].run && a->lanes[i].since + domain->attention_after < due)
                        due = a->lanes[i].since + domain->attention_after;
        return due;
}

/* ---- stuck ---- */

static enum err look_at_leases(struct tx *tx, struct domain *domain)
{
        struct attention *a = domain->attention;
        const struct arg args[] = { INT(a->lease), INT(a->run), INT(LEASES_A_TICK) };
        int64_t *row, silent_since = lease_now(domain) - domain->attention_after;
        size_t n;
        enum err e = tx_number_rows(tx, SQL_LEASE_WATCH, &row, &n, 5, args, LENGTH(args));

        for (size_t i = 0; !e && i < n; i++, row += 5) {
                a->lease = row[0];
                a->run = row[1];
                if (row[2] == RUN_CLAIMED && !row[4] && row[0] - row[3] <= silent_since)
                        e = mark(tx, domain, row[1], "stuck", EVENT_RUN_STUCK);
        }
        if (!e && n < LEASES_A_TICK)
                a->lease = a->run = 0;
        return e;
}

enum err attention_tick(struct tx *tx, struct domain *domain)
{
        enum err e = ERR_OK;

        if (!domain->attention_after)
                return ERR_OK;
        domain->attention->looked = lease_now(domain);
        e = look_at_lanes(tx, domain);
        return e ? e : look_at_leases(tx, domain);
}

void attention_committed(struct attention *a)
{
        a->looked = 0;
}

void attention_rolled_back(struct attention *a)
{
        for (size_t i = 0; a->looked && i < a->n_lanes; i++)
                if (a->lanes[i].since >= a->looked)
                        a->lanes[i] = (struct watch){ 0 };
        a->looked = 0;
}
