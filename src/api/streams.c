/*
 * Event streams.  Streams of one loop that follow the same thing share a feed: one subscription in the
 * hub, one read of each page and one rendering of it, written to each of their sockets.  A stream that
 * is behind its feed, because it resumes or its reader was slow, reads pages of its own from its own
 * cursor until it has caught up, so nothing falls between.  A slow reader is paused at its socket,
 * never in the server's memory.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "api/request.h"
#include "core/failpoint.h"
#include "core/tally.h"
#include "domain/log_line.h"
#include "domain/run.h"
#include "domain/sql.h"

enum {
        PAGE = 200,
        LOG_PAGE = 4,               /* a piece of a log has up to 64 KiB */
        PAGE_BYTES = 64 * 1024,     /* a page ends with the frame that passes this */
        BUFFERED_MAX = 128 * 1024,  /* unsent bytes of one stream before it is paused */
        FEEDS = 1024,
        TURN_MS = 1000,
        PING_SECONDS = 15,
};

/* What is followed: a tree, a task in it, a run, or the run's log. */
struct topic {
        int64_t tree, task, run;
        bool log;
        bool british; /* below /api: run.cancelled has two l there */
};

struct stream {
        struct stream *next, **link; /* of its feed */
        struct api *api;
        struct feed *feed;
        struct exchange *exchange;
        struct topic topic;
        int64_t key;    /* whose place it takes */
        int64_t cursor; /* id of the last frame it was given */
        int64_t head;   /* the newest id when it was opened */
        int64_t wrote;  /* boot clock */
        struct page *reading;
        bool behind;    /* of its feed: it reads by itself */
        bool blocked;   /* its socket is full */
        bool again;     /* the store would not read */
};

struct feed {
        struct feed *next, **link; /* in its bucket */
        struct api *api;
        struct http_loop *loop;
        struct topic topic;
        int64_t cursor; /* streams that are not behind have been given everything up to here */
        struct stream *streams;
        struct subscription subscription;
        struct http_task wake_task;
        _Atomic int wake_queued; /* the only member that two threads touch */
        bool reading, again;
        bool dead;      /* out of the table; a wake-up is still on its way */
};

/* Frames, read and rendered on a store thread. */
struct page {
        struct call call; /* first */
        struct scope scope;
        struct http_task task;
        struct http_loop *loop;
        struct feed *feed;     /* whose streams it is for; NULL = for one alone, */
        struct stream *stream; /* which has left when this is NULL too */
        struct topic topic;
        int64_t from;  /* frames after this id */
        int64_t floor; /* the feed's cursor when the read began: all up to here was visible */
        struct buf text;
        struct frame {
                int64_t id;
                size_t end; /* in the text */
        } frames[PAGE + 1]; /* and a gap */
        size_t n;
        bool full; /* there may be more */
        bool over; /* the run has ended: the text closes with stream.end */
};

struct loop_streams {
        struct feed *feeds[FEEDS];
};

static struct loop_streams *streams_of(struct http_loop *loop)
{
        return loop_state_streams(http_loop_data(loop));
}

static int64_t boot_now(struct api *api)
{
        const struct clock *clock = api_options(api)->world->clock;

        return clock->boot(clock->ctx);
}

/* ---- frames ---- */

static void write_data(struct buf *out, const struct event *event)
{
        struct json_out j = { .out = out };

        json_record(&j, &event_record, event);
}

/* The type is the first text of that form: it stands before the payload. */
static void write_british(struct buf *out, const struct event *event)
{
        static const char type[] = "\"type\":\"run.cancel";
        struct buf data = BUF_INIT(PAGE_BYTES * 2);
        struct str rest;
        const char *at;

        write_data(&data, event);
        rest = buf_view(&data);
        at = memmem(rest.p, rest.n, type, strlen(type));
        BUG_ON(!at);
        buf_bytes(out, rest.p, (size_t)(at - rest.p) + strlen(type));
        buf_char(out, 'l');
        buf_str(out, str_slice(rest, (size_t)(at - rest.p) + strlen(type), rest.n));
        buf_done(&data);
}

static void write_event(struct buf *out, const struct topic *topic, const struct event *event)
{
        bool british = topic->british && event->type == EVENT_RUN_CANCELED;

        buf_text(out, "id: ");
        buf_int(out, event->sequence);
        buf_text(out, "\nevent: ");
        buf_text(out, british ? "run.cancelled" : event_names.text[event->type]);
        buf_text(out, "\ndata: ");
        (british ? write_british : write_data)(out, event);
        buf_text(out, "\n\n");
}

static bool ends_run(const struct topic *topic, const struct event *event)
{
        return topic->run &&
               (event->type == EVENT_RUN_COMPLETED || event->type == EVENT_RUN_FAILED ||
                event->type == EVENT_RUN_OPERATOR_FORCED_FAIL ||
                event->type == EVENT_RUN_CANCELED || event->type == EVENT_RUN_TIMED_OUT);
}

struct log_frame {
        int64_t step, at;
        int stream;
        struct str text;
};
static const char *const log_streams[] = { "stdout", "stderr", NULL };
static const struct names log_stream_names = { log_streams, NULL };
#define AT(member) offsetof(struct log_frame, member)
static const struct field log_frame_fields[] = {
        { "step", FIELD_INT, FIELD_WIRE | FIELD_ALWAYS, AT(step), .doc = "index of the step" },
        { "stream", FIELD_ENUM, FIELD_WIRE, AT(stream), &log_stream_names },
        { "text", FIELD_STR, FIELD_WIRE | FIELD_REQUIRED, AT(text) },
        { "at", FIELD_TIME, FIELD_WIRE | FIELD_REQUIRED, AT(at) },
};
const struct record log_frame_record = { "LogFrame", log_frame_fields, LENGTH(log_frame_fields),
                                         sizeof(struct log_frame), -1 };
#undef AT

static void write_piece(struct buf *out, const struct log_line *line, int64_t end)
{
        const struct log_frame frame = { line->step, line->at, line->stream == 2, line->text };
        struct json_out j = { .out = out };

        buf_printf(out, "id: %lld\nevent: log\ndata: ", (long long)end);
        json_record(&j, &log_frame_record, &frame);
        buf_text(out, "\n\n");
}

static void end_frame(struct page *page, int64_t id)
{
        page->frames[page->n++] = (struct frame){ id, page->text.n };
}

/* What came after the cursor may have been deleted meanwhile, or the whole tree. */
static enum err read_gap(struct page *page, struct tx *tx)
{
        int64_t first;
        enum err e = events_first(tx, page->topic.tree, &first);

        if (e)
                return e;
        page->over = first == 0;
        if (first > page->from + 1) {
                buf_printf(&page->text, "event: gap\ndata: {\"first_sequence\":%lld}\n\n",
                           (long long)first);
                end_frame(page, first - 1);
        }
        return ERR_OK;
}

static enum err read_events(struct page *page, struct tx *tx)
{
        const struct topic *t = &page->topic;
        struct list list;
        const struct event_page wanted = { .tree = t->tree,
                                           .task = t->task,
                                           .run = t->run,
                                           .after = page->from,
                                           .limit = PAGE };
        enum err e = events_read(tx, &wanted, &list);
        size_t gap;

        /* Nothing is missing before an event that is the next one. */
        if (!e && (!list.n || ((const struct event *)list.items)->sequence > page->from + 1))
                e = read_gap(page, tx);
        gap = page->n;
        for (size_t i = 0; !e && !page->over && i < list.n && page->text.n < PAGE_BYTES; i++) {
                const struct event *event = (const struct event *)list.items + i;

                write_event(&page->text, t, event);
                end_frame(page, event->sequence);
                page->over = ends_run(t, event);
        }
        if (!e)
                page->full = list.n == PAGE || page->n - gap < list.n;
        return e;
}

static enum err read_log(struct page *page, struct tx *tx)
{
        struct list list;
        struct run run;
        enum err e = run_load(tx, page->topic.run, &run);

        if (!e)
                e = log_read(tx, page->topic.run, page->from, LOG_PAGE, &list);
        for (size_t i = 0; !e && i < list.n && page->text.n < PAGE_BYTES; i++) {
                const struct log_line *line = (const struct log_line *)list.items + i;
                int64_t end = line->position + (int64_t)line->text.n;

                write_piece(&page->text, line, end);
                end_frame(page, end);
        }
        if (e)
                return e;
        page->full = list.n == LOG_PAGE || page->n < list.n;
        page->over = !page->full && run_is_terminal(run.status);
        return ERR_OK;
}

/* ---- pages ---- */

static enum err read_page(struct call *call, struct tx *tx)
{
        struct page *page = (struct page *)call;
        enum err e;

        buf_clear(&page->text);
        page->n = 0;
        page->full = page->over = false;
        e = page->topic.log ? read_log(page, tx) : read_events(page, tx);
        if (!e)
                e = failpoint(call->scope, FAILPOINT_STREAM_PAGE);
        if (page->over)
                buf_text(&page->text, "event: stream.end\ndata: {}\n\n");
        return e;
}

static void page_done(struct call *call)
{
        struct page *page = (struct page *)call;

        http_post(page->loop, &page->task);
}

static void page_free(struct page *page)
{
        scope_done(&page->scope);
        buf_done(&page->text);
        free(page);
}

static void on_page(struct http_task *task);

/* Asks for what comes after `from`, for one stream or all that are not behind (NULL).  NULL when the
 * store would not read now. */
static struct page *page_read(struct feed *feed, struct stream *stream, int64_t from)
{
        struct page *page = xcalloc(1, sizeof(*page));
        const struct api_options *o = api_options(feed->api);

        page->loop = feed->loop;
        page->feed = stream ? NULL : feed;
        page->stream = stream;
        page->topic = feed->topic;
        page->from = from;
        page->floor = feed->cursor;
        page->text = BUF_INIT(64 << 20);
        page->task.run = on_page;
        scope_init(&page->scope, o->world);
        page->call = (struct call){ .run = read_page, .done = page_done, .reads = true,
                                    .scope = &page->scope };
        if (store_submit(o->store, &page->call))
                return page;
        page_free(page);
        return NULL;
}

/* ---- feeds ---- */

/* What the store would not read now, the next turn asks for again. */
static void feed_read(struct feed *feed)
{
        if (feed->reading) {
                feed->again = true;
                return;
        }
        feed->reading = page_read(feed, NULL, feed->cursor) != NULL;
        feed->again = !feed->reading;
}

/* Nobody follows it any more. */
static void feed_release(struct feed *feed)
{
        if (feed->streams || feed->reading)
                return;
        if (!feed->dead) {
                hub_unsubscribe(api_options(feed->api)->hub, &feed->subscription);
                *feed->link = feed->next;
                if (feed->next)
                        feed->next->link = feed->link;
                feed->dead = true;
        }
        if (!feed->wake_queued)
                free(feed);
}

static void on_wake(struct http_task *task)
{
        struct feed *feed = (struct feed *)(void *)((char *)task - offsetof(struct feed, wake_task));

        atomic_store(&feed->wake_queued, 0);
        if (feed->dead)
                feed_release(feed);
        else
                feed_read(feed);
}

static void wake(struct subscription *subscription)
{
        struct feed *feed = (struct feed *)(void *)((char *)subscription -
                                                    offsetof(struct feed, subscription));

        if (!atomic_exchange(&feed->wake_queued, 1))
                http_post(feed->loop, &feed->wake_task);
}

static bool topic_is(const struct topic *a, const struct topic *b)
{
        return a->tree == b->tree && a->task == b->task && a->run == b->run && a->log == b->log &&
               a->british == b->british;
}

/* The loop's feed of the stream's topic.  A new one begins where history ended when the stream was
 * opened, and reads at once what came since. */
static struct feed *feed_for(struct http_loop *loop, const struct stream *s)
{
        uint64_t hash = (uint64_t)(s->topic.tree ^ s->topic.task ^ s->topic.run) *
                        UINT64_C(0x9e3779b97f4a7c15);
        struct feed **bucket = &streams_of(loop)->feeds[hash % FEEDS], *feed = *bucket;

        while (feed && !topic_is(&feed->topic, &s->topic))
                feed = feed->next;
        if (feed)
                return feed;
        feed = xcalloc(1, sizeof(*feed));
        feed->api = s->api;
        feed->loop = loop;
        feed->topic = s->topic;
        feed->cursor = s->head;
        feed->wake_task.run = on_wake;
        feed->subscription = (struct subscription){ .topic = s->topic.tree, .wake = wake };
        feed->next = *bucket;
        feed->link = bucket;
        if (feed->next)
                feed->next->link = &feed->next;
        *bucket = feed;
        hub_subscribe(api_options(s->api)->hub, &feed->subscription);
        feed_read(feed);
        return feed;
}

/* ---- streams ---- */

void stream_discard(struct stream *s)
{
        if (!s)
                return;
        tally_leave(api_streams(s->api), (uint64_t)s->key);
        free(s);
}

/* Its connection is gone or about to end. */
static void stream_leave(struct stream *s)
{
        struct feed *feed = s->feed;

        if (s->reading)
                s->reading->stream = NULL;
        *s->link = s->next;
        if (s->next)
                s->next->link = s->link;
        stream_discard(s);
        feed_release(feed);
}

static void stream_end(struct stream *s)
{
        struct exchange *x = s->exchange;

        exchange_on_close(x, NULL, NULL);
        stream_leave(s);
        exchange_stream_end(x);
}

static void on_closed(struct exchange *x, void *arg)
{
        (void)x;
        stream_leave(arg);
}

static void stream_read(struct stream *s)
{
        s->reading = page_read(s->feed, s, s->cursor);
        s->again = !s->reading;
}

static void on_drained(struct exchange *x, void *arg)
{
        struct stream *s = arg;

        (void)x;
        if (s->blocked) {
                s->blocked = false;
                stream_read(s);
        }
}

/* Writes what the stream has not yet; false when that was its end. */
static bool stream_give(struct stream *s, const struct page *page)
{
        size_t i = 0, from, waiting = 0;

        if (page->call.result) {
                stream_end(s);
                return false;
        }
        while (i < page->n && page->frames[i].id <= s->cursor)
                i++;
        from = i ? page->frames[i - 1].end : 0;
        if (from < page->text.n) {
                waiting = exchange_stream_write(s->exchange, str_slice(buf_view(&page->text), from,
                                                                       page->text.n));
                s->wrote = boot_now(s->api);
        }
        if (page->n > i)
                s->cursor = page->frames[page->n - 1].id;
        if (page->over) {
                stream_end(s);
                return false;
        }
        if (waiting > BUFFERED_MAX)
                s->blocked = s->behind = true;
        return true;
}

/* A page that the stream asked for itself: it has caught up when there was no more to read. */
static void stream_page(const struct page *page)
{
        struct stream *s = page->stream;

        if (!s)
                return;
        s->reading = NULL;
        if (!stream_give(s, page))
                return;
        if (!page->full && s->cursor < page->floor)
                s->cursor = page->floor;
        s->behind = s->blocked || page->full || s->cursor < s->feed->cursor;
        if (s->behind && !s->blocked)
                stream_read(s);
}

static void feed_page(const struct page *page)
{
        struct feed *feed = page->feed;
        bool more = page->full || feed->again;

        if (page->n)
                feed->cursor = page->frames[page->n - 1].id;
        for (struct stream *s = feed->streams, *next; s; s = next) {
                next = s->next;
                if (!s->behind)
                        stream_give(s, page);
        }
        feed->reading = feed->again = false;
        if (more && feed->streams)
                feed_read(feed);
        feed_release(feed);
}

static void on_page(struct http_task *task)
{
        struct page *page = (struct page *)(void *)((char *)task - offsetof(struct page, task));

        if (page->feed)
                feed_page(page);
        else
                stream_page(page);
        page_free(page);
}

void stream_begin(struct request *r)
{
        struct stream *s = r->stream;
        struct exchange *x = r->exchange;

        s->exchange = x;
        s->feed = feed_for(r->loop, s);
        s->next = s->feed->streams;
        s->link = &s->feed->streams;
        if (s->next)
                s->next->link = &s->next;
        s->feed->streams = s;
        s->wrote = boot_now(s->api);
        exchange_on_close(x, on_closed, s);
        exchange_stream_on_drain(x, on_drained, s);
        exchange_add_header(x, "X-Accel-Buffering", STR("no"));
        exchange_stream_begin(x, "text/event-stream");
        exchange_stream_write(x, STR("retry: 2000\n\n"));
        s->behind = s->cursor < s->feed->cursor;
        if (s->behind)
                stream_read(s);
        scope_done(&r->scope);
        free(r);
}

/* ---- every second ---- */

static void stream_turn(struct stream *s, int64_t now)
{
        if (s->again && !s->blocked)
                stream_read(s);
        if (!s->blocked && now - s->wrote >= PING_SECONDS * US_PER_S) {
                exchange_stream_write(s->exchange, STR(": ping\n\n"));
                s->wrote = now;
        }
}

static void turn(void *arg)
{
        struct loop_streams *all = arg;

        for (size_t i = 0; i < FEEDS; i++)
                for (struct feed *feed = all->feeds[i]; feed; feed = feed->next) {
                        if (feed->again && !feed->reading)
                                feed_read(feed);
                        for (struct stream *s = feed->streams; s; s = s->next)
                                stream_turn(s, boot_now(feed->api));
                }
}

void *streams_loop_start(struct http_loop *loop)
{
        struct loop_streams *all = xcalloc(1, sizeof(*all));

        http_loop_every(loop, TURN_MS, turn, all);
        return all;
}

/* ---- handlers ---- */

/* Either of its members says where to go on. */
struct stream_filter {
        int64_t after_sequence, cursor;
};
#define PLACE(member)                                                                              \
        { #member, FIELD_INT, FIELD_WIRE | FIELD_CURSOR, offsetof(struct stream_filter, member), \
          NULL, 0, INT64_MAX, "the id of an event: a whole number" }
static const struct field stream_filter_fields[] = { PLACE(after_sequence), PLACE(cursor) };
static const struct record stream_filter = { "StreamFilter", stream_filter_fields, 2,
                                             sizeof(struct stream_filter), -1 };

/* What Last-Event-ID says, else the query. */
static enum err read_place(struct request *r, int64_t query, int64_t *out)
{
        *out = query;
        if (r->last_event_id.p && (!str_to_int(r->last_event_id, out) || *out < 0))
                return fail_field(&r->scope, "Last-Event-ID", ERR_INVALID_CURSOR,
                                  "Last-Event-ID must be the id of a frame: a whole number");
        return ERR_OK;
}

static enum err read_cursor(struct request *r, int64_t *out)
{
        const struct stream_filter *f = r->filter;

        return read_place(r, f->after_sequence ? f->after_sequence : f->cursor, out);
}

static enum err make_stream(struct request *r, struct topic topic, int64_t cursor, int64_t head)
{
        size_t most = api_options(r->api)->max_streams;

        if (!tally_enter(api_streams(r->api), (uint64_t)r->by.key, most))
                return fail_limit(&r->scope, "", ERR_RATE_LIMITED, (int64_t)most, (int64_t)most + 1,
                                  "event streams that one key has open");
        r->stream = xcalloc(1, sizeof(*r->stream));
        *r->stream = (struct stream){ .api = r->api,
                                      .topic = topic,
                                      .key = r->by.key,
                                      .cursor = cursor,
                                      .head = head };
        return ERR_OK;
}

static enum err open_stream(struct request *r, struct tx *tx, struct topic topic)
{
        int64_t cursor, head = 0;
        enum err e = read_cursor(r, &cursor);

        if (!e)
                e = events_head(tx, topic.tree, &head);
        if (!e && cursor > head)
                e = fail_limit(&r->scope, "Last-Event-ID", ERR_CURSOR_AHEAD, head, cursor,
                               "the newest event");
        return e ? e : make_stream(r, topic, cursor, head);
}

enum err stream_log(struct request *r, struct tx *tx)
{
        const struct log_filter *f = r->filter;
        struct run run;
        int64_t id, after, end = 0;
        enum err e = request_id(r, 0, "run", "run", &id);

        if (!e)
                e = run_get(tx, &r->by, id, &run);
        if (!e)
                e = read_place(r, f->after, &after);
        if (!e)
                e = log_end(tx, id, &end);
        if (e)
                return e;
        if (after > end)
                return fail_limit(&r->scope, "after", ERR_CURSOR_AHEAD, end, after,
                                  "the end of the log");
        return make_stream(r, (struct topic){ .tree = run.tree_id, .run = id, .log = true }, after,
                           end);
}

static enum err stream_task(struct request *r, struct tx *tx)
{
        struct task task;
        int64_t id;
        enum err e = request_id(r, 0, "task", "task", &id);

        if (!e)
                e = task_get(tx, &r->by, id, &task);
        return e ? e : open_stream(r, tx, (struct topic){ .tree = task.tree_id,
                                                          .task = id == task.tree_id ? 0 : id });
}

/* {task} is the run's task or its definition. */
static enum err stream_run(struct request *r, struct tx *tx)
{
        struct run run;
        int64_t id, owner, last = 0, head = 0, cursor;
        enum err e = request_id(r, 1, "run", "run", &id);

        if (!e)
                e = run_get(tx, &r->by, id, &run);
        if (e)
                return e;
        if (!(id_parse("task", r->params[0], &owner) && owner == run.task_id) &&
            !(id_parse("def", r->params[0], &owner) && owner == run.definition_id))
                return fail_missing(&r->scope, "run");
        if (run_is_terminal(run.status)) {
                e = read_cursor(r, &cursor);
                if (!e)
                        e = tx_number(tx, SQL_EVENT_LAST_OF_RUN, &last, INT(run.tree_id), INT(id));
                if (!e)
                        e = events_head(tx, run.tree_id, &head);
                if (e)
                        return e;
                r->status = 204;
                if (cursor >= last && cursor <= head)
                        return ERR_OK;
        }
        return open_stream(r, tx, (struct topic){ .tree = run.tree_id,
                                                  .run = id,
                                                  .british = str_starts(r->path, "/api/") });
}

const struct route stream_routes[] = {
        { HTTP_GET, "/v1/tasks/{task}/events/stream", SCOPE_TASKS_READ, ROUTE_READ, ROUTE_STREAM,
          NULL, &event_record, stream_task, 0, "Follow a task and its descendants",
          .filter = &stream_filter },
        { HTTP_GET, "/v1/tasks/{task}/stream", SCOPE_TASKS_READ, ROUTE_READ, ROUTE_STREAM, NULL,
          &event_record, stream_task, 0, "Follow a task (alias)", .filter = &stream_filter },
        { HTTP_GET, "/v1/tasks/{task}/runs/{run}/events/stream", SCOPE_TASKS_READ, ROUTE_READ,
          ROUTE_STREAM | ROUTE_OR_EMPTY, NULL, &event_record, stream_run, 0, "Follow a run",
          .filter = &stream_filter },
        { HTTP_GET, "/api/tasks/{task}/runs/{run}/stream", SCOPE_TASKS_READ, ROUTE_READ,
          ROUTE_STREAM | ROUTE_OR_EMPTY, NULL, &event_record, stream_run, 0,
          "Follow a run (alias)", .filter = &stream_filter },
        { 0 },
};
