/*
 * The whole API on a store in memory.  The input is a list of blocks with empty lines between them:
 *
 *      POST /v1/tasks          a request: method and target, fields, then the body up to the end of
 *      X-Workspace-ID: default the block; @task, @run, @btk … stand for the newest id or token with
 *      {"title": "a"}          that prefix in an answer, @task1 for the one before it
 *      + GET /v1/tasks/@task   a request that goes into one batch with the next one
 *      WORK 3 {"stdout": ""}   the worker takes a run and performs up to 3 steps with this output
 *      FAIL 1                  the same, and the steps fail
 *      WAIT 61, JUMP 90        seconds go by, or are missing
 *      LEAVE                   the client of the newest request that is not answered leaves
 *
 * After each block the rows are checked (server.c), and every answer is.
 */
#include <string.h>

#include "fuzz.h"
#include "server.h"

enum { BLOCKS_MAX = 40, KEPT = 3, PREFIXES = 16, KNOWN_MAX = 96, SECONDS_MAX = 200 };

/* The newest ids and tokens by prefix. */
struct known {
        char prefix[12];
        char texts[KEPT][KNOWN_MAX];
};

struct player {
        struct server *server;
        struct scope *scope;
        struct known known[PREFIXES];
        int64_t seconds; /* that have gone by */
        bool waits;      /* the batch is not complete */
};

/* ---- ids that answers have told ---- */

static bool is_id_char(char c)
{
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
               c == '-';
}

static struct known *known_find(struct player *p, struct str prefix)
{
        for (size_t i = 0; i < PREFIXES; i++) {
                struct known *k = &p->known[i];

                if (!k->prefix[0] && prefix.n < sizeof(k->prefix))
                        memcpy(k->prefix, prefix.p, prefix.n);
                if (str_is(prefix, k->prefix))
                        return k;
        }
        return NULL;
}

static void remember(struct player *p, struct str id)
{
        struct known *k = known_find(p, str_slice(id, 0, str_find(id, '_', 0)));
        size_t place = 0;

        if (!k || id.n >= KNOWN_MAX)
                return;
        while (place < KEPT - 1 && !str_is(id, k->texts[place]))
                place++;
        memmove(k->texts[1], k->texts[0], place * sizeof(k->texts[0]));
        memset(k->texts[0], 0, sizeof(k->texts[0]));
        memcpy(k->texts[0], id.p, id.n);
}

/* What looks like "prefix_0c5q8v2k7m1xa". */
static void learn(struct player *p, struct str text)
{
        for (size_t i = str_find(text, '_', 0); i < text.n; i = str_find(text, '_', i + 1)) {
                size_t from = i, to = i + 1;

                while (from > 0 && text.p[from - 1] >= 'a' && text.p[from - 1] <= 'z')
                        from--;
                while (to < text.n && is_id_char(text.p[to]))
                        to++;
                if (from > 0 && text.p[from - 1] == '"' && to < text.n && text.p[to] == '"' &&
                    to - i > ID_DIGITS)
                        remember(p, str_slice(text, from, to));
        }
}

/* The text with the ids that its marks stand for. */
static struct str filled(struct player *p, struct str text)
{
        struct buf out = BUF_INIT(1 << 20);
        struct str copy;

        for (size_t at = 0; at < text.n;) {
                size_t mark = str_find(text, '@', at), end = mark + 1;
                struct known *k;

                buf_str(&out, str_slice(text, at, mark));
                while (end < text.n && text.p[end] >= 'a' && text.p[end] <= 'z')
                        end++;
                k = known_find(p, str_slice(text, mark + 1, end));
                if (end < text.n && text.p[end] >= '0' && text.p[end] < '0' + KEPT && k)
                        buf_text(&out, k->texts[text.p[end++] - '0']);
                else if (k && mark < text.n)
                        buf_text(&out, k->texts[0]);
                at = mark < text.n ? end : text.n;
        }
        copy = str_dup(&p->scope->arena, buf_view(&out));
        buf_done(&out);
        return copy;
}

/* ---- answers ---- */

static void check_problem(const struct exchange *x, const json_t *problem)
{
        const char *code = json_string_value(json_object_get(problem, "code"));
        enum err e = code ? err_from_name(str_from(code)) : ERR_INTERNAL;

        MUST(json_integer_value(json_object_get(problem, "status")) == x->status);
        MUST(json_string_length(json_object_get(problem, "detail")) > 0);
        /* The store is whole and nothing else is asked: no request can be refused for its sake. */
        MUST(e != ERR_INTERNAL && e != ERR_UNAVAILABLE && e != ERR_STORAGE_FULL &&
             e != ERR_OVERLOADED);
}

/* An open stream of a tree has told everything from its cursor on: nothing fell between what it read
 * and what it was woken for.  (One that gave its cursor in the query is left out.) */
static void check_told(struct player *p, const struct exchange *x, int64_t last)
{
        struct str cursor, id = x->request.path;
        int64_t tree;

        if (x->over || x->request.query.n || str_contains(id, STR("/runs/")))
                return;
        cursor = head_find(&x->head, "last-event-id");
        for (int i = 0; i < 3; i++) /* /v1/tasks/ */
                str_cut(id, '/', &id);
        MUST(id_parse("task", str_cut(id, '/', &id), &tree));
        if (last < 0)
                MUST(!cursor.p || str_to_int(cursor, &last));
        MUST(server_newest_event(p->server, tree) == (last < 0 ? 0 : last));
}

/* Events are whole, and their numbers grow. */
static void check_stream(struct player *p, const struct exchange *x)
{
        struct str rest = buf_view(&x->answer);
        int64_t last = -1, id;

        while (rest.n) {
                struct str value, line = str_cut(rest, '\n', &rest);
                struct str name = str_cut(line, ':', &value);
                json_t *json;

                if (str_is(name, "id")) {
                        MUST(str_to_int(str_trim(value), &id) && id > last);
                        last = id;
                } else if (str_is(name, "data")) {
                        MUST(!json_parse(p->scope, value, &json));
                        json_decref(json);
                } else {
                        MUST(!line.n || str_is(name, "event") || str_is(name, "retry") || !name.n);
                }
        }
        MUST(str_ends(buf_view(&x->answer), "\n\n"));
        check_told(p, x, last);
}

static void check_answer(struct player *p, const struct exchange *x)
{
        struct str text = buf_view(&x->answer);
        json_t *json;

        MUST(!x->answer.full);
        if (x->stream) {
                check_stream(p, x);
                return;
        }
        MUST(x->status < 400 || str_is(str_from(x->type), "application/problem+json"));
        if (strstr(x->type, "json")) {
                MUST(!json_parse(p->scope, text, &json));
                if (x->status >= 400)
                        check_problem(x, json);
                json_decref(json);
                learn(p, text);
        }
}

/* Everything that is answered is checked and forgotten. */
static void look(struct player *p)
{
        for (struct exchange *x = p->server->exchanges, *next; x; x = next) {
                next = x->next;
                if (x->status)
                        check_answer(p, x);
                if (x->over)
                        server_forget(p->server, x);
        }
        server_check(p->server);
}

/* ---- blocks ---- */

/* "Name: value", which no JSON and no YAML of ours begins with a capital for. */
static bool is_field(struct str line)
{
        size_t colon = str_find(line, ':', 0);

        for (size_t i = 0; i < colon; i++)
                if (!is_id_char(line.p[i]))
                        return false;
        return colon > 0 && colon < line.n && line.p[0] >= 'A' && line.p[0] <= 'Z';
}

struct message {
        struct str head, body;
};

static struct message compose(struct player *p, struct str block)
{
        struct arena *a = &p->scope->arena;
        struct str rest, line = str_cut(block, '\n', &rest);
        struct message m = { .head = arena_printf(a, STR_FMT " HTTP/1.1\r\nHost: localhost\r\n",
                                                  STR_ARG(line)) };
        bool keyed = false, typed = false;

        while (rest.n) {
                struct str after, field = str_cut(rest, '\n', &after);

                if (!is_field(field))
                        break;
                keyed |= str_starts(field, "Authorization:");
                typed |= str_starts(field, "Content-Type:");
                m.head = arena_printf(a, STR_FMT STR_FMT "\r\n", STR_ARG(m.head), STR_ARG(field));
                rest = after;
        }
        if (!keyed)
                m.head = arena_printf(a, STR_FMT "Authorization: Bearer %s\r\n", STR_ARG(m.head),
                                      p->server->key);
        if (!typed && rest.n)
                m.head = arena_printf(a, STR_FMT "Content-Type: application/%s\r\n",
                                      STR_ARG(m.head), rest.p[0] == '{' ? "json" : "yaml");
        m.body = rest.p ? rest : STR("");
        return m;
}

/* Sent again with the same key, a request has the same answer, but for a secret that is shown once. */
static void repeat(struct player *p, const struct message *m, const struct exchange *first)
{
        struct exchange *again;

        if (!str_contains(m->head, STR("Idempotency-Key: ")) || first->status < 200 ||
            first->status > 299 || first->stream || !str_starts(m->head, "POST ") ||
            str_starts(m->head, "POST /v1/keys ") || str_starts(m->head, "POST /v1/webhooks "))
                return;
        again = server_request(p->server, m->head, m->body);
        server_settle(p->server);
        MUST(again->status == first->status &&
             str_eq(buf_view(&again->answer), buf_view(&first->answer)));
}

static void request(struct player *p, struct str block)
{
        struct message m = compose(p, filled(p, block));
        struct exchange *x = server_request(p->server, m.head, m.body);

        if (p->waits)
                return;
        server_settle(p->server);
        repeat(p, &m, x);
}

static void pass(struct player *p, struct str argument, void (*how)(struct server *, int64_t))
{
        int64_t seconds;

        if (!str_to_int(str_trim(argument), &seconds) || seconds < 1)
                return;
        seconds = seconds > SECONDS_MAX - p->seconds ? SECONDS_MAX - p->seconds : seconds;
        p->seconds += seconds;
        how(p->server, seconds);
}

static void leave(struct player *p)
{
        for (struct exchange *x = p->server->exchanges; x; x = x->next)
                if (!x->over) {
                        server_abandon(p->server, x);
                        return;
                }
}

static void work(struct player *p, struct str argument, bool fails)
{
        struct str output, count = str_cut(argument, ' ', &output);
        int64_t steps;

        output = str_trim(output);
        if (str_to_int(count, &steps) && steps >= 0 && str_is_utf8(output))
                server_work(p->server, (int)(steps % 16), output.n ? output : STR("null"), fails);
}

static void play(struct player *p, struct str block)
{
        struct str argument, word;

        p->waits = str_starts(block, "+ ");
        if (p->waits)
                block = str_slice(block, 2, block.n);
        word = str_cut(block, ' ', &argument);
        if (str_is(word, "WAIT"))
                pass(p, argument, server_wait);
        else if (str_is(word, "JUMP"))
                pass(p, argument, server_jump);
        else if (str_is(word, "WORK") || str_is(word, "FAIL"))
                work(p, argument, str_is(word, "FAIL"));
        else if (str_is(word, "LEAVE"))
                leave(p);
        else
                request(p, block);
        if (!p->waits) {
                server_settle(p->server);
                look(p);
        }
}

/* Where the block ends: before an empty line. */
static size_t block_end(struct str text)
{
        const char *end = memmem(text.p, text.n, "\n\n", 2);

        return end ? (size_t)(end - text.p) : text.n;
}

void fuzz(struct scope *scope, struct str input)
{
        struct player *p = arena_new(&scope->arena, struct player);

        p->scope = scope;
        p->server = server_begin();
        for (int i = 0; input.n && i < BLOCKS_MAX; i++) {
                size_t end = block_end(input);

                play(p, str_slice(input, 0, end));
                input = str_slice(input, end + 2, input.n);
        }
        server_settle(p->server);
        look(p);
        server_end(p->server);
}
