#include "http/exchange.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "core/failpoint.h"
#include "core/json_out.h"
#include "http/head.h"
#include "http/loop.h"

enum {
        READ_SIZE = 16384,
        AHEAD_MAX = 65536,      /* bytes read ahead of the request that is served */
        DRAINED = 16384,
        RATE_MIN = 1024,        /* bytes a second of a body after BODY_GRACE, of a reply after WRITE_STALL */
        BODY_GRACE = 5,
        LINGER = 2, WRITE_STALL = 30,       /* seconds without progress on a full socket */
        REST = 2,               /* seconds after which an idle connection keeps no memory */
        CHUNK_LINE_MAX = 256,
        OUT_MAX = 64 << 20,
        RESPONSE_FIELDS = 1024,
};

enum phase { READ_HEAD, READ_BODY, READ_CHUNK_SIZE, READ_CHUNK, READ_CHUNK_END, READ_TRAILER,
             HANDLING, STREAMING, LINGERING };

struct exchange {
        struct exchange *next, **link; /* on its loop */
        struct http_loop *loop;
        struct event *readable, *writable;
        int fd;
        struct http_peer peer;
        enum phase phase;
        int64_t since;       /* boot clock: first byte of this phase, or last progress */
        bool close_after, in_handler, dead, over_mark, half_closed;
        bool refused;        /* one too many: only told so */
        uint64_t source;     /* where it came from, 0 = the Unix socket */

        char *in;            /* unread bytes are in[at..n) */
        size_t at, n, size;
        struct buf out;      /* unsent bytes are out.p[sent..n) */
        size_t sent;
        int64_t moved;       /* boot clock of the last byte sent */
        int64_t replied;     /* boot clock: the reply was given */

        struct scope scope;  /* of the request */
        struct head *head;   /* in it */
        struct buf body;
        struct http_request request;
        size_t limit, chunk_left;
        struct buf fields;   /* added by the application */
        void *data;
        void (*closed)(struct exchange *, void *);
        void *closed_arg;
        void (*drained)(struct exchange *, void *);
        void *drained_arg;
        void (*delivered)(void *, bool); /* of the last reply; asked once */
        void *delivered_arg;
};

static int64_t boot_now(const struct http_loop *loop)
{
        const struct clock *clock = loop->server->options.world->clock;

        return clock->boot(clock->ctx);
}

/* ---- its life ---- */

static size_t pending(const struct exchange *x)
{
        return x->out.n - x->sent;
}

static bool in_exchange(const struct exchange *x)
{
        return x->phase == HANDLING || x->phase == STREAMING;
}

static void leave_exchange(struct exchange *x)
{
        if (in_exchange(x))
                x->loop->server->busy--;
}

/* What became of the last reply is known. */
static void settle(struct exchange *x, bool taken)
{
        void (*delivered)(void *, bool) = x->delivered;

        x->delivered = NULL;
        if (delivered)
                delivered(x->delivered_arg, taken);
}

/* What the last request left; the memory goes with it. */
static void forget_request(struct exchange *x)
{
        x->head = NULL;
        x->request = (struct http_request){ 0 };
        buf_done(&x->body);
        buf_done(&x->fields);
}

/* A connection that waits, or streams, keeps no memory for requests. */
static void rest(struct exchange *x)
{
        forget_request(x);
        scope_done(&x->scope);
        if (x->at == x->n) {
                free(x->in);
                x->in = NULL;
                x->at = x->n = x->size = 0;
        }
        if (!pending(x))
                buf_done(&x->out);
}

static void destroy(struct exchange *x)
{
        settle(x, x->sent == x->out.n);
        leave_exchange(x);
        if (x->closed && in_exchange(x)) {
                void (*closed)(struct exchange *, void *) = x->closed;

                x->closed = NULL;
                closed(x, x->closed_arg);
        }
        *x->link = x->next;
        if (x->next)
                x->next->link = x->link;
        event_free(x->readable);
        event_free(x->writable);
        close(x->fd);
        forget_request(x);
        free(x->in);
        buf_done(&x->out);
        scope_done(&x->scope);
        http_server_leave(x->loop->server, x->source, x->refused);
        free(x);
}

/* A connection may be found dead deep inside a handler: it is freed when that has returned. */
static void drop(struct exchange *x)
{
        if (x->in_handler)
                x->dead = true;
        else
                destroy(x);
}

/* Sends what fits now; false when the connection is gone. */
static bool flush(struct exchange *x)
{
        while (x->sent < x->out.n) {
                ssize_t n = send(x->fd, x->out.p + x->sent, x->out.n - x->sent, MSG_NOSIGNAL);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN) {
                        event_add(x->writable, NULL);
                        return true;
                }
                if (n <= 0)
                        return false;
                x->sent += (size_t)n;
                x->moved = boot_now(x->loop);
        }
        buf_clear(&x->out);
        x->sent = 0;
        if (x->phase == STREAMING || x->out.size > 4 * READ_SIZE)
                buf_done(&x->out);
        return true;
}

static void serve_input(struct exchange *x);

/*
 * All is sent and the connection ends.  What the client is still sending is read and thrown away for
 * a moment: closing at once would reset the connection, and the client might lose the answer
 * (RFC 9112, 9.6).
 */
static void linger(struct exchange *x)
{
        x->half_closed = true;
        x->since = boot_now(x->loop);
        if (shutdown(x->fd, SHUT_WR))
                drop(x);
}

/* Reads on, unless enough was read ahead: a client that pipelines is kept waiting, not buffered. */
static void want_input(struct exchange *x)
{
        if (x->n - x->at < AHEAD_MAX)
                event_add(x->readable, NULL);
}

/* The exchange is over: the connection is ready for the next request, or closes. */
static void exchange_over(struct exchange *x)
{
        leave_exchange(x);
        x->closed = NULL;
        x->drained = NULL;
        forget_request(x);
        x->phase = x->close_after ? LINGERING : READ_HEAD;
        x->since = boot_now(x->loop);
        scope_reset(&x->scope);
        if (x->phase == LINGERING)
                x->at = x->n;
        want_input(x);
        if (x->phase == LINGERING && !pending(x))
                linger(x);
        else if (x->phase == READ_HEAD && !x->in_handler)
                serve_input(x);
}

/* ---- replies ---- */

static const char *reason(int status)
{
        static const struct {
                int status;
                const char *text;
        } reasons[] = {
                { 200, "OK" },
                { 201, "Created" },
                { 204, "No Content" },
                { 400, "Bad Request" },
                { 401, "Unauthorized" },
                { 403, "Forbidden" },
                { 404, "Not Found" },
                { 405, "Method Not Allowed" },
                { 408, "Request Timeout" },
                { 409, "Conflict" },
                { 412, "Precondition Failed" },
                { 413, "Content Too Large" },
                { 415, "Unsupported Media Type" },
                { 417, "Expectation Failed" },
                { 422, "Unprocessable Content" },
                { 429, "Too Many Requests" },
                { 431, "Request Header Fields Too Large" },
                { 500, "Internal Server Error" },
                { 503, "Service Unavailable" },
                { 507, "Insufficient Storage" },
        };

        for (size_t i = 0; i < LENGTH(reasons); i++)
                if (reasons[i].status == status)
                        return reasons[i].text;
        return "Status";
}

static const char *date_text(struct http_loop *loop)
{
        int64_t wall = loop->server->options.world->clock->wall(
                loop->server->options.world->clock->ctx);
        time_t now = (time_t)(wall / US_PER_S);
        struct tm tm;

        if (now != loop->date_of) {
                loop->date_of = now;
                gmtime_r(&now, &tm);
                strftime(loop->date, sizeof(loop->date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
        }
        return loop->date;
}

static void begin_response(struct exchange *x, int status, const char *content_type)
{
        buf_text(&x->out, "HTTP/1.1 ");
        buf_int(&x->out, status);
        buf_char(&x->out, ' ');
        buf_text(&x->out, reason(status));
        buf_text(&x->out, "\r\nDate: ");
        buf_text(&x->out, date_text(x->loop));
        buf_text(&x->out, "\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n");
        if (*content_type) {
                buf_text(&x->out, "Content-Type: ");
                buf_text(&x->out, content_type);
                buf_text(&x->out, "\r\n");
        }
        buf_str(&x->out, buf_view(&x->fields));
        if (x->close_after)
                buf_text(&x->out, "Connection: close\r\n");
}

void exchange_reply(struct exchange *x, int status, const char *content_type, struct str body)
{
        if (x->loop->server->draining)
                x->close_after = true;
        begin_response(x, status, content_type);
        if (status != 204) {
                buf_text(&x->out, "Content-Length: ");
                buf_int(&x->out, (int64_t)body.n);
                buf_text(&x->out, "\r\n");
        }
        buf_text(&x->out, "\r\n");
        if (x->request.method != HTTP_HEAD && status != 204)
                buf_str(&x->out, body);
        x->moved = x->replied = boot_now(x->loop);
        if (failpoint_fails(FAILPOINT_REPLY) || x->out.full || !flush(x)) {
                x->closed = NULL;
                settle(x, false);
                drop(x);
                return;
        }
        exchange_over(x);
}

bool exchange_client_left(const struct exchange *x)
{
        char next;

        return recv(x->fd, &next, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

void exchange_on_delivery(struct exchange *x, void (*delivered)(void *, bool), void *arg)
{
        settle(x, true); /* it asked again without waiting */
        x->delivered = delivered;
        x->delivered_arg = arg;
}

void exchange_close(struct exchange *x)
{
        drop(x);
}

void exchange_add_header(struct exchange *x, const char *name, struct str value)
{
        if (str_find(value, '\r', 0) < value.n || str_find(value, '\n', 0) < value.n)
                return;
        buf_printf(&x->fields, "%s: " STR_FMT "\r\n", name, STR_ARG(value));
}

void exchange_fail(struct exchange *x, const struct fault *fault)
{
        struct buf text = BUF_INIT(65536);
        struct json_out j = { .out = &text };
        char seconds[16];

        json_problem(&j, fault, x->request.path);
        if (fault->code == ERR_UNAUTHENTICATED)
                exchange_add_header(x, "WWW-Authenticate", STR("Bearer"));
        if (fault->retry_after || err_http_status(fault->code) == 503 ||
            err_http_status(fault->code) == 429) {
                snprintf(seconds, sizeof(seconds), "%d",
                         fault->retry_after ? fault->retry_after : 1);
                exchange_add_header(x, "Retry-After", str_from(seconds));
        }
        exchange_reply(x, err_http_status(fault->code), "application/problem+json",
                       buf_view(&text));
        buf_done(&text);
}

/* A refusal before the request was whole: answered, then the connection ends. */
static void refuse(struct exchange *x)
{
        x->close_after = true;
        x->phase = HANDLING;
        x->loop->server->busy++;
        x->at = x->n; /* nothing behind it can be framed */
        exchange_fail(x, &x->scope.fault);
}

/* ---- requests ---- */

static bool percent_decode(struct arena *arena, struct str s, struct str *out)
{
        static const char hex[] = "0123456789abcdef0123456789ABCDEF";
        char *text = arena_alloc(arena, s.n + 1, 1);
        size_t n = 0;

        for (size_t i = 0; i < s.n; i++) {
                const char *high, *low;

                if (s.p[i] != '%') {
                        text[n++] = s.p[i];
                        continue;
                }
                if (i + 2 >= s.n || !s.p[i + 1] || !s.p[i + 2])
                        return false;
                high = strchr(hex, s.p[i + 1]);
                low = strchr(hex, s.p[i + 2]);
                if (!high || !low)
                        return false;
                text[n] = (char)((high - hex) % 16 << 4 | (low - hex) % 16);
                if (text[n] == '\0' || text[n] == '/')
                        return false;
                n++;
                i += 2;
        }
        *out = (struct str){ text, n };
        return str_is_utf8(*out);
}

static void handle(struct exchange *x)
{
        struct http_server *server = x->loop->server;
        struct str query, path = str_cut(x->head->target, '?', &query);

        x->request = (struct http_request){ .method = x->head->method,
                                            .method_text = x->head->method_text,
                                            .query = query.p ? query : STR(""),
                                            .body = buf_view(&x->body),
                                            .peer = x->peer };
        if (!percent_decode(&x->scope.arena, path, &x->request.path)) {
                fail(&x->scope, ERR_BAD_REQUEST, "malformed request: percent-encoding of the path");
                refuse(x);
                return;
        }
        x->close_after = !x->head->keep_alive;
        x->phase = HANDLING;
        server->busy++;
        x->in_handler = true;
        server->options.handle(server->options.app, x);
        x->in_handler = false;
        if (x->dead)
                destroy(x);
        else if (x->phase == READ_HEAD && x->at < x->n)
                serve_input(x);
}

static enum err read_head(struct exchange *x, char *end)
{
        struct http_server *server = x->loop->server;
        size_t n = (size_t)(end + 4 - (x->in + x->at));
        char *text = memcpy(arena_alloc(&x->scope.arena, n, 1), x->in + x->at, n);
        struct head *head = arena_new(&x->scope.arena, struct head);
        struct str path, query;
        enum err e;

        x->at += n;
        e = head_parse(&x->scope, text, n, head);
        if (e)
                return e;
        path = str_cut(head->target, '?', &query);
        x->limit = server->options.body_limit(server->options.app, head->method, path);
        if (head->length > (int64_t)x->limit)
                return fail_limit(&x->scope, "", ERR_TOO_LARGE, (int64_t)x->limit, head->length,
                                  "bytes of the body");
        if (head->expects_continue)
                buf_text(&x->out, "HTTP/1.1 100 Continue\r\n\r\n");
        x->head = head;
        x->body = BUF_INIT(x->limit);
        x->phase = head->chunked ? READ_CHUNK_SIZE : READ_BODY;
        x->since = boot_now(x->loop);
        return ERR_OK;
}

/* Moves up to `want` unread bytes into the body. */
static size_t take(struct exchange *x, size_t want)
{
        size_t there = x->n - x->at, n = there < want ? there : want;

        buf_bytes(&x->body, x->in + x->at, n);
        x->at += n;
        return n;
}

static char *find_line(struct exchange *x)
{
        return memmem(x->in + x->at, x->n - x->at, "\r\n", 2);
}

static enum err read_chunk_size(struct exchange *x, char *end)
{
        struct str extension, line = { x->in + x->at, (size_t)(end - (x->in + x->at)) };
        bool fits = line.n <= CHUNK_LINE_MAX;
        size_t value = 0;

        line = str_cut(line, ';', &extension);
        if (!line.n || line.n > 8 || !fits || !head_is_value(extension))
                return fail(&x->scope, ERR_BAD_REQUEST, "malformed request: chunk size");
        for (size_t i = 0; i < line.n; i++) {
                char c = line.p[i];
                int digit = c >= '0' && c <= '9' ? c - '0' :
                            c >= 'a' && c <= 'f' ? c - 'a' + 10 :
                            c >= 'A' && c <= 'F' ? c - 'A' + 10 :
                                                   -1;

                if (digit < 0)
                        return fail(&x->scope, ERR_BAD_REQUEST, "malformed request: chunk size");
                value = value << 4 | (size_t)digit;
        }
        if (x->body.n + value > x->limit)
                return fail_limit(&x->scope, "", ERR_TOO_LARGE, (int64_t)x->limit,
                                  (int64_t)(x->body.n + value), "bytes of the body");
        x->at = (size_t)(end - x->in) + 2;
        x->chunk_left = value;
        x->phase = value ? READ_CHUNK : READ_TRAILER;
        return ERR_OK;
}

enum progress { WANTS_MORE, WENT_ON, COMPLETE, REFUSED };

static enum progress of(enum err e)
{
        return e ? REFUSED : WENT_ON;
}

/* One step through the bytes that are there. */
static enum progress advance(struct exchange *x)
{
        char *end;

        switch (x->phase) {
        case READ_HEAD:
                end = memmem(x->in + x->at, x->n - x->at, "\r\n\r\n", 4);
                if ((end ? (size_t)(end - (x->in + x->at)) : x->n - x->at) > HEAD_MAX - 4)
                        return of(fail(&x->scope, ERR_HEADERS_TOO_LARGE,
                                       "the head may have at most %d bytes", HEAD_MAX));
                /* A head that already is malformed need not become complete: other protocols. */
                if (x->n > x->at && !head_is_token((struct str){ x->in + x->at, 1 }))
                        return of(fail(&x->scope, ERR_BAD_REQUEST, "malformed request: request line"));
                if (!end && x->n > x->at && memchr(x->in + x->at, '\n', x->n - x->at) &&
                    !memmem(x->in + x->at, x->n - x->at, "\r\n", 2))
                        return of(fail(&x->scope, ERR_BAD_REQUEST,
                                       "malformed request: lines must end with CR LF"));
                return end ? of(read_head(x, end)) : WANTS_MORE;
        case READ_BODY:
                take(x, (size_t)x->head->length - x->body.n);
                return x->body.n == (size_t)x->head->length ? COMPLETE : WANTS_MORE;
        case READ_CHUNK_SIZE:
                end = find_line(x);
                if (!end && x->n - x->at > CHUNK_LINE_MAX)
                        return of(fail(&x->scope, ERR_BAD_REQUEST, "malformed request: chunk size"));
                return end ? of(read_chunk_size(x, end)) : WANTS_MORE;
        case READ_CHUNK:
                x->chunk_left -= take(x, x->chunk_left);
                if (x->chunk_left)
                        return WANTS_MORE;
                x->phase = READ_CHUNK_END;
                return WENT_ON;
        case READ_CHUNK_END:
                if (x->n - x->at < 2)
                        return WANTS_MORE;
                if (memcmp(x->in + x->at, "\r\n", 2) != 0)
                        return of(fail(&x->scope, ERR_BAD_REQUEST, "malformed request: chunk end"));
                x->at += 2;
                x->phase = READ_CHUNK_SIZE;
                return WENT_ON;
        case READ_TRAILER:
                if (x->n - x->at < 2)
                        return WANTS_MORE;
                if (memcmp(x->in + x->at, "\r\n", 2) != 0)
                        return of(fail(&x->scope, ERR_BAD_REQUEST,
                                       "malformed request: trailers are not accepted"));
                x->at += 2;
                return COMPLETE;
        case HANDLING:
        case STREAMING:
        case LINGERING:
                break;
        }
        return WANTS_MORE;
}

static void serve_input(struct exchange *x)
{
        enum progress p = WENT_ON;

        if (x->phase == READ_HEAD && x->at == x->n) {
                x->at = x->n = 0;
                return;
        }
        /* Who does not read the answers gets no more of them: on_writable() goes on. */
        if (x->phase == READ_HEAD && pending(x) >= DRAINED) {
                event_del(x->readable);
                x->over_mark = true;
                return;
        }
        while (p == WENT_ON && !in_exchange(x))
                p = advance(x);
        if (p == REFUSED)
                refuse(x);
        else if (p == COMPLETE)
                handle(x); /* continues with what was read ahead when the reply is out */
        else if (pending(x) && !flush(x))
                drop(x);
        else
                want_input(x);
}

/* ---- events of a socket ---- */

static void make_room(struct exchange *x)
{
        if (x->at) {
                memmove(x->in, x->in + x->at, x->n - x->at);
                x->n -= x->at;
                x->at = 0;
        }
        if (x->size - x->n < READ_SIZE / 2) {
                x->size = x->size ? x->size * 2 : READ_SIZE / 4;
                if (x->size < x->n + READ_SIZE / 4)
                        x->size = x->n + READ_SIZE / 4;
                x->in = xrealloc(x->in, x->size);
        }
}

/* Who closes a socket with an unread answer in it resets the connection (RFC 1122, 4.2.2.13); behind
 * an end that was read before, the reset shows only as the socket's error. */
static bool was_reset(const struct exchange *x)
{
        int error = 0;
        socklen_t n = sizeof(error);

        return getsockopt(x->fd, SOL_SOCKET, SO_ERROR, &error, &n) || error;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
        struct exchange *x = arg;
        size_t room;
        ssize_t got;

        (void)what;
        if (x->phase == LINGERING)
                x->at = x->n = 0;
        make_room(x);
        room = x->size - x->n;
        got = recv(fd, x->in + x->n, room < READ_SIZE ? room : READ_SIZE, 0);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (got <= 0) {
                settle(x, got == 0 && !was_reset(x));
                destroy(x);
                return;
        }
        settle(x, true);
        if (x->phase == READ_HEAD && x->n == x->at)
                x->since = boot_now(x->loop);
        x->n += (size_t)got;
        if (in_exchange(x)) {
                if (x->n - x->at > AHEAD_MAX)
                        event_del(x->readable);
                return;
        }
        serve_input(x);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
        struct exchange *x = arg;

        (void)fd;
        (void)what;
        if (!flush(x)) {
                destroy(x);
                return;
        }
        if (x->phase == LINGERING && !pending(x) && !x->half_closed) {
                linger(x);
                return;
        }
        if (x->over_mark && pending(x) < DRAINED) {
                x->over_mark = false;
                if (x->drained) {
                        x->drained(x, x->drained_arg);
                } else if (x->phase == READ_HEAD) {
                        serve_input(x);
                }
        }
}

/* ---- of its loop ---- */

void exchange_open(struct http_loop *loop, const struct arrival *a)
{
        struct exchange *x = xcalloc(1, sizeof(*x));

        x->loop = loop;
        x->fd = a->fd;
        x->peer = a->peer;
        x->source = a->source;
        x->refused = a->refusal != NULL;
        x->out = BUF_INIT(OUT_MAX);
        x->fields = BUF_INIT(RESPONSE_FIELDS);
        x->since = x->moved = boot_now(loop);
        scope_init(&x->scope, loop->server->options.world);
        x->readable = event_new(loop->base, x->fd, EV_READ | EV_PERSIST, on_readable, x);
        x->writable = event_new(loop->base, x->fd, EV_WRITE, on_writable, x);
        x->link = &loop->connections;
        x->next = loop->connections;
        if (x->next)
                x->next->link = &x->next;
        loop->connections = x;
        event_add(x->readable, NULL);
        if (a->refusal) {
                fail(&x->scope, ERR_RATE_LIMITED, "%s", a->refusal);
                refuse(x);
        }
}

void exchange_close_all(struct http_loop *loop)
{
        for (struct exchange *x = loop->connections, *next; x; x = next) {
                next = x->next;
                destroy(x);
        }
}

/* ---- deadlines ---- */

/* A reader that takes nothing, or a reply by drops.  A stream may be slow: it is not buffered. */
static bool reader_is_stuck(const struct exchange *x, int64_t now)
{
        if (now - x->moved > WRITE_STALL * US_PER_S)
                return true;
        return x->phase != STREAMING &&
               now - x->replied > (WRITE_STALL + (int64_t)x->sent / RATE_MIN) * US_PER_S;
}

static enum err overdue(struct exchange *x, int64_t now)
{
        const struct http_options *o = &x->loop->server->options;
        int64_t waited = now - x->since;

        if (pending(x) && !x->half_closed)
                return reader_is_stuck(x, now) ? ERR_EMPTY : ERR_OK;
        switch (x->phase) {
        case READ_HEAD:
                if (x->n == x->at)
                        return waited > o->idle_seconds * US_PER_S ? ERR_EMPTY : ERR_OK;
                return waited > o->head_seconds * US_PER_S ?
                               fail(&x->scope, ERR_REQUEST_TIMEOUT,
                                    "the head was not complete within %d s", o->head_seconds) :
                               ERR_OK;
        case READ_BODY:
        case READ_CHUNK_SIZE:
        case READ_CHUNK:
        case READ_CHUNK_END:
        case READ_TRAILER:
                return waited > (BODY_GRACE + (int64_t)x->body.n / RATE_MIN) * US_PER_S ?
                               fail(&x->scope, ERR_REQUEST_TIMEOUT,
                                    "the body came slower than %d bytes a second", RATE_MIN) :
                               ERR_OK;
        case LINGERING:
                return waited > LINGER * US_PER_S ? ERR_EMPTY : ERR_OK;
        case HANDLING:
        case STREAMING:
                break;
        }
        return ERR_OK;
}

void exchange_sweep(struct http_loop *loop)
{
        int64_t now = boot_now(loop);

        for (struct exchange *x = loop->connections, *next; x; x = next) {
                enum err e = overdue(x, now);

                next = x->next;
                if (e == ERR_EMPTY)
                        destroy(x);
                else if (e)
                        refuse(x);
                else if (x->phase == READ_HEAD && x->in && x->n == x->at &&
                         now - x->since > REST * US_PER_S)
                        rest(x);
        }
}

/* ---- what the application sees of an exchange ---- */

const struct http_request *exchange_request(const struct exchange *x)
{
        return &x->request;
}

struct http_loop *exchange_loop(const struct exchange *x)
{
        return x->loop;
}

struct str exchange_header(const struct exchange *x, const char *name)
{
        return head_find(x->head, name);
}

void exchange_on_close(struct exchange *x, void (*closed)(struct exchange *, void *), void *arg)
{
        x->closed = closed;
        x->closed_arg = arg;
}

void exchange_stream_begin(struct exchange *x, const char *content_type)
{
        x->close_after = true;
        x->phase = STREAMING;
        begin_response(x, 200, content_type);
        buf_text(&x->out, "Transfer-Encoding: chunked\r\n\r\n");
        x->moved = boot_now(x->loop);
        rest(x);
}

/* Straight to the socket what it takes now; the number of bytes, -1 when the connection is gone. */
static ssize_t send_pieces(struct exchange *x, struct iovec *pieces, size_t n)
{
        struct msghdr message = { .msg_iov = pieces, .msg_iovlen = n };
        ssize_t sent;

        do
                sent = sendmsg(x->fd, &message, MSG_NOSIGNAL);
        while (sent < 0 && errno == EINTR);
        return sent < 0 && errno == EAGAIN ? 0 : sent;
}

static bool send_chunk(struct exchange *x, struct str bytes)
{
        char size[24];
        int n = snprintf(size, sizeof(size), "%zx\r\n", bytes.n);
        const struct str parts[] = { { size, (size_t)n }, bytes, STR("\r\n") };
        struct iovec pieces[LENGTH(parts)];
        ssize_t sent = 0;

        for (size_t i = 0; i < LENGTH(parts); i++)
                pieces[i] = (struct iovec){ (void *)(uintptr_t)parts[i].p, parts[i].n };
        if (!pending(x))
                sent = send_pieces(x, pieces, LENGTH(pieces));
        if (sent < 0)
                return false;
        for (size_t i = 0; i < LENGTH(parts); i++) {
                size_t gone = (size_t)sent < parts[i].n ? (size_t)sent : parts[i].n;

                buf_str(&x->out, str_slice(parts[i], gone, parts[i].n));
                sent -= (ssize_t)gone;
        }
        return !x->out.full && flush(x);
}

size_t exchange_stream_write(struct exchange *x, struct str bytes)
{
        if (!pending(x))
                x->moved = boot_now(x->loop);
        if (bytes.n && !send_chunk(x, bytes)) {
                /* The loop finds the socket dead and tells the application by on_close. */
                shutdown(x->fd, SHUT_RDWR);
                buf_clear(&x->out);
                x->sent = 0;
                return 0;
        }
        if (pending(x) >= DRAINED)
                x->over_mark = true;
        return pending(x);
}

void exchange_stream_on_drain(struct exchange *x, void (*drained)(struct exchange *, void *),
                              void *arg)
{
        x->drained = drained;
        x->drained_arg = arg;
}

void exchange_stream_end(struct exchange *x)
{
        buf_text(&x->out, "0\r\n\r\n");
        if (!flush(x)) {
                x->closed = NULL;
                drop(x);
                return;
        }
        exchange_over(x);
}
