#include "http/client.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "json/json_in.h"

enum {
        CALL_SECONDS = 60,
        CONNECT_SECONDS = 10,
        REPEAT_SECONDS = 15,  /* for a lost call that may be sent again */
        SILENCE_SECONDS = 45, /* three missed pings: the stream is dead */
        BODY_MAX = 256 << 20,
        EVENT_MAX = 16 << 20,
        WAIT_MIN_MS = 100,
        WAIT_MAX_MS = 2000,
};

struct http_client {
        struct http_client_options options;
        CURL *call, *stream; /* two, so that a stream's callback may make calls */
};

static bool is_local(const char *base)
{
        return strstr(base, "//127.") || strstr(base, "//localhost") || strstr(base, "//[::1]");
}

static int64_t boot(const struct scope *scope)
{
        return scope->world->clock->boot(scope->world->clock->ctx);
}

static void pause_ms(int64_t ms)
{
        const struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

        nanosleep(&t, NULL);
}

struct http_client *http_client_new(const struct http_client_options *options)
{
        struct http_client *client = xcalloc(1, sizeof(*client));

        curl_global_init(CURL_GLOBAL_DEFAULT);
        client->options = *options;
        client->call = curl_easy_init();
        client->stream = curl_easy_init();
        BUG_ON(!client->call || !client->stream);
        return client;
}

void http_client_free(struct http_client *client)
{
        if (!client)
                return;
        curl_easy_cleanup(client->call);
        curl_easy_cleanup(client->stream);
        curl_global_cleanup();
        free(client);
}

/* ---- one exchange ---- */

static void set_text(CURL *curl, CURLoption option, const char *text)
{
        curl_easy_setopt(curl, option, text);
}

/* curl's flags are longs. */
static void set_long(CURL *curl, CURLoption option, long value)
{
        curl_easy_setopt(curl, option, value);
}

static void set_target(struct scope *scope, const struct http_client *client, CURL *curl,
                       const char *path)
{
        const struct http_client_options *o = &client->options;

        curl_easy_reset(curl);
        set_long(curl, CURLOPT_NOSIGNAL, 1);
        set_long(curl, CURLOPT_CONNECTTIMEOUT, CONNECT_SECONDS);
        set_text(curl, CURLOPT_PROTOCOLS_STR, "http,https");
        set_text(curl, CURLOPT_USERAGENT, "baton");
        set_text(curl, CURLOPT_URL, arena_printf(&scope->arena, "%s%s", o->base, path).p);
        if (o->unix_socket)
                set_text(curl, CURLOPT_UNIX_SOCKET_PATH, o->unix_socket);
        if (is_local(o->base))
                set_text(curl, CURLOPT_PROXY, "");
}

static struct curl_slist *add(struct scope *scope, struct curl_slist *list, const char *name,
                              const char *value)
{
        struct curl_slist *longer;

        if (!value || !*value)
                return list;
        longer = curl_slist_append(list, arena_printf(&scope->arena, "%s: %s", name, value).p);
        BUG_ON(!longer);
        return longer;
}

static struct curl_slist *credentials(struct scope *scope, const struct http_client *client)
{
        const struct http_client_options *o = &client->options;
        struct curl_slist *list = NULL;

        if (o->key && *o->key)
                list = add(scope, list, "Authorization",
                           arena_printf(&scope->arena, "Bearer %s", o->key).p);
        return add(scope, list, "X-Workspace-ID", o->workspace);
}

static enum err unreachable(struct scope *scope, const struct http_client *client, CURLcode code)
{
        const struct http_client_options *o = &client->options;

        return fail(scope, ERR_UNAVAILABLE, "no server answers at %s: %s",
                    o->unix_socket ? o->unix_socket : o->base, curl_easy_strerror(code));
}

static size_t take_body(char *bytes, size_t size, size_t n, void *arg)
{
        struct buf *body = arg;

        buf_bytes(body, bytes, size * n);
        return body->full ? 0 : size * n;
}

static CURLcode exchange(struct scope *scope, struct http_client *client,
                         const struct http_call *call, struct buf *body)
{
        struct curl_slist *list = credentials(scope, client);
        CURL *curl = client->call;
        int seconds = call->timeout_seconds ? call->timeout_seconds : client->options.timeout_seconds;
        CURLcode code;

        buf_clear(body);
        set_target(scope, client, curl, call->path);
        set_long(curl, CURLOPT_TIMEOUT, seconds ? seconds : CALL_SECONDS);
        list = add(scope, list, "Idempotency-Key", call->idempotency_key);
        list = add(scope, list, "If-Match", call->if_match);
        list = add(scope, list, "Expect", " "); /* no 100-continue */
        if (call->body.p || strcmp(call->method, "POST") == 0) {
                list = add(scope, list, "Content-Type",
                           call->content_type ? call->content_type : "application/json");
                curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->body.n);
                set_text(curl, CURLOPT_POSTFIELDS, call->body.p ? call->body.p : "");
        }
        set_text(curl, CURLOPT_CUSTOMREQUEST, call->method);
        curl_easy_setopt(curl, CURLOPT_HTTPHEADER, list);
        curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
        curl_easy_setopt(curl, CURLOPT_WRITEDATA, body);
        code = curl_easy_perform(curl);
        curl_slist_free_all(list);
        return code;
}

static void read_response(struct scope *scope, CURL *curl, const struct buf *body,
                          struct http_response *out)
{
        const char *type = NULL;
        long status = 0;

        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
        curl_easy_getinfo(curl, CURLINFO_CONTENT_TYPE, &type);
        *out = (struct http_response){
                .status = (int)status,
                .content_type = str_dup(&scope->arena, str_from(type ? type : "")),
                .body = (struct str){ str_c(&scope->arena, buf_view(body)), body->n },
        };
}

static bool never_sent(CURLcode code)
{
        return code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST;
}

/* Would another try be harmless, and might it help? */
static bool may_repeat(const struct http_client *client, const struct http_call *call,
                       CURLcode code, bool was_there)
{
        bool harmless = call->idempotency_key || strcmp(call->method, "GET") == 0;

        if (never_sent(code))
                return client->options.revive || (was_there && harmless);
        return harmless && code != CURLE_WRITE_ERROR;
}

enum err http_call(struct scope *scope, struct http_client *client, const struct http_call *call,
                   struct http_response *out)
{
        int64_t until = boot(scope) + REPEAT_SECONDS * US_PER_S;
        struct buf body = BUF_INIT(BODY_MAX);
        bool was_there = false;
        CURLcode code;

        for (;;) {
                code = exchange(scope, client, call, &body);
                was_there |= !never_sent(code);
                if (!code || boot(scope) > until || !may_repeat(client, call, code, was_there))
                        break;
                pause_ms(WAIT_MIN_MS);
                if (client->options.revive)
                        client->options.revive(client->options.revive_ctx);
        }
        if (!code)
                read_response(scope, client->call, &body, out);
        buf_done(&body);
        return code ? unreachable(scope, client, code) : ERR_OK;
}

/* ---- problem documents ---- */

static struct str member(struct scope *scope, const json_t *problem, const char *name)
{
        return str_dup(&scope->arena, json_view(json_object_get(problem, name)));
}

static int64_t number(const json_t *problem, const char *name)
{
        return json_integer_value(json_object_get(problem, name));
}

/* An answer of something that is not our server has no code; its status still says what it is. */
static enum err code_of_status(int status)
{
        for (int e = ERR_EMPTY + 1; e < ERR_COUNT; e++)
                if (err_http_status((enum err)e) == status)
                        return (enum err)e;
        return ERR_INTERNAL;
}

enum err http_problem(struct scope *scope, const struct http_response *response)
{
        enum err code = code_of_status(response->status);
        json_t *problem = NULL;
        struct str name;

        if (json_parse(scope, response->body, &problem) || !json_is_object(problem)) {
                json_decref(problem);
                return fail(scope, code, "the server answered %d without saying why",
                            response->status);
        }
        name = member(scope, problem, "code");
        if (name.n)
                code = err_from_name(name);
        scope->fault = (struct fault){ .code = code,
                                       .detail = member(scope, problem, "detail"),
                                       .field = member(scope, problem, "field"),
                                       .resource = member(scope, problem, "resource"),
                                       .limit = number(problem, "limit"),
                                       .actual = number(problem, "actual"),
                                       .has_limit = json_object_get(problem, "limit") != NULL };
        json_decref(problem);
        return code;
}

/* ---- server-sent events ---- */

struct stream {
        struct scope *scope;
        struct http_client *client;
        const struct http_follower *follower;
        struct buf line, id, event, data; /* of the event that is being read */
        struct buf last_id;               /* of the event that was read last, whole */
        struct buf refusal;               /* the body of an answer that is no stream */
        int64_t heard;                    /* when bytes last came */
        int64_t wait_ms;
        bool over;
};

static void dispatch(struct stream *s)
{
        struct http_event event = { buf_view(&s->last_id), buf_view(&s->event),
                                    buf_view(&s->data) };

        if (s->id.n) {
                buf_clear(&s->last_id);
                buf_str(&s->last_id, buf_view(&s->id));
                event.id = buf_view(&s->last_id);
        }
        if (str_is(event.event, "stream.end"))
                s->over = true;
        else if (s->data.n && !s->follower->on_event(s->follower->ctx, &event))
                s->over = true;
        buf_clear(&s->id);
        buf_clear(&s->event);
        buf_clear(&s->data);
}

static void take_field(struct stream *s, struct str name, struct str value)
{
        if (value.n && value.p[0] == ' ')
                value = str_slice(value, 1, value.n);
        if (str_is(name, "id")) {
                buf_clear(&s->id);
                buf_str(&s->id, value);
        } else if (str_is(name, "event")) {
                buf_clear(&s->event);
                buf_str(&s->event, value);
        } else if (str_is(name, "data")) {
                if (s->data.n)
                        buf_char(&s->data, '\n');
                buf_str(&s->data, value);
        }
}

static void take_line(struct stream *s)
{
        struct str line = buf_view(&s->line), value, name;

        if (line.n && line.p[line.n - 1] == '\r')
                line.n--;
        name = str_cut(line, ':', &value);
        if (!line.n)
                dispatch(s);
        else
                take_field(s, name, value); /* a comment has an empty name */
        buf_clear(&s->line);
}

static size_t take_stream(char *bytes, size_t size, size_t n, void *arg)
{
        struct stream *s = arg;
        struct str rest = { bytes, size * n };
        long status = 0;

        s->heard = boot(s->scope);
        curl_easy_getinfo(s->client->stream, CURLINFO_RESPONSE_CODE, &status);
        if (status != 200) {
                buf_str(&s->refusal, rest);
                return s->refusal.full ? 0 : size * n;
        }
        s->wait_ms = WAIT_MIN_MS;
        while (rest.n && !s->over) {
                size_t end = str_find(rest, '\n', 0);

                buf_str(&s->line, str_slice(rest, 0, end));
                if (end < rest.n)
                        take_line(s);
                rest = str_slice(rest, end + 1, rest.n);
        }
        return s->over || s->line.full || s->data.full ? 0 : size * n;
}

static bool idle(struct stream *s)
{
        if (s->follower->on_idle && !s->follower->on_idle(s->follower->ctx))
                s->over = true;
        return !s->over;
}

static int take_time(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
        struct stream *s = arg;

        (void)a, (void)b, (void)c, (void)d;
        return !idle(s);
}

static CURLcode connect_once(struct stream *s, const char *path)
{
        CURL *curl = s->client->stream;
        struct curl_slist *list = credentials(s->scope, s->client);
        CURLcode code;

        buf_clear(&s->line);
        buf_clear(&s->id);
        buf_clear(&s->event);
        buf_clear(&s->data);
        buf_clear(&s->refusal);
        set_target(s->scope, s->client, curl, path);
        set_long(curl, CURLOPT_LOW_SPEED_LIMIT, 1);
        set_long(curl, CURLOPT_LOW_SPEED_TIME, SILENCE_SECONDS);
        set_long(curl, CURLOPT_NOPROGRESS, 0);
        list = add(s->scope, list, "Accept", "text/event-stream");
        list = add(s->scope, list, "Last-Event-ID", s->last_id.n ? s->last_id.p : NULL);
        curl_easy_setopt(curl, CURLOPT_HTTPHEADER, list);
        curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_stream);
        curl_easy_setopt(curl, CURLOPT_WRITEDATA, s);
        curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, take_time);
        curl_easy_setopt(curl, CURLOPT_XFERINFODATA, s);
        code = curl_easy_perform(curl);
        curl_slist_free_all(list);
        return code;
}

/* True when the stream has its end, *out then telling which; false: connect again. */
static bool ended(struct stream *s, CURLcode code, enum err *out)
{
        struct http_response response;

        *out = ERR_OK;
        if (s->over)
                return true;
        if (s->line.full || s->data.full) {
                *out = fail(s->scope, ERR_TOO_LARGE, "an event is longer than %d bytes", EVENT_MAX);
                return true;
        }
        read_response(s->scope, s->client->stream, &s->refusal, &response);
        if (code || response.status < 300) /* broken off, or closed by a server that stops */
                return !code && response.status == 204;
        *out = http_problem(s->scope, &response);
        return response.status < 500 && response.status != 429;
}

static bool before_next(struct stream *s)
{
        pause_ms(s->wait_ms);
        s->wait_ms = s->wait_ms * 2 > WAIT_MAX_MS ? WAIT_MAX_MS : s->wait_ms * 2;
        if (!idle(s))
                return false;
        if (s->client->options.revive)
                s->client->options.revive(s->client->options.revive_ctx);
        return true;
}

enum err http_follow(struct scope *scope, struct http_client *client, const char *path,
                     const struct http_follower *follower)
{
        struct stream s = { .scope = scope,
                            .client = client,
                            .follower = follower,
                            .line = BUF_INIT(EVENT_MAX),
                            .id = BUF_INIT(1024),
                            .event = BUF_INIT(1024),
                            .data = BUF_INIT(EVENT_MAX),
                            .last_id = BUF_INIT(1024),
                            .refusal = BUF_INIT(1 << 20),
                            .heard = boot(scope),
                            .wait_ms = WAIT_MIN_MS };
        enum err e;

        for (;;) {
                CURLcode code = connect_once(&s, path);

                if (ended(&s, code, &e))
                        break;
                if (boot(scope) - s.heard > follower->patience_seconds * US_PER_S) {
                        e = e ? e : unreachable(scope, client, code);
                        break;
                }
                if (!before_next(&s))
                        break;
        }
        buf_done(&s.line);
        buf_done(&s.id);
        buf_done(&s.event);
        buf_done(&s.data);
        buf_done(&s.last_id);
        buf_done(&s.refusal);
        return e;
}
