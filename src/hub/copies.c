#include "hub/copies.h"

#include <hiredis/hiredis.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/json_out.h"
#include "core/log.h"
#include "domain/copy.h"
#include "domain/event.h"
#include "hub/redis.h"

enum {
        PAGE = 200,
        REST_MS = 1000,  /* after which one looks without being woken */
        DUTY_MS = 3000,  /* how long who writes is the one who does, unless it says so again */
        COPY_MAX = 4 << 20,
};
#define BEAT_EVERY (20 * US_PER_S)
#define RETRY_EVERY (1 * US_PER_S)

/*
 * The keys: what stands before and behind the name of a queue, task, workspace or worker, and how many
 * seconds after its last change a key lives (0: as long as it says something).
 */
enum key { KEY_QUEUE, KEY_STATUS, KEY_RESULT, KEY_EVENTS, KEY_ACTIVE, KEY_COUNT, KEY_HEARTBEAT,
           KEY_WORKING, KEY_DUTY, KEY_SEEN };
static const struct {
        const char *before, *after;
        int seconds;
} keys[] = {
        [KEY_QUEUE] = { "workspace:tasks:", "", 0 },               /* list: JSON, oldest at the right */
        [KEY_STATUS] = { "workspace:task:", ":status", 7200 },     /* hash */
        [KEY_RESULT] = { "workspace:task:", ":result", 3600 },     /* JSON */
        [KEY_EVENTS] = { "workspace:task:", ":events", 0 },        /* channel: JSON */
        [KEY_ACTIVE] = { "workspace:ws:", ":active_tasks", 0 },    /* set of tasks, queued and running */
        [KEY_COUNT] = { "workspace:ws:", ":task_count", 7200 },    /* number of tasks submitted */
        [KEY_HEARTBEAT] = { "workspace:worker:", ":heartbeat", 60 }, /* Unix seconds */
        [KEY_WORKING] = { "workspace:worker:", ":tasks", 60 },     /* set of tasks */
        [KEY_DUTY] = { "baton:copier", "", 0 }, /* ours: which server writes, */
        [KEY_SEEN] = { "baton:copied", "", 0 }, /* and up to which event: gone when the copies are */
};

static const char *const queues[] = { "low", "normal", "high", "critical" }; /* by priority */

static const char *const statuses[RUN_STATUSES] = {
        [RUN_QUEUED] = "queued",
        [RUN_CLAIMED] = "running",
        [RUN_STARTING] = "running",
        [RUN_RUNNING] = "running",
        [RUN_AWAITING_APPROVAL] = "running",
        [RUN_AWAITING_INPUT] = "running",
        [RUN_AWAITING_SUBTASK] = "running",
        [RUN_AWAITING_PARALLEL] = "running",
        [RUN_SLEEPING] = "running",
        [RUN_COMPLETED] = "completed",
        [RUN_FAILED] = "failed",
        [RUN_CANCELED] = "cancelled",
        [RUN_TIMED_OUT] = "timed_out",
};

/* What a channel hears of, and by which name; a status of the task's own run alone. */
static const struct {
        enum event_type type;
        const char *name, *status;
} heard[] = {
        { EVENT_RUN_QUEUED, "status_changed", "queued" },
        { EVENT_RUN_STARTED, "status_changed", "running" },
        { EVENT_RUN_COMPLETED, "status_changed", "completed" },
        { EVENT_RUN_FAILED, "status_changed", "failed" },
        { EVENT_RUN_OPERATOR_FORCED_FAIL, "status_changed", "failed" },
        { EVENT_RUN_CANCELED, "status_changed", "cancelled" },
        { EVENT_RUN_TIMED_OUT, "status_changed", "timed_out" },
        { EVENT_RUN_STEP_STARTED, "progress_update", NULL },
        { EVENT_RUN_STEP_FAILED, "error", NULL },
};

struct copies {
        struct copies_options options;
        struct str worker;
        pthread_t thread;
        bool started;
        int bell;
        _Atomic bool stopping, news;

        /* The thread's own. */
        struct scope scope; /* of a page */
        redisContext *redis; /* NULL: away */
        size_t sent;         /* commands whose answers have not been read */
        bool said_away;
        char tag[24];
        int64_t retry_at, beat_at; /* boot clock */
};

static int64_t boot_now(const struct copies *c)
{
        return c->options.world->clock->boot(c->options.world->clock->ctx);
}

/* ---- commands ---- */

static const char *name_of(struct copies *c, enum key key, struct str of)
{
        return arena_printf(&c->scope.arena, "%s%s" STR_FMT "%s", c->options.prefix, keys[key].before,
                            STR_ARG(of), keys[key].after).p;
}

static struct str task_name(struct copies *c, int64_t id)
{
        char text[ID_TEXT_SIZE];
        size_t n = id_print("task", id, text);

        return str_dup(&c->scope.arena, (struct str){ text, n });
}

/* Its answer is read with those of the others, by settle(). */
static void say(struct copies *c, const char *format, ...)
{
        va_list args;

        va_start(args, format);
        redisvAppendCommand(c->redis, format, args);
        va_end(args);
        c->sent++;
}

static void expire(struct copies *c, enum key key, struct str of)
{
        say(c, "EXPIRE %s %d", name_of(c, key, of), keys[key].seconds);
}

static bool settle(struct copies *c)
{
        size_t n = c->sent;

        c->sent = 0;
        return redis_settle(c->redis, n);
}

static void send_status(struct copies *c, struct str task, const char *field, struct str value)
{
        if (value.n)
                say(c, "HSET %s %s %b", name_of(c, KEY_STATUS, task), field, value.p, value.n);
        else
                say(c, "HDEL %s %s", name_of(c, KEY_STATUS, task), field);
}

static struct str time_text(struct copies *c, int64_t at)
{
        char text[TIME_TEXT_SIZE];

        if (!at)
                return STR_NONE;
        time_print(at, text);
        return str_dup(&c->scope.arena, str_from(text));
}

static void put_member(struct json_out *j, const char *name, struct str value)
{
        json_key(j, name);
        json_put_str(j, value);
}

/* ---- one task ---- */

static const char *type_of(const struct copy *t)
{
        if (t->source_conversation_id.p)
                return "chat_agent";
        return t->parent_task_id ? "workflow_subtask" : "background_job";
}

/* The same bytes whenever it is asked for: by them it is taken out of its queue. */
static struct str payload(struct copies *c, const struct copy *t, struct str queue)
{
        struct buf text = BUF_INIT(COPY_MAX);
        struct json_out j = { .out = &text };
        struct str out;

        json_begin_object(&j);
        put_member(&j, "task_id", task_name(c, t->task_id));
        put_member(&j, "task_type", str_from(type_of(t)));
        put_member(&j, "workspace_id", t->workspace_id);
        put_member(&j, "priority", queue);
        json_key(&j, "created_at");
        json_put_time(&j, t->created_at);
        json_end_object(&j);
        out = str_dup(&c->scope.arena, buf_view(&text));
        buf_done(&text);
        return out;
}

static struct str result(struct copies *c, const struct copy *t)
{
        struct buf text = BUF_INIT(COPY_MAX);
        struct json_out j = { .out = &text };
        struct str out;

        json_begin_object(&j);
        put_member(&j, "status", str_from(statuses[t->status]));
        if (t->error.p)
                put_member(&j, "error", t->error);
        if (t->result.p) {
                json_key(&j, "result");
                json_put_raw(&j, t->result);
        }
        if (t->started_at) {
                json_key(&j, "execution_time_ms");
                json_put_int(&j, (t->ended_at - t->started_at) / US_PER_MS);
        }
        json_key(&j, "completed_at");
        json_put_time(&j, t->ended_at);
        json_end_object(&j);
        out = str_dup(&c->scope.arena, buf_view(&text));
        buf_done(&text);
        return out;
}

/* What the status says so far: status, priority, worker; absent where nothing is known. */
struct known {
        struct str status, priority, worker;
};

static struct str element(struct copies *c, const redisReply *r, size_t i)
{
        if (r->type != REDIS_REPLY_ARRAY || i >= r->elements ||
            r->element[i]->type != REDIS_REPLY_STRING)
                return STR_NONE;
        return str_dup(&c->scope.arena,
                       (struct str){ r->element[i]->str, (size_t)r->element[i]->len });
}

static bool look_up(struct copies *c, const struct copy *tasks, size_t n, struct known *out)
{
        for (size_t i = 0; i < n; i++)
                redisAppendCommand(c->redis, "HMGET %s status priority worker_id",
                                   name_of(c, KEY_STATUS, task_name(c, tasks[i].task_id)));
        for (size_t i = 0; i < n; i++) {
                redisReply *r = NULL;

                if (redisGetReply(c->redis, (void **)&r) || !r)
                        return false;
                out[i] = (struct known){ element(c, r, 0), element(c, r, 1), element(c, r, 2) };
                freeReplyObject(r);
        }
        return true;
}

static void leave_queue(struct copies *c, const struct copy *t, struct str queue)
{
        struct str text = payload(c, t, queue);

        say(c, "LREM %s -1 %b", name_of(c, KEY_QUEUE, queue), text.p, text.n);
}

/* A queue is no set: what is known to be in its place stays there. */
static void write_queue(struct copies *c, const struct copy *t, const struct known *known)
{
        struct str queue = str_from(queues[t->priority]), text;
        bool was = !known->status.p || str_is(known->status, "queued");
        bool stays = t->status == RUN_QUEUED && known->status.p && was && str_eq(known->priority, queue);

        if (stays)
                return;
        if (was)
                leave_queue(c, t, known->priority.p ? known->priority : queue);
        if (t->status != RUN_QUEUED)
                return;
        text = payload(c, t, queue);
        say(c, "LPUSH %s %b", name_of(c, KEY_QUEUE, queue), text.p, text.n);
}

static void write_worker(struct copies *c, const struct copy *t, struct str task, struct str before)
{
        struct str now = t->executor == EXECUTOR_WORKER && run_is_leased(t->status) ? t->claimed_by :
                                                                                      STR_NONE;

        if (before.p && !str_eq(before, now))
                say(c, "SREM %s %s", name_of(c, KEY_WORKING, before), task.p);
        if (!now.p)
                return;
        say(c, "SADD %s %s", name_of(c, KEY_WORKING, now), task.p);
        expire(c, KEY_WORKING, now);
}

static void write_task(struct copies *c, const struct copy *t, const struct known *known)
{
        struct str task = str_from(str_c(&c->scope.arena, task_name(c, t->task_id))), text;
        bool over = run_is_terminal(t->status);

        write_queue(c, t, known);
        send_status(c, task, "status", str_from(statuses[t->status]));
        send_status(c, task, "workspace_id", t->workspace_id);
        send_status(c, task, "submitted_at", time_text(c, t->queued_at));
        send_status(c, task, "priority", str_from(queues[t->priority]));
        send_status(c, task, "task_type", str_from(type_of(t)));
        send_status(c, task, "worker_id", t->claimed_by);
        send_status(c, task, "started_at", time_text(c, t->started_at));
        send_status(c, task, "error", t->error);
        expire(c, KEY_STATUS, task);
        say(c, "%s %s %s", over ? "SREM" : "SADD", name_of(c, KEY_ACTIVE, t->workspace_id), task.p);
        write_worker(c, t, task, known->worker);
        if (over && t->status != RUN_CANCELED) {
                text = result(c, t);
                say(c, "SET %s %b EX %d", name_of(c, KEY_RESULT, task), text.p, text.n,
                    keys[KEY_RESULT].seconds);
        } else {
                say(c, "DEL %s", name_of(c, KEY_RESULT, task));
        }
}

static bool write_tasks(struct copies *c, const struct copy *tasks, size_t n)
{
        struct known *known = arena_array(&c->scope.arena, struct known, n + 1);

        if (!look_up(c, tasks, n, known))
                return false;
        for (size_t i = 0; i < n; i++)
                write_task(c, &tasks[i], &known[i]);
        return settle(c);
}

/* ---- events ---- */

static void write_data(struct copies *c, struct json_out *j, const struct copy_event *e,
                       const char *status)
{
        json_begin_object(j);
        if (status) {
                put_member(j, "status", str_from(status));
                if (e->type == EVENT_RUN_COMPLETED && e->started_at) {
                        json_key(j, "execution_time_ms");
                        json_put_int(j, (e->at - e->started_at) / US_PER_MS);
                }
        } else {
                json_key(j, "step");
                json_put_int(j, e->step + 1);
        }
        if (e->type == EVENT_RUN_STEP_STARTED) {
                if (e->total_steps) {
                        json_key(j, "total_steps");
                        json_put_int(j, e->total_steps);
                }
                put_member(j, "description",
                           arena_printf(&c->scope.arena, "Step %lld: " STR_FMT, (long long)e->step + 1,
                                        STR_ARG(e->action)));
        }
        if (e->type == EVENT_RUN_STEP_FAILED) {
                json_key(j, "error");
                if (e->step_error.p)
                        json_put_raw(j, e->step_error);
                else
                        json_put_null(j);
        }
        json_end_object(j);
}

static void publish(struct copies *c, const struct copy_event *e, const char *name, const char *status)
{
        struct str task = task_name(c, e->task_id);
        struct buf text = BUF_INIT(COPY_MAX);
        struct json_out j = { .out = &text };

        json_begin_object(&j);
        put_member(&j, "event_type", str_from(name));
        put_member(&j, "task_id", task);
        json_key(&j, "data");
        write_data(c, &j, e, status);
        json_key(&j, "timestamp");
        json_put_time(&j, e->at);
        json_end_object(&j);
        say(c, "PUBLISH %s %b", name_of(c, KEY_EVENTS, task), text.p, text.n);
        buf_done(&text);
}

static void write_event(struct copies *c, const struct copy_event *e)
{
        if (e->type == EVENT_RUN_QUEUED && !e->of_child && e->attempt == 1 && e->workspace_id.p) {
                say(c, "INCR %s", name_of(c, KEY_COUNT, e->workspace_id));
                expire(c, KEY_COUNT, e->workspace_id);
        }
        for (size_t i = 0; i < LENGTH(heard); i++)
                if ((int)heard[i].type == e->type && !(e->of_child && heard[i].status))
                        publish(c, e, heard[i].name, heard[i].status);
}

/* ---- pages ---- */

struct page_call {
        struct call call;
        int64_t after;
        bool all; /* the open tasks by run, not what changed */
        int64_t end;
        struct list events;
        struct copy *tasks;
        size_t n;
};

static bool has(const struct page_call *p, int64_t task)
{
        for (size_t i = 0; i < p->n; i++)
                if (p->tasks[i].task_id == task)
                        return true;
        return false;
}

/* The tasks of the events, each once. */
static enum err read_changed(struct page_call *p, struct tx *tx)
{
        const struct copy_event *event;
        enum err e = copies_events(tx, p->after, PAGE, &p->events);

        p->tasks = arena_array(&tx_scope(tx)->arena, struct copy, PAGE);
        p->n = 0;
        event = p->events.items;
        for (size_t i = 0; !e && i < p->events.n; i++) {
                if (has(p, event[i].task_id))
                        continue;
                e = copy_of(tx, event[i].task_id, &p->tasks[p->n]);
                p->n += e == ERR_OK;
                e = e == ERR_EMPTY ? ERR_OK : e;
        }
        return e;
}

static enum err read_page(struct call *call, struct tx *tx)
{
        struct page_call *p = (struct page_call *)call;
        struct list open;
        enum err e = copies_end(tx, &p->end);

        if (e || !p->all)
                return e ? e : read_changed(p, tx);
        e = copies_open(tx, p->after, PAGE, &open);
        if (!e) {
                p->tasks = open.items;
                p->n = open.n;
        }
        return e;
}

static bool page_read(struct copies *c, struct page_call *p)
{
        scope_reset(&c->scope);
        p->call = (struct call){ .run = read_page, .reads = true, .scope = &c->scope };
        return !store_call(*c->options.store, &p->call);
}

static bool mark(struct copies *c, int64_t seen)
{
        say(c, "SET %s %lld", name_of(c, KEY_SEEN, STR_NONE), (long long)seen);
        return settle(c);
}

/* Everything that is open, as of the newest event before it is read: what happens meanwhile follows. */
static bool write_all(struct copies *c, bool *more)
{
        struct page_call p = { .all = true };
        int64_t seen = -1;

        for (size_t i = 0; i < LENGTH(queues); i++)
                say(c, "DEL %s", name_of(c, KEY_QUEUE, str_from(queues[i])));
        do {
                if (!page_read(c, &p))
                        return settle(c);
                if (seen < 0)
                        seen = p.end;
                if (!write_tasks(c, p.tasks, p.n))
                        return false;
                p.after = p.n ? p.tasks[p.n - 1].run_id : p.after;
        } while (p.n == PAGE && !c->stopping);
        *more = true;
        return mark(c, seen);
}

/* *more: there is another page.  When the newest events of all were deleted, the next ones get their
 * places. */
static bool write_changed(struct copies *c, int64_t seen, bool *more)
{
        struct page_call p = { .after = seen };
        const struct copy_event *event;

        if (!page_read(c, &p))
                return true;
        event = p.events.items;
        if (!p.events.n)
                return p.end >= seen || mark(c, p.end);
        if (!write_tasks(c, p.tasks, p.n))
                return false;
        for (size_t i = 0; i < p.events.n; i++)
                write_event(c, &event[i]);
        *more = p.events.n == PAGE;
        return mark(c, event[p.events.n - 1].pos);
}

/* ---- duty ---- */

/* Whether this server is the one that writes, and up to where the copies are (-1: there are none). */
static bool on_duty(struct copies *c, bool *is, int64_t *seen)
{
        const char *duty = name_of(c, KEY_DUTY, STR_NONE);
        redisReply *r = NULL;
        struct str holder;

        redisAppendCommand(c->redis, "SET %s %s NX PX %d", duty, c->tag, DUTY_MS);
        redisAppendCommand(c->redis, "MGET %s %s", duty, name_of(c, KEY_SEEN, STR_NONE));
        if (!redis_settle(c->redis, 1) || redisGetReply(c->redis, (void **)&r) || !r)
                return false;
        holder = element(c, r, 0);
        *is = str_is(holder, c->tag);
        if (!str_to_int(element(c, r, 1), seen))
                *seen = -1;
        freeReplyObject(r);
        if (!*is)
                return true;
        redisAppendCommand(c->redis, "PEXPIRE %s %d", duty, DUTY_MS);
        return redis_settle(c->redis, 1);
}

static bool beat(struct copies *c)
{
        c->beat_at = boot_now(c) + BEAT_EVERY;
        if (!c->worker.p)
                return true;
        say(c, "SET %s %lld EX %d", name_of(c, KEY_HEARTBEAT, c->worker),
            (long long)(c->scope.now / US_PER_S), keys[KEY_HEARTBEAT].seconds);
        expire(c, KEY_WORKING, c->worker);
        return settle(c);
}

static bool work(struct copies *c)
{
        bool is = false, more = true, ok = true;
        int64_t seen;

        while (ok && more && !c->stopping) {
                scope_reset(&c->scope);
                more = false;
                if (boot_now(c) >= c->beat_at)
                        ok = beat(c);
                ok = ok && on_duty(c, &is, &seen);
                if (ok && is && seen < 0) {
                        c->beat_at = 0; /* it is gone too */
                        ok = write_all(c, &more);
                } else if (ok && is) {
                        ok = write_changed(c, seen, &more);
                }
        }
        return ok;
}

/* ---- the thread ---- */

/* `why` may be a text of the connection. */
static void hang_up(struct copies *c, const char *why)
{
        if (!c->said_away)
                log_write(LOG_WARN, "copies_away", "detail", why, NULL);
        c->said_away = true;
        if (c->redis)
                redisFree(c->redis);
        c->redis = NULL;
        c->sent = 0;
        c->retry_at = boot_now(c) + RETRY_EVERY;
}

static void call_up(struct copies *c)
{
        scope_reset(&c->scope);
        if (redis_open(&c->scope, c->options.url, &c->redis)) {
                c->redis = NULL;
                hang_up(c, str_c(&c->scope.arena, c->scope.fault.detail));
                return;
        }
        if (c->said_away)
                log_write(LOG_INFO, "copies_back", NULL);
        c->said_away = false;
        c->beat_at = 0;
}

static void *copies_main(void *arg)
{
        struct copies *c = arg;
        struct pollfd bell = { c->bell, POLLIN, 0 };
        uint64_t rings;

        while (!c->stopping) {
                c->news = false;
                if (!c->redis && boot_now(c) >= c->retry_at)
                        call_up(c);
                if (c->redis && !work(c))
                        hang_up(c, c->redis->err ? c->redis->errstr : "it takes nothing");
                if (poll(&bell, 1, REST_MS) > 0 && read(c->bell, &rings, sizeof(rings)) < 0)
                        break;
        }
        if (c->redis)
                redisFree(c->redis);
        return NULL;
}

void copies_wake(struct copies *c)
{
        uint64_t one = 1;

        if (!atomic_exchange(&c->news, true) && write(c->bell, &one, sizeof(one)) < 0)
                return; /* it rings already */
}

struct copies *copies_new(const struct copies_options *options)
{
        struct copies *c = xcalloc(1, sizeof(*c));
        uint64_t number;

        c->options = *options;
        c->bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        BUG_ON(c->bell < 0);
        scope_init(&c->scope, options->world);
        scope_random(&c->scope, &number, sizeof(number));
        snprintf(c->tag, sizeof(c->tag), "%016llx", (unsigned long long)number);
        return c;
}

enum err copies_start(struct scope *scope, struct copies *c, struct str worker)
{
        c->worker = worker;
        if (pthread_create(&c->thread, NULL, copies_main, c))
                return fail(scope, ERR_UNAVAILABLE, "cannot start the copies");
        pthread_setname_np(c->thread, "copies");
        c->started = true;
        return ERR_OK;
}

void copies_stop(struct copies *c)
{
        c->stopping = true;
        c->news = false;
        copies_wake(c);
        if (c->started)
                pthread_join(c->thread, NULL);
        c->started = false;
}

void copies_free(struct copies *c)
{
        close(c->bell);
        scope_done(&c->scope);
        free(c);
}
