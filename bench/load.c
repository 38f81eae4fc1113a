/*
 * Load for a server on this machine: one thread, one epoll, keep-alive connections with one request
 * on its way each.  Prints one line of JSON: what was done a second and how long a request took.
 *
 *   load get    -p PORT -u /                a page, as often as it goes
 *   load create -p PORT -k KEY [-i]         a task with a run; -i: each with a new Idempotency-Key
 *   load batch  -p PORT -k KEY              tasks by the thousand
 *   load e2e    -p PORT -k KEY              batch create -> claim(100) -> complete(100)
 *   load claim  -p PORT -k KEY -n COUNT     single claims
 *   all: -c CONNECTIONS -s SECONDS; create, batch and e2e: -f FIELDS, more members of a task
 *
 * Answers are not parsed, only searched, so that the generator takes little of the machine it shares.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 1000, GROUP = 100, CONNECTIONS_MAX = 1024 };

struct text {
        char *p;
        size_t n, size;
};

/* What a connection asks next. */
enum stage { CREATE, CLAIM, COMPLETE };

struct connection {
        int fd;
        enum stage stage;
        struct text out, in;
        size_t sent;
        double began;
        int claimed, owed; /* runs of this round's claim; created and not yet completed here */
};

static struct {
        const char *mode, *key, *path, *fields;
        int port, connections;
        double seconds;
        long count;
        bool keyed;
} options = { .path = "/", .fields = "", .connections = 1, .seconds = 5, .count = -1 };

static struct connection connections[CONNECTIONS_MAX];
static struct text one_task, many_tasks;
static float *times;
static size_t n_times, size_times;
static long done, asked;
static double deadline;

static void die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
static void die(const char *fmt, ...)
{
        va_list args;

        va_start(args, fmt);
        fputs("load: ", stderr);
        vfprintf(stderr, fmt, args);
        fputc('\n', stderr);
        va_end(args);
        exit(1);
}

static double now(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void reserve(struct text *t, size_t n)
{
        if (t->n + n <= t->size)
                return;
        t->size = 2 * (t->n + n);
        t->p = realloc(t->p, t->size);
        if (!t->p)
                die("out of memory");
}

static void add(struct text *t, const char *p, size_t n)
{
        reserve(t, n);
        memcpy(t->p + t->n, p, n);
        t->n += n;
}

static void add_text(struct text *t, const char *s)
{
        add(t, s, strlen(s));
}

/* ---- requests ---- */

static void request(struct connection *c, const char *path, const char *body, size_t n)
{
        static unsigned long number;
        char head[1024];
        int length;

        length = snprintf(head, sizeof(head),
                          "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n", body ? "POST" : "GET", path,
                          options.port);
        c->out.n = c->sent = 0;
        add(&c->out, head, (size_t)length);
        if (options.key) {
                length = snprintf(head, sizeof(head), "Authorization: Bearer %s\r\n", options.key);
                add(&c->out, head, (size_t)length);
        }
        if (options.keyed) {
                length = snprintf(head, sizeof(head), "Idempotency-Key: %ld-%08lx\r\n",
                                  (long)getpid(), ++number);
                add(&c->out, head, (size_t)length);
        }
        if (body) {
                length = snprintf(head, sizeof(head),
                                  "Content-Type: application/json\r\nContent-Length: %zu\r\n", n);
                add(&c->out, head, (size_t)length);
        }
        add_text(&c->out, "\r\n");
        if (body)
                add(&c->out, body, n);
}

static void make_bodies(void)
{
        add_text(&one_task, "{\"title\":\"bench\",\"start\":true");
        add_text(&one_task, options.fields);
        add_text(&one_task, "}");
        add_text(&many_tasks, "{\"items\":[");
        for (int i = 0; i < BATCH; i++) {
                if (i)
                        add_text(&many_tasks, ",");
                add(&many_tasks, one_task.p, one_task.n);
        }
        add_text(&many_tasks, "]}");
}

static const char *search(const char *from, const char *end, const char *what)
{
        return from ? memmem(from, (size_t)(end - from), what, strlen(what)) : NULL;
}

/* The text up to the next quote. */
static void add_quoted(struct text *t, const char *from, const char *end)
{
        const char *quote = memchr(from, '"', (size_t)(end - from));

        if (!quote)
                die("an answer that ends within a text");
        add(t, from, (size_t)(quote - from));
}

/* The completion of all that a claim gave; its number of runs. */
static int completion(const char *at, const char *end, struct text *body)
{
        static const char run_mark[] = "\"run\":{\"id\":\"", token_mark[] = "\"claim_token\":\"";
        int n = 0;

        body->n = 0;
        add_text(body, "{\"items\":[");
        while ((at = search(at, end, run_mark))) {
                at += sizeof(run_mark) - 1;
                add_text(body, n++ ? ",{\"run_id\":\"" : "{\"run_id\":\"");
                add_quoted(body, at, end);
                at = search(at, end, token_mark);
                if (!at)
                        die("a run without a token");
                at += sizeof(token_mark) - 1;
                add_text(body, "\",\"claim_token\":\"");
                add_quoted(body, at, end);
                add_text(body, "\",\"result\":1}");
        }
        add_text(body, "]}");
        return n;
}

static void send_more(struct connection *c)
{
        while (c->sent < c->out.n) {
                ssize_t n = send(c->fd, c->out.p + c->sent, c->out.n - c->sent, MSG_NOSIGNAL);

                if (n < 0 && errno == EAGAIN)
                        return;
                if (n < 0)
                        die("send: %s", strerror(errno));
                c->sent += (size_t)n;
        }
}

static void ask_claim(struct connection *c)
{
        static const char many[] = "{\"max\":100}", one[] = "{}";
        bool single = strcmp(options.mode, "claim") == 0;

        c->stage = CLAIM;
        request(c, "/v1/runs/claim", single ? one : many,
                single ? sizeof(one) - 1 : sizeof(many) - 1);
}

static void ask_create(struct connection *c, bool many)
{
        const struct text *body = many ? &many_tasks : &one_task;

        c->stage = CREATE;
        request(c, many ? "/v1/tasks/batch" : "/v1/tasks", body->p, body->n);
}

/* False when there is nothing more to ask. */
static bool ask(struct connection *c)
{
        bool over = c->began >= deadline || (options.count >= 0 && asked >= options.count);
        bool e2e = strcmp(options.mode, "e2e") == 0;

        /* Life-cycles are finished, so that every run that was created is counted. */
        if (c->claimed == 0 && c->owed <= 0 && over)
                return false;
        asked++;
        if (strcmp(options.mode, "get") == 0)
                request(c, options.path, NULL, 0);
        else if (strcmp(options.mode, "claim") == 0)
                ask_claim(c);
        else if (!e2e)
                ask_create(c, strcmp(options.mode, "batch") == 0);
        else if (c->owed <= 0)
                ask_create(c, true);
        else
                ask_claim(c);
        return true;
}

/* ---- answers ---- */

static void remember_time(double seconds)
{
        if (n_times == size_times) {
                size_times = size_times ? 2 * size_times : 65536;
                times = realloc(times, size_times * sizeof(*times));
                if (!times)
                        die("out of memory");
        }
        times[n_times++] = (float)seconds;
}

static int count(const char *at, const char *end, const char *what)
{
        int n = 0;

        while ((at = search(at, end, what))) {
                n++;
                at += strlen(what);
        }
        return n;
}

/* One step of a life-cycle: what the answer to this stage leads to. */
static bool e2e_next(struct connection *c, const char *body, const char *end)
{
        static struct text items;

        switch (c->stage) {
        case CREATE:
                if (search(body, end, "\"ok\":false"))
                        die("a task was refused");
                c->owed = BATCH;
                break;
        case CLAIM:
                c->claimed = completion(body, end, &items);
                if (c->claimed) {
                        c->stage = COMPLETE;
                        request(c, "/v1/runs/complete", items.p, items.n);
                        return true;
                }
                c->owed = 0; /* another connection took what this one created */
                break;
        case COMPLETE:
                if (count(body, end, "\"ok\":true") != c->claimed)
                        die("a completion was refused: %.*s", 400, body);
                done += c->claimed;
                c->owed -= c->claimed;
                c->claimed = 0;
                break;
        }
        return ask(c);
}

static bool answered(struct connection *c, int status, const char *body, const char *end)
{
        double at = now();

        if (status < 200 || status > 299)
                die("status %d: %.*s", status, 400, body);
        remember_time(at - c->began);
        c->began = at;
        if (strcmp(options.mode, "e2e") == 0)
                return e2e_next(c, body, end);
        if (strcmp(options.mode, "claim") == 0 && status != 200)
                die("nothing to claim");
        if (strcmp(options.mode, "batch") == 0 && search(body, end, "\"ok\":false"))
                die("a task was refused");
        done += strcmp(options.mode, "batch") == 0 ? BATCH : 1;
        return ask(c);
}

/* Bytes of the body as the head says. */
static size_t body_length(const char *head, const char *end)
{
        static const char mark[] = "ontent-Length: "; /* evhttp and we write it alike */
        const char *at = search(head, end, mark);

        return at ? strtoul(at + sizeof(mark) - 1, NULL, 10) : 0;
}

/* Takes a whole answer from what was read; false when the connection is finished. */
static bool digest(struct connection *c)
{
        const char *end, *body;
        size_t length;

        c->in.p[c->in.n] = '\0';
        end = search(c->in.p, c->in.p + c->in.n, "\r\n\r\n");
        if (!end || c->in.n < 12)
                return true;
        body = end + 4;
        length = body_length(c->in.p, body);
        if (c->in.n < (size_t)(body - c->in.p) + length)
                return true;
        c->in.n = 0;
        if (!answered(c, atoi(c->in.p + 9), body, body + length))
                return false;
        send_more(c);
        return true;
}

static bool receive(struct connection *c)
{
        for (;;) {
                ssize_t n;

                reserve(&c->in, 65536);
                n = recv(c->fd, c->in.p + c->in.n, c->in.size - c->in.n - 1, 0);
                if (n < 0 && errno == EAGAIN)
                        return true;
                if (n <= 0)
                        die("the server closed a connection");
                c->in.n += (size_t)n;
                if (c->in.n + 1 < c->in.size)
                        return digest(c);
        }
}

/* ---- life ---- */

static void open_connection(struct connection *c, int poll)
{
        struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)options.port) };
        struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c };
        int yes = 1;

        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof(to)))
                die("cannot connect to port %d: %s", options.port, strerror(errno));
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
        if (fcntl(c->fd, F_SETFL, O_NONBLOCK) || epoll_ctl(poll, EPOLL_CTL_ADD, c->fd, &event))
                die("%s", strerror(errno));
}

static int run(int poll)
{
        struct epoll_event events[64];
        int alive = options.connections;

        while (alive) {
                int n = epoll_wait(poll, events, 64, 10000);

                if (n == 0)
                        die("no answer for ten seconds");
                for (int i = 0; i < n; i++) {
                        struct connection *c = events[i].data.ptr;

                        if (events[i].events & EPOLLOUT)
                                send_more(c);
                        if ((events[i].events & ~(uint32_t)EPOLLOUT) && !receive(c))
                                alive--;
                }
        }
        return 0;
}

static int by_value(const void *a, const void *b)
{
        float x = *(const float *)a, y = *(const float *)b;

        return (x > y) - (x < y);
}

static double quantile(double q)
{
        return n_times ? 1000 * (double)times[(size_t)((double)(n_times - 1) * q)] : 0;
}

static void read_options(int argc, char **argv)
{
        int c;

        while ((c = getopt(argc, argv, "p:k:u:c:s:n:f:i")) != -1) {
                switch (c) {
                case 'p': options.port = atoi(optarg); break;
                case 'k': options.key = optarg; break;
                case 'u': options.path = optarg; break;
                case 'c': options.connections = atoi(optarg); break;
                case 's': options.seconds = atof(optarg); break;
                case 'n': options.count = atol(optarg); break;
                case 'f': options.fields = optarg; break;
                case 'i': options.keyed = true; break;
                default: exit(2);
                }
        }
        if (optind != argc - 1 || options.connections < 1 ||
            options.connections > CONNECTIONS_MAX)
                die("usage: load get|create|batch|e2e|claim -p PORT …; see the source");
        options.mode = argv[optind];
}

int main(int argc, char **argv)
{
        int poll = epoll_create1(EPOLL_CLOEXEC);
        double began, took;

        read_options(argc, argv);
        make_bodies();
        for (int i = 0; i < options.connections; i++)
                open_connection(&connections[i], poll);
        began = now();
        deadline = began + options.seconds;
        for (int i = 0; i < options.connections; i++) {
                connections[i].began = began;
                if (ask(&connections[i]))
                        send_more(&connections[i]);
        }
        run(poll);
        took = now() - began;
        qsort(times, n_times, sizeof(*times), by_value);
        printf("{\"rate\":%.1f,\"done\":%ld,\"seconds\":%.3f,\"p50_ms\":%.3f,\"p99_ms\":%.3f}\n",
               (double)done / took, done, took, quantile(0.5), quantile(0.99));
        return 0;
}
