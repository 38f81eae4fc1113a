#include "hub/bus.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/log.h"
#include "domain/sql.h"
#include "hub/hooks.h"

enum {
        TAG_DIGITS = 16,
        SPAN = 10000, /* events: rather than find the trees of more, all look */
};
#define LOOK_EVERY (1 * US_PER_S)
#define RETRY_FIRST (100 * US_PER_MS)
#define RETRY_MOST (5 * US_PER_S)

/* One thread fills, another one empties what was filled before. */
struct mailbox {
        struct hint_set *filling, *emptying, sets[2];
};

struct bus {
        struct bus_options options;
        pthread_t thread;
        bool started;
        int bell; /* eventfd: there is something to send, or to stop for */
        pthread_mutex_t lock;
        struct mailbox out, in; /* under the lock but for what is emptied */
        _Atomic bool stopping, up, anything_in, doubt;
        _Atomic int64_t sent, received;

        /* The thread's own. */
        struct scope scope;
        struct link *link; /* NULL: away */
        char tag[TAG_DIGITS + 1];
        struct buf text;
        int64_t retry_at, retry_after, look_at; /* boot clock, but for the second */
        int64_t seen;       /* events up to here were told of; 0 = nobody subscribed then */
        bool said_away;
};

static int64_t boot_now(const struct bus *bus)
{
        return bus->options.world->clock->boot(bus->options.world->clock->ctx);
}

static void ring(struct bus *bus)
{
        uint64_t one = 1;

        /* It fails only when the bell rings already. */
        if (write(bus->bell, &one, sizeof(one)) < 0)
                return;
}

static void mailbox_init(struct mailbox *box)
{
        box->filling = &box->sets[0];
        box->emptying = &box->sets[1];
}

/* What was filled, or NULL. */
static struct hint_set *mailbox_turn(struct bus *bus, struct mailbox *box)
{
        struct hint_set *full;

        hint_set_clear(box->emptying);
        pthread_mutex_lock(&bus->lock);
        full = box->filling;
        box->filling = box->emptying;
        box->emptying = full;
        pthread_mutex_unlock(&bus->lock);
        return full->n ? full : NULL;
}

/* ---- hearing ---- */

/* What any thread may do is done at once, the rest by the writing thread. */
static void hear(struct bus *bus, enum hint_kind kind, int64_t key, int64_t times)
{
        const struct hint hint = { kind, key, times };

        hooks_heard(bus->options.hooks, &hint);
        pthread_mutex_lock(&bus->lock);
        hint_set_add(bus->in.filling, kind, key, times);
        pthread_mutex_unlock(&bus->lock);
        atomic_store(&bus->anything_in, true);
}

/* Whoever waits is counted before the turn that parked it ends, and each turn ends with what was heard:
 * nobody waits on who is not counted now and misses this. */
static void heard_all(struct bus *bus)
{
        if (waiting_count(bus->options.hooks->waiting))
                store_wake(*bus->options.store);
}

static void take(void *arg, struct str text)
{
        struct bus *bus = arg;
        struct str words, from = str_cut(text, ' ', &words);
        struct hint hint;

        if (str_is(from, bus->tag))
                return;
        bus->received++;
        while (words.n)
                if (hint_parse(str_cut(words, ' ', &words), &hint))
                        hear(bus, hint.kind, hint.key, hint.value);
        heard_all(bus);
}

const struct hint_set *bus_heard(struct bus *bus)
{
        return atomic_exchange(&bus->anything_in, false) ? mailbox_turn(bus, &bus->in) : NULL;
}

void bus_hear_again(struct bus *bus, const struct hint *hint)
{
        pthread_mutex_lock(&bus->lock);
        hint_set_add(bus->in.filling, hint->kind, hint->key, hint->value);
        pthread_mutex_unlock(&bus->lock);
        atomic_store(&bus->anything_in, true);
}

/* ---- telling ---- */

void bus_tell(struct bus *bus, const struct hint *hint)
{
        bool first;

        pthread_mutex_lock(&bus->lock);
        first = !bus->out.filling->n;
        hint_set_add(bus->out.filling, hint->kind, hint->key, 1);
        pthread_mutex_unlock(&bus->lock);
        if (first)
                ring(bus);
}

void bus_doubt(struct bus *bus)
{
        bus->doubt = true;
}

static bool send_text(struct bus *bus)
{
        bus->sent++;
        return bus->options.link->send(bus->link, buf_view(&bus->text));
}

static void begin_text(struct bus *bus)
{
        buf_clear(&bus->text);
        buf_text(&bus->text, bus->tag);
}

/* What cannot be sent is lost with the link; once it is back, everybody looks again. */
static bool send_all(struct bus *bus)
{
        const struct hint_set *set = mailbox_turn(bus, &bus->out);
        bool ok = true;

        begin_text(bus);
        for (size_t i = 0; ok && set && i < set->n; i++) {
                if (bus->text.n + HINT_TEXT_MAX > LINK_TEXT_MAX) {
                        ok = send_text(bus);
                        begin_text(bus);
                }
                buf_char(&bus->text, ' ');
                hint_print(&bus->text, &set->hints[i]);
        }
        return ok && (!set || send_text(bus));
}

/* ---- looking ---- */

struct look_call {
        struct call call;
        bool trees, lanes; /* what is looked for */
        int64_t from, end; /* events after `from` were looked at; end: the newest */
        int64_t *tree, *lane; /* lane, number of runs, … */
        size_t n_trees, n_lanes;
};

static enum err look_run(struct call *call, struct tx *tx)
{
        struct look_call *c = (struct look_call *)call;
        enum err e = c->trees ? tx_number(tx, SQL_EVENT_END, &c->end) : ERR_OK;

        if (!e && c->trees && c->from && c->end > c->from && c->end - c->from <= SPAN)
                e = tx_number_rows(tx, SQL_EVENT_TREES, &c->tree, &c->n_trees, 1,
                                   ARGS(INT(c->from), INT(c->end)));
        if (!e && c->lanes)
                e = tx_number_rows(tx, SQL_LANES_READY, &c->lane, &c->n_lanes, 2, NULL, 0);
        return e;
}

/* Writers take turns, so that events become visible in the order of their places. */
static void look(struct bus *bus)
{
        struct hooks *h = bus->options.hooks;
        struct look_call c = { .call = { .run = look_run, .reads = true, .scope = &bus->scope },
                               .trees = hub_count(h->hub) > 0,
                               .lanes = waiting_count(h->waiting) > 0,
                               .from = bus->seen };

        bus->look_at = boot_now(bus) + LOOK_EVERY;
        if (!atomic_exchange(&bus->doubt, false))
                return;
        bus->seen = 0;
        if (!c.trees && !c.lanes)
                return;
        scope_reset(&bus->scope);
        if (store_call(*bus->options.store, &c.call)) {
                bus->doubt = true;
                return;
        }
        if (c.trees && (!c.from || c.end < c.from || c.end - c.from > SPAN))
                hub_publish_all(h->hub);
        bus->seen = c.end;
        for (size_t i = 0; i < c.n_trees; i++)
                hear(bus, HINT_TREE, c.tree[i], 1);
        for (size_t i = 0; i < c.n_lanes; i++)
                hear(bus, HINT_LANE, c.lane[2 * i], c.lane[2 * i + 1]);
        heard_all(bus);
}

/* ---- the link ---- */

static void away(struct bus *bus, const char *why)
{
        if (bus->link)
                bus->options.link->close(bus->link);
        bus->link = NULL;
        bus->up = false;
        bus->retry_at = boot_now(bus) + bus->retry_after;
        bus->retry_after = bus->retry_after * 2 < RETRY_MOST ? bus->retry_after * 2 : RETRY_MOST;
        if (!bus->said_away)
                log_write(LOG_WARN, "bus_away", "bus", bus->options.link->name, "detail", why, NULL);
        bus->said_away = true;
}

static void call_up(struct bus *bus)
{
        const struct bus_options *o = &bus->options;
        const struct hint everything = { HINT_EVERYTHING, 0, 1 };

        scope_reset(&bus->scope);
        if (o->link->open(&bus->scope, o->url, o->place, &bus->link)) {
                bus->link = NULL;
                away(bus, str_c(&bus->scope.arena, bus->scope.fault.detail));
                return;
        }
        bus->up = true;
        bus->retry_after = RETRY_FIRST;
        bus->said_away = false;
        log_write(LOG_INFO, "bus_up", "bus", o->link->name, NULL);
        bus_tell(bus, &everything); /* here and there something may have been missed */
        hear(bus, HINT_EVERYTHING, 0, 1);
        heard_all(bus);
}

static int patience(const struct bus *bus)
{
        int64_t now = boot_now(bus), until = now + 10 * US_PER_S;

        if (!bus->link && bus->retry_at < until)
                until = bus->retry_at;
        if (bus->options.shared && bus->look_at < until)
                until = bus->look_at;
        return until <= now ? 0 : (int)((until - now) / US_PER_MS) + 1;
}

static void turn(struct bus *bus)
{
        const struct link_type *type = bus->options.link;
        struct pollfd fds[2] = { { bus->bell, POLLIN, 0 },
                                 { bus->link ? type->fd(bus->link) : -1, POLLIN, 0 } };
        uint64_t rings;

        if (poll(fds, LENGTH(fds), patience(bus)) > 0 && fds[0].revents &&
            read(bus->bell, &rings, sizeof(rings)) < 0)
                return;
        if (!bus->link && boot_now(bus) >= bus->retry_at)
                call_up(bus);
        /* An answer may have brought what others told with it. */
        if (bus->link && (!type->receive(bus->link, take, bus) || !send_all(bus) ||
                          !type->receive(bus->link, take, bus)))
                away(bus, "the connection was lost");
        if (bus->options.shared && boot_now(bus) >= bus->look_at)
                look(bus);
}

static void *bus_main(void *arg)
{
        struct bus *bus = arg;

        while (!bus->stopping)
                turn(bus);
        if (bus->link)
                bus->options.link->close(bus->link);
        return NULL;
}

/* ---- life ---- */

struct bus *bus_new(const struct bus_options *options)
{
        struct bus *bus = xcalloc(1, sizeof(*bus));
        uint64_t number;

        bus->options = *options;
        bus->bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        BUG_ON(bus->bell < 0);
        pthread_mutex_init(&bus->lock, NULL);
        mailbox_init(&bus->out);
        mailbox_init(&bus->in);
        bus->text = BUF_INIT(LINK_TEXT_MAX);
        bus->retry_after = RETRY_FIRST;
        scope_init(&bus->scope, options->world);
        scope_random(&bus->scope, &number, sizeof(number));
        snprintf(bus->tag, sizeof(bus->tag), "%016llx", (unsigned long long)number);
        return bus;
}

enum err bus_start(struct scope *scope, struct bus *bus)
{
        if (pthread_create(&bus->thread, NULL, bus_main, bus))
                return fail(scope, ERR_UNAVAILABLE, "cannot start the bus");
        pthread_setname_np(bus->thread, "bus");
        bus->started = true;
        return ERR_OK;
}

void bus_stop(struct bus *bus)
{
        bus->stopping = true;
        ring(bus);
        if (bus->started)
                pthread_join(bus->thread, NULL);
        bus->started = false;
}

void bus_free(struct bus *bus)
{
        close(bus->bell);
        buf_done(&bus->text);
        scope_done(&bus->scope);
        pthread_mutex_destroy(&bus->lock);
        free(bus);
}

void bus_stats(const struct bus *bus, struct bus_stats *out)
{
        *out = (struct bus_stats){ bus->up, bus->sent, bus->received };
}
