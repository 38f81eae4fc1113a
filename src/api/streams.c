/*
 * Event streams.  A stream subscribes in the hub before its first read and then reads pages from its
 * own cursor, so nothing falls between; it parks when a page comes back short and no wake-up came
 * meanwhile.  A reader that is too slow is paused at its socket, never in the server's memory.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "api/request.h"
#include "core/failpoint.h"
#include "domain/log_line.h"
#include "domain/run.h"
#include "domain/sql.h"

/* A piece of a log has up to 64 KiB: their pages are shorter. */
enum { PAGE = 200, LOG_PAGE = 4, BUFFERED_MAX = 256 * 1024, PING_MS = 15000 };

struct stream {
        struct call call; /* first: reads a page */
        struct scope scope;
        struct api *api;
        struct http_loop *loop;
        struct exchange *exchange;
        struct http_task page_task, wake_task;
        struct subscription subscription;
        _Atomic int wake_queued; /* the only member that two threads touch */
        bool reading, again, blocked, closed;
        int64_t tree, task, run, cursor;
        bool log;      /* of the run's log, by byte offset; else of events */
        bool run_over; /* the run had ended when the page was read */
        struct list page;
        struct stream *next, **link; /* on its loop, for pings */
};

struct loop_streams {
        struct stream *first;
};

static void read_more(struct stream *s);

static void ping_all(void *arg)
{
        struct loop_streams *all = arg;

        for (struct stream *s = all->first, *next; s; s = next) {
                next = s->next;
                if (s->closed || s->blocked)
                        continue;
                exchange_stream_write(s->exchange, STR(": ping\n\n"));
                if (s->again && !s->reading)
                        read_more(s);
        }
}

static struct loop_streams *streams_of(struct http_loop *loop);

static void stream_free(struct stream *s)
{
        scope_done(&s->scope);
        free(s);
}

static void free_if_idle(struct stream *s)
{
        if (s->closed && !s->reading && !s->wake_queued)
                stream_free(s);
}

static void detach(struct stream *s)
{
        hub_unsubscribe(api_options(s->api)->hub, &s->subscription);
        *s->link = s->next;
        if (s->next)
                s->next->link = s->link;
        s->closed = true;
}

static void on_closed(struct exchange *x, void *arg)
{
        struct stream *s = arg;

        (void)x;
        s->exchange = NULL;
        detach(s);
        free_if_idle(s);
}

static enum err read_page(struct call *call, struct tx *tx)
{
        struct stream *s = (struct stream *)call;
        struct run run;
        enum err e;

        if (s->log) {
                e = run_load(tx, s->run, &run);
                s->run_over = !e && run_is_terminal(run.status);
                return e ? e : log_read(tx, s->run, s->cursor, LOG_PAGE, &s->page);
        }
        return events_read(tx, s->tree, s->cursor, s->task, s->run, false, 0, PAGE, &s->page);
}

static void page_read(struct call *call)
{
        struct stream *s = (struct stream *)call;

        http_post(s->loop, &s->page_task);
}

static void read_more(struct stream *s)
{
        if (s->reading || s->blocked) {
                s->again = true;
                return;
        }
        scope_reset(&s->scope);
        s->again = false;
        s->reading = store_submit(api_options(s->api)->store, &s->call);
        s->again = !s->reading; /* the queue is full: the next wake-up or ping tries again */
}

static void write_event(struct buf *out, const struct event *event)
{
        struct json_out j = { .out = out };

        buf_text(out, "id: ");
        buf_int(out, event->sequence);
        buf_text(out, "\nevent: ");
        buf_text(out, event_names.text[event->type]);
        buf_text(out, "\ndata: ");
        json_record(&j, &event_record, event);
        buf_text(out, "\n\n");
}

static bool ends_run(const struct stream *s, const struct event *event)
{
        return s->run && (event->type == EVENT_RUN_COMPLETED || event->type == EVENT_RUN_FAILED ||
                          event->type == EVENT_RUN_CANCELED || event->type == EVENT_RUN_TIMED_OUT);
}

static void write_piece(struct buf *out, const struct log_line *line, int64_t end)
{
        struct json_out j = { .out = out };

        buf_printf(out, "id: %lld\nevent: log\ndata: ", (long long)end);
        json_begin_object(&j);
        json_key(&j, "step");
        json_put_int(&j, line->step);
        json_key(&j, "stream");
        json_put_text(&j, line->stream == 2 ? "stderr" : "stdout");
        json_key(&j, "text");
        json_put_str(&j, line->text);
        json_key(&j, "at");
        json_put_time(&j, line->at);
        json_end_object(&j);
        buf_text(out, "\n\n");
}

/* Writes pieces of the log; true when the run has ended and nothing is left. */
static bool write_log(struct stream *s, size_t *waiting)
{
        const struct log_line *line = s->page.items;
        struct buf out = BUF_INIT(64 << 20);
        bool over = s->run_over && s->page.n < LOG_PAGE;

        for (size_t i = 0; i < s->page.n; i++) {
                s->cursor = line[i].position + (int64_t)line[i].text.n;
                write_piece(&out, &line[i], s->cursor);
        }
        if (over)
                buf_text(&out, "event: stream.end\ndata: {}\n\n");
        *waiting = exchange_stream_write(s->exchange, buf_view(&out));
        buf_done(&out);
        return over;
}

/* Writes the page; true when the run's last event was in it. */
static bool write_page(struct stream *s, size_t *waiting)
{
        const struct event *event = s->page.items;
        struct buf out = BUF_INIT(64 << 20);
        bool over = false;

        for (size_t i = 0; i < s->page.n && !over; i++) {
                write_event(&out, &event[i]);
                s->cursor = event[i].sequence;
                over = ends_run(s, &event[i]);
        }
        if (over)
                buf_text(&out, "event: stream.end\ndata: {}\n\n");
        *waiting = exchange_stream_write(s->exchange, buf_view(&out));
        buf_done(&out);
        return over;
}

static void on_page(struct http_task *task)
{
        struct stream *s =
                (struct stream *)(void *)((char *)task - offsetof(struct stream, page_task));
        size_t waiting = 0;
        bool more;

        s->reading = false;
        if (s->closed) {
                free_if_idle(s);
                return;
        }
        if (s->call.result || failpoint_fails(FAILPOINT_STREAM_PAGE) ||
            (s->log ? write_log : write_page)(s, &waiting)) {
                struct exchange *x = s->exchange;

                detach(s);
                exchange_on_close(x, NULL, NULL);
                exchange_stream_end(x);
                free_if_idle(s);
                return;
        }
        s->blocked = waiting > BUFFERED_MAX;
        more = s->page.n == (s->log ? LOG_PAGE : PAGE) || s->again;
        s->page = (struct list){ 0 };
        scope_reset(&s->scope);
        if (more)
                read_more(s);
}

static void on_drained(struct exchange *x, void *arg)
{
        struct stream *s = arg;

        (void)x;
        if (s->blocked) {
                s->blocked = false;
                read_more(s);
        }
}

static void on_wake(struct http_task *task)
{
        struct stream *s =
                (struct stream *)(void *)((char *)task - offsetof(struct stream, wake_task));

        atomic_store(&s->wake_queued, 0);
        if (s->closed)
                free_if_idle(s);
        else
                read_more(s);
}

static void wake(struct subscription *subscription)
{
        struct stream *s = (struct stream *)(void *)((char *)subscription -
                                                     offsetof(struct stream, subscription));

        if (!atomic_exchange(&s->wake_queued, 1))
                http_post(s->loop, &s->wake_task);
}

void stream_discard(struct stream *s)
{
        if (s)
                stream_free(s);
}

void stream_begin(struct request *r)
{
        struct stream *s = r->stream;
        struct loop_streams *all = streams_of(r->loop);
        struct exchange *x = r->exchange;

        s->exchange = x;
        s->loop = r->loop;
        s->subscription = (struct subscription){ .topic = s->tree, .wake = wake };
        s->next = all->first;
        s->link = &all->first;
        if (s->next)
                s->next->link = &s->next;
        all->first = s;
        hub_subscribe(api_options(s->api)->hub, &s->subscription);
        exchange_on_close(x, on_closed, s);
        exchange_stream_on_drain(x, on_drained, s);
        exchange_add_header(x, "X-Accel-Buffering", STR("no"));
        exchange_stream_begin(x, "text/event-stream");
        exchange_stream_write(x, STR("retry: 2000\n\n"));
        read_more(s);
        scope_done(&r->scope);
        free(r);
}

/* ---- handlers ---- */

static enum err read_cursor(struct request *r, int64_t *out)
{
        struct str text = r->last_event_id;

        *out = 0;
        if (!text.p)
                text = request_query(r, "after_sequence");
        if (!text.p)
                text = request_query(r, "cursor");
        if (text.p && (!str_to_int(text, out) || *out < 0))
                return fail_field(&r->scope, "Last-Event-ID", ERR_INVALID_CURSOR,
                                  "the cursor must be the id of an event: a whole number");
        return ERR_OK;
}

static void make_stream(struct request *r, int64_t tree, int64_t task, int64_t run, int64_t cursor)
{
        struct stream *s = xcalloc(1, sizeof(*s));

        *s = (struct stream){ .api = r->api,
                              .tree = tree,
                              .task = task,
                              .run = run,
                              .cursor = cursor,
                              .page_task = { .run = on_page },
                              .wake_task = { .run = on_wake } };
        scope_init(&s->scope, r->scope.world);
        s->call = (struct call){ .run = read_page, .done = page_read, .reads = true,
                                 .scope = &s->scope };
        r->stream = s;
}

static enum err open_stream(struct request *r, struct tx *tx, int64_t tree, int64_t task, int64_t run)
{
        int64_t cursor, head = 0;
        enum err e = read_cursor(r, &cursor);

        if (!e)
                e = events_head(tx, tree, &head);
        if (!e && cursor > head)
                e = fail_limit(&r->scope, "Last-Event-ID", ERR_CURSOR_AHEAD, head, cursor,
                               "the newest event");
        if (!e)
                make_stream(r, tree, task, run, cursor);
        return e;
}

enum err stream_log(struct request *r, struct tx *tx)
{
        struct str text = r->last_event_id.p ? r->last_event_id : request_query(r, "after");
        struct run run;
        int64_t id, after = 0, end = 0;
        enum err e = request_id(r, 0, "run", "run", &id);

        if (!e)
                e = run_get(tx, &r->by, id, &run);
        if (!e && text.p && (!str_to_int(text, &after) || after < 0))
                e = fail_field(&r->scope, "after", ERR_INVALID_CURSOR,
                               "the cursor must be a byte offset: a whole number");
        if (!e)
                e = log_end(tx, id, &end);
        if (e)
                return e;
        if (after > end)
                return fail_limit(&r->scope, "after", ERR_CURSOR_AHEAD, end, after,
                                  "the end of the log");
        make_stream(r, run.tree_id, 0, id, after);
        r->stream->log = true;
        return ERR_OK;
}

static enum err stream_task(struct request *r, struct tx *tx)
{
        struct task task;
        int64_t id;
        enum err e = request_id(r, 0, "task", "task", &id);

        if (!e)
                e = task_get(tx, &r->by, id, &task);
        return e ? e : open_stream(r, tx, task.tree_id, id == task.tree_id ? 0 : id, 0);
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
        return open_stream(r, tx, run.tree_id, 0, id);
}

const struct route stream_routes[] = {
        { HTTP_GET, "/v1/tasks/{task}/events/stream", SCOPE_TASKS_READ, ROUTE_READ, ROUTE_STREAM,
          NULL, &event_record, stream_task, 0, "Follow a task and its descendants" },
        { HTTP_GET, "/v1/tasks/{task}/stream", SCOPE_TASKS_READ, ROUTE_READ, ROUTE_STREAM, NULL,
          &event_record, stream_task, 0, "Follow a task (alias)" },
        { HTTP_GET, "/v1/tasks/{task}/runs/{run}/events/stream", SCOPE_TASKS_READ, ROUTE_READ,
          ROUTE_STREAM, NULL, &event_record, stream_run, 0, "Follow a run" },
        { HTTP_GET, "/api/tasks/{task}/runs/{run}/stream", SCOPE_TASKS_READ, ROUTE_READ,
          ROUTE_STREAM, NULL, &event_record, stream_run, 0, "Follow a run (alias)" },
        { 0 },
};

/* ---- per loop ---- */

void *streams_loop_start(struct http_loop *loop)
{
        struct loop_streams *all = xcalloc(1, sizeof(*all));

        http_loop_every(loop, PING_MS, ping_all, all);
        return all;
}

static struct loop_streams *streams_of(struct http_loop *loop)
{
        return loop_state_streams(http_loop_data(loop));
}
