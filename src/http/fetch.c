#include "http/fetch.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "http/head.h"

enum { HEADER_LINES = 256 };

struct transfer {
        struct scope *scope;
        const struct fetch_spec *spec;
        struct fetch_result *out;
        struct buf body;
        size_t head_bytes;
        struct curl_slist *headers;
        struct sockaddr_storage refused; /* ss_family 0 = none was */
        bool too_many_headers;
};

/* ---- headers ---- */

bool fetch_header_is_valid(struct str name, struct str value)
{
        static const char *const ours[] = { "host",
                                            "content-length",
                                            "transfer-encoding",
                                            "connection",
                                            "expect",
                                            "upgrade",
                                            "te",
                                            "trailer",
                                            "keep-alive",
                                            "proxy-connection",
                                            "proxy-authorization" };

        for (size_t i = 0; i < LENGTH(ours); i++)
                if (str_is_nocase(name, ours[i]))
                        return false;
        return head_is_token(name) && head_is_value(value);
}

static struct fetch_header *response_header(struct fetch_result *out, struct str name)
{
        for (size_t i = 0; i < out->n_headers; i++)
                if (str_eq(out->headers[i].name, name))
                        return &out->headers[i];
        return NULL;
}

static void add_response_header(struct transfer *t, struct str line)
{
        struct arena *a = &t->scope->arena;
        struct str value, name = str_lower(a, str_trim(str_cut(line, ':', &value)));
        struct fetch_header *there = response_header(t->out, name);

        value = str_dup(a, str_trim(value));
        if (there)
                there->value = arena_printf(a, STR_FMT ", " STR_FMT, STR_ARG(there->value),
                                            STR_ARG(value));
        else if (t->out->n_headers < HEADER_LINES)
                t->out->headers[t->out->n_headers++] = (struct fetch_header){ name, value };
}

/* Of every response on the way: only the last one's are kept. */
static size_t on_header(char *bytes, size_t size, size_t n, void *arg)
{
        struct transfer *t = arg;
        struct str line = { bytes, size * n };

        t->head_bytes += line.n;
        if (t->head_bytes > FETCH_HEADERS_MAX) {
                t->too_many_headers = true;
                return 0;
        }
        if (str_starts(line, "HTTP/"))
                t->out->n_headers = 0;
        else if (str_find(line, ':', 0) < line.n)
                add_response_header(t, line);
        return line.n;
}

/* ---- while it runs ---- */

static size_t on_body(char *bytes, size_t size, size_t n, void *arg)
{
        struct transfer *t = arg;
        size_t room = t->spec->body_cap - t->body.n, taken = size * n < room ? size * n : room;

        buf_bytes(&t->body, bytes, taken);
        t->out->truncated = taken < size * n;
        return taken; /* fewer: that ends it */
}

static int on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
        struct transfer *t = arg;

        (void)a, (void)b, (void)c, (void)d;
        t->out->canceled = t->spec->canceled && t->spec->canceled(t->spec->ctx);
        return t->out->canceled;
}

/* The one place where connections are made: judges the very address. */
static curl_socket_t on_connect(void *arg, curlsocktype purpose, struct curl_sockaddr *to)
{
        struct transfer *t = arg;

        if (purpose != CURLSOCKTYPE_IPCXN || !egress_allows(t->spec->egress, &to->addr)) {
                if (to->addrlen <= sizeof(t->refused))
                        memcpy(&t->refused, &to->addr, to->addrlen);
                return CURL_SOCKET_BAD;
        }
        return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
}

/* ---- one hop ---- */

static struct curl_slist *header_list(struct scope *scope, const struct fetch_spec *spec)
{
        /* A name alone keeps libcurl from adding that header by itself. */
        struct curl_slist *list = curl_slist_append(NULL, "Expect:");

        list = curl_slist_append(list, "Content-Type:");
        for (size_t i = 0; i < spec->n_headers; i++) {
                struct fetch_header h = spec->headers[i];

                list = curl_slist_append(list, arena_printf(&scope->arena, STR_FMT "%s" STR_FMT,
                                                            STR_ARG(h.name), h.value.n ? ": " : ";",
                                                            STR_ARG(h.value))
                                                       .p);
        }
        return list;
}

static void set_up(CURL *curl, struct transfer *t)
{
        const struct fetch_spec *spec = t->spec;
        const char *method = str_c(&t->scope->arena, spec->method);
        struct str body = spec->body;

        /* Some servers want to hear the length of what there is not. */
        if (!body.p && (str_is(spec->method, "POST") || str_is(spec->method, "PUT") ||
                        str_is(spec->method, "PATCH")))
                body = STR("");
        curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
        curl_easy_setopt(curl, CURLOPT_PROXY, "");
        curl_easy_setopt(curl, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
        curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(curl, CURLOPT_USERAGENT, "baton");
        curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
        curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long)FETCH_CONNECT_SECONDS);
        curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, on_connect);
        curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, t);
        curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
        curl_easy_setopt(curl, CURLOPT_HEADERDATA, t);
        curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
        curl_easy_setopt(curl, CURLOPT_WRITEDATA, t);
        curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
        curl_easy_setopt(curl, CURLOPT_XFERINFODATA, t);
        if (body.p) {
                curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.n);
                curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body.p);
        }
        if (str_is(spec->method, "HEAD"))
                curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
        else
                curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
}

/* Why a transfer broke off, with the host in place of libcurl's own words about our settings. */
static enum err explain(struct transfer *t, CURLcode code, struct str host)
{
        const struct sockaddr *refused = (const struct sockaddr *)&t->refused;

        if (refused->sa_family && code == CURLE_COULDNT_CONNECT)
                return egress_refuse(t->scope, host, refused);
        if (t->too_many_headers)
                return fail(t->scope, ERR_UNAVAILABLE,
                            "url: " STR_FMT " answers with more than %d bytes of headers",
                            STR_ARG(host), FETCH_HEADERS_MAX);
        if (code == CURLE_OPERATION_TIMEDOUT)
                return fail(t->scope, ERR_REQUEST_TIMEOUT,
                            "url: no whole answer from " STR_FMT " in time", STR_ARG(host));
        return fail(t->scope, ERR_UNAVAILABLE, "url: " STR_FMT ": %s", STR_ARG(host),
                    curl_easy_strerror(code));
}

static int64_t now(const struct scope *scope)
{
        return scope->world->clock->boot(scope->world->clock->ctx);
}

static void hop_begin(CURL *curl, struct transfer *t, const struct egress_url *url,
                      bool with_headers, int64_t deadline)
{
        int64_t left = (deadline - now(t->scope)) / US_PER_MS;

        t->headers = with_headers ? header_list(t->scope, t->spec) : NULL;
        buf_clear(&t->body);
        t->head_bytes = 0;
        t->out->n_headers = 0;
        t->out->truncated = false;
        t->refused.ss_family = 0;
        curl_easy_setopt(curl, CURLOPT_URL, str_c(&t->scope->arena, url->text));
        curl_easy_setopt(curl, CURLOPT_HTTPHEADER, t->headers);
        curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)(left > 0 ? left : 1));
}

/* *next: where it leads from here, absent when nowhere. */
static enum err hop_end(CURL *curl, struct transfer *t, const struct egress_url *url, CURLcode code,
                        struct str *next)
{
        const char *location = NULL;
        long status = 0;

        curl_slist_free_all(t->headers);
        if (t->out->canceled)
                return ERR_OK;
        if (code && !(code == CURLE_WRITE_ERROR && t->out->truncated))
                return explain(t, code, url->host);
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
        curl_easy_getinfo(curl, CURLINFO_REDIRECT_URL, &location);
        t->out->status = (int)status;
        *next = location ? str_dup(&t->scope->arena, str_from(location)) : STR_NONE;
        return ERR_OK;
}

static enum err follow(CURL *curl, struct transfer *t)
{
        /* What is sent was meant for the one it was sent to. */
        bool follows = !t->spec->body.n &&
                       (str_is(t->spec->method, "GET") || str_is(t->spec->method, "HEAD"));
        int64_t deadline = now(t->scope) + t->spec->timeout_us;
        struct str next = t->spec->url, origin = STR_NONE;

        for (int i = 0; i <= FETCH_HOPS; i++) {
                struct egress_url url;
                enum err e = egress_url(t->scope, next, &url);

                if (!origin.p)
                        origin = url.origin;
                if (e)
                        return e;
                hop_begin(curl, t, &url, str_eq(url.origin, origin), deadline);
                e = hop_end(curl, t, &url, curl_easy_perform(curl), &next);
                if (e || t->out->canceled || !next.p || !follows)
                        return e;
        }
        return fail(t->scope, ERR_VALIDATION, "url: more than %d redirects", FETCH_HOPS);
}

static CURL *begin(struct scope *scope, const struct fetch_spec *spec, struct fetch_result *out,
                   struct transfer *t)
{
        CURL *curl = curl_easy_init();

        BUG_ON(!curl);
        *t = (struct transfer){
                .scope = scope, .spec = spec, .out = out, .body = BUF_INIT(spec->body_cap)
        };
        *out = (struct fetch_result){ .headers = arena_array(&scope->arena, struct fetch_header,
                                                             HEADER_LINES) };
        set_up(curl, t);
        return curl;
}

static void end(CURL *curl, struct transfer *t)
{
        curl_easy_cleanup(curl);
        t->out->body = str_dup(&t->scope->arena, buf_view(&t->body));
        buf_done(&t->body);
}

enum err fetch(struct scope *scope, const struct fetch_spec *spec, struct fetch_result *out)
{
        struct transfer t;
        CURL *curl = begin(scope, spec, out, &t);
        enum err e = follow(curl, &t);

        end(curl, &t);
        return e;
}

/* ---- several at once ---- */

struct job {
        struct transfer transfer;
        struct egress_url url;
        CURL *curl;
        void *tag;
        struct job *next, **link;
};

struct fetch_pool {
        CURLM *multi;
        struct job *first;
};

struct fetch_pool *fetch_pool_new(void)
{
        struct fetch_pool *pool = xcalloc(1, sizeof(*pool));

        pool->multi = curl_multi_init();
        BUG_ON(!pool->multi);
        return pool;
}

static void unlink_job(struct fetch_pool *pool, struct job *job)
{
        curl_multi_remove_handle(pool->multi, job->curl);
        *job->link = job->next;
        if (job->next)
                job->next->link = job->link;
}

void fetch_pool_free(struct fetch_pool *pool)
{
        for (struct job *job = pool->first, *next; job; job = next) {
                next = job->next;
                unlink_job(pool, job);
                curl_slist_free_all(job->transfer.headers);
                end(job->curl, &job->transfer);
                free(job);
        }
        curl_multi_cleanup(pool->multi);
        free(pool);
}

enum err fetch_pool_add(struct fetch_pool *pool, struct scope *scope, const struct fetch_spec *spec,
                        struct fetch_result *out, void *tag)
{
        struct egress_url url;
        enum err e = egress_url(scope, spec->url, &url);
        struct job *job;

        if (e)
                return e;
        job = xcalloc(1, sizeof(*job));
        job->url = url;
        job->tag = tag;
        job->curl = begin(scope, spec, out, &job->transfer);
        hop_begin(job->curl, &job->transfer, &job->url, true, now(scope) + spec->timeout_us);
        curl_easy_setopt(job->curl, CURLOPT_PRIVATE, job);
        /* A name that is not resolved in time does not hold up the others. */
        curl_easy_setopt(job->curl, CURLOPT_QUICK_EXIT, 1L);
        job->link = &pool->first;
        job->next = pool->first;
        if (job->next)
                job->next->link = &job->next;
        pool->first = job;
        BUG_ON(curl_multi_add_handle(pool->multi, job->curl) != CURLM_OK);
        return ERR_OK;
}

static struct job *ended(struct fetch_pool *pool, CURLcode *code)
{
        struct job *job = NULL;
        CURLMsg *message;
        int n;

        curl_multi_perform(pool->multi, &n);
        message = curl_multi_info_read(pool->multi, &n);
        if (!message)
                return NULL;
        *code = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&job);
        return job;
}

void *fetch_pool_next(struct fetch_pool *pool, int ms, enum err *result)
{
        CURLcode code;
        struct job *job = ended(pool, &code);
        struct str next;
        void *tag;

        if (!job && ms) {
                curl_multi_poll(pool->multi, NULL, 0, ms, NULL);
                job = ended(pool, &code);
        }
        if (!job)
                return NULL;
        unlink_job(pool, job);
        *result = hop_end(job->curl, &job->transfer, &job->url, code, &next);
        end(job->curl, &job->transfer);
        tag = job->tag;
        free(job);
        return tag;
}

void fetch_pool_wake(struct fetch_pool *pool)
{
        curl_multi_wakeup(pool->multi);
}
