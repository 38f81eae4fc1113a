/*
 * Subscribers of event streams that check what they are told: one thread, one epoll.
 *
 *   subscribers -p PORT -k KEY -n SUBSCRIBERS [-d DRIPPERS] TASK…
 *
 * They follow the tasks in turn; the first DRIPPERS read one byte a second and are not judged.  Then
 * one command a line, each answered by one line of JSON when it is done:
 *
 *   leave                 all are gone until the next command
 *   open                  every stream is open
 *   measure               forget the delivery times; report: how long deliveries took since
 *   storm                 all leave at once, come back and have caught up
 *   disconnect N RATE     N times one leaves, mostly inside a frame, and resumes; RATE a second
 *   finish HEAD…          the newest id of each task: all have it, then ids kept as bookmarks are
 *                         used again; how often each promise was broken
 *
 * The promises: ordered (ids rise), unique (no id twice), reliable (no id missing), atomic (a frame
 * comes whole, with the same bytes for everybody, and events of one commit in one piece), resumable
 * (after Last-Event-ID n comes n+1), bookmarkable (any id may be used later, with the same effect).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net.h"

enum { PAGE = 200, PAGE_BYTES = 64 * 1024, BOOKMARKS = 500, PATIENCE = 60, IDS_MAX = 1 << 20 };

struct task {
        const char *id;
        long head;       /* newest id that anybody has seen */
        uint64_t *frames; /* hash of each frame, by id */
        size_t size;
};

enum state { CLOSED, HEAD, STREAM };

struct client {
        int fd;
        enum state state;
        bool drips, bookmark;
        struct task *task;
        struct text in;     /* not yet parsed: head, or chunks */
        struct text frame;  /* of the stream, not yet whole */
        long last, goal;    /* id of the last whole frame; to be reached */
        long previous;      /* id before it on this connection, 0 = none */
        size_t chunk_left, chunk_frames, chunk_bytes, last_frames, last_bytes;
        char last_at[32];   /* timestamp of the last frame on this connection */
        double opened, retry_at, drip_at; /* second of the day; monotonic */
        size_t cut;         /* leave after so many more bytes, 0 = stay */
        unsigned char *seen; /* by id */
        size_t seen_size;
};

enum promise { ORDERED, UNIQUE, RELIABLE, ATOMIC, RESUMABLE, BOOKMARKABLE, PROMISES };
static const char *const promise_names[] = { "ordered", "unique", "reliable",
                                             "atomic", "resumable", "bookmarkable" };

static struct {
        int port, poll;
        const char *key;
        bool away;      /* none comes back */
        double back_at; /* when to look who does */
        struct client *clients;
        size_t n, drippers;
        struct task *tasks;
        size_t n_tasks;
        float *times;
        size_t n_times, size_times;
        long broken[PROMISES], disconnects, inside, refused, frames, bookmarks;
} all;

static void breaks(enum promise p, const struct client *c, const char *what, long id)
{
        if (all.broken[p]++ < 5)
                fprintf(stderr, "%s: %s: id %ld after %ld of %s\n", promise_names[p], what, id,
                        c->last, c->task->id);
}

/* ---- connections ---- */

static void leave(struct client *c)
{
        close(c->fd);
        c->state = CLOSED;
        c->in.n = c->frame.n = 0;
        c->chunk_left = c->cut = 0;
        c->previous = 0;
        c->last_at[0] = '\0';
}

static void come(struct client *c)
{
        struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c };

        c->fd = connect_to(all.port, c->drips);
        c->state = HEAD;
        c->opened = 1e9;
        if (c->drips)
                event.events = EPOLLOUT | EPOLLET;
        if (epoll_ctl(all.poll, EPOLL_CTL_ADD, c->fd, &event))
                die("epoll: %s", strerror(errno));
}

static void ask(struct client *c)
{
        char text[512];
        int n = snprintf(text, sizeof(text),
                         "GET /v1/tasks/%s/events/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                         "Authorization: Bearer %s\r\nLast-Event-ID: %ld\r\n\r\n",
                         c->task->id, all.key, c->last);

        if (send(c->fd, text, (size_t)n, MSG_NOSIGNAL) != n)
                die("send: %s", strerror(errno));
}

/* ---- frames ---- */

static bool see(struct client *c, long id)
{
        if ((size_t)id >= c->seen_size) {
                size_t size = 2 * (size_t)id + 64;

                c->seen = realloc(c->seen, size);
                if (!c->seen)
                        die("out of memory");
                memset(c->seen + c->seen_size, 0, size - c->seen_size);
                c->seen_size = size;
        }
        if (c->seen[id])
                return false;
        c->seen[id] = 1;
        return true;
}

static uint64_t hash(const char *p, size_t n)
{
        uint64_t h = 14695981039346656037ULL;

        while (n--)
                h = (h ^ (unsigned char)*p++) * 1099511628211ULL;
        return h;
}

/* The same bytes as everybody got. */
static bool is_same(struct task *t, long id, uint64_t h)
{
        if ((size_t)id >= t->size) {
                size_t size = 2 * (size_t)id + 64;

                t->frames = realloc(t->frames, size * sizeof(*t->frames));
                if (!t->frames)
                        die("out of memory");
                memset(t->frames + t->size, 0, (size - t->size) * sizeof(*t->frames));
                t->size = size;
        }
        if (!t->frames[id])
                t->frames[id] = h;
        return t->frames[id] == h;
}

static void remember_time(double seconds)
{
        if (all.n_times == all.size_times) {
                all.size_times = all.size_times ? 2 * all.size_times : 65536;
                all.times = realloc(all.times, all.size_times * sizeof(*all.times));
                if (!all.times)
                        die("out of memory");
        }
        all.times[all.n_times++] = (float)seconds;
}

/* Where the text of a member of the event begins, up to its quote. */
static const char *member(const char *data, const char *name)
{
        const char *at = strstr(data, name);

        return at ? at + strlen(name) : NULL;
}

static void take_time(struct client *c, const char *at)
{
        double second, when;
        char *end;

        /* 2026-01-02T03:04:05.678901Z */
        if (at[10] != 'T' || at[13] != ':' || at[16] != ':')
                die("a timestamp that is none: %.40s", at);
        second = strtod(at + 17, &end);
        if (*end != 'Z')
                die("a timestamp that is none: %.40s", at);
        when = atoi(at + 11) * 3600 + atoi(at + 14) * 60 + second;
        if (when > c->opened)
                remember_time(second_of_day() - when);
}

/* "id: N\nevent: TYPE\ndata: {…}" and nothing else; comments and retry are passed by. */
static void take_frame(struct client *c, const char *text, size_t n)
{
        const char *data = strstr(text, "\ndata: {\"sequence\":"), *at;
        long id;

        if (text[0] == ':' || strncmp(text, "retry: ", 7) == 0)
                return;
        c->chunk_frames++;
        if (sscanf(text, "id: %ld\nevent: ", &id) != 1 || id < 1 || id > IDS_MAX || !data ||
            atol(data + 19) != id || text[n - 1] != '}' || strlen(text) != n) {
                breaks(ATOMIC, c, "a frame that is not whole", 0);
                return;
        }
        all.frames++;
        if (!is_same(c->task, id, hash(text, n)))
                breaks(c->bookmark ? BOOKMARKABLE : ATOMIC, c, "not what others were told", id);
        if (c->previous && id <= c->previous)
                breaks(ORDERED, c, "not after the one before", id);
        if (!c->bookmark && !see(c, id))
                breaks(UNIQUE, c, "a second time", id);
        if (c->previous ? id > c->previous + 1 : id != c->last + 1)
                breaks(c->bookmark ? BOOKMARKABLE : c->previous ? RELIABLE : RESUMABLE, c,
                       "not the next one", id);
        at = member(data, "\"timestamp\":\"");
        if (!at)
                die("an event without a timestamp");
        /* The first of a piece: the commit before must have ended with the piece before. */
        if (c->chunk_frames == 1 && memcmp(c->last_at, at, 27) == 0 && c->last_frames < PAGE &&
            c->last_bytes < PAGE_BYTES)
                breaks(ATOMIC, c, "a commit in two pieces", id);
        memcpy(c->last_at, at, 27);
        take_time(c, at);
        c->last = c->previous = id;
        if (id > c->task->head)
                c->task->head = id;
}

static void take_frames(struct client *c)
{
        size_t at = 0;
        char *end;

        while ((end = memmem(c->frame.p + at, c->frame.n - at, "\n\n", 2))) {
                *end = '\0';
                take_frame(c, c->frame.p + at, (size_t)(end - (c->frame.p + at)));
                at = (size_t)(end + 2 - c->frame.p);
        }
        c->frame.n -= at;
        memmove(c->frame.p, c->frame.p + at, c->frame.n);
}

/* ---- HTTP ---- */

static void drop_input(struct client *c, size_t n)
{
        c->in.n -= n;
        memmove(c->in.p, c->in.p + n, c->in.n + 1);
}

/* False when the stream is over. */
static bool take_chunks(struct client *c)
{
        for (;;) {
                char *line = memmem(c->in.p, c->in.n, "\r\n", 2);
                size_t size, head;

                if (!line || line == c->in.p)
                        return true;
                size = strtoul(c->in.p, NULL, 16);
                head = (size_t)(line + 2 - c->in.p);
                if (!size)
                        return false;
                if (c->in.n < head + size + 2)
                        return true;
                c->last_frames = c->chunk_frames ? c->chunk_frames : c->last_frames;
                c->last_bytes = c->chunk_frames ? c->chunk_bytes : c->last_bytes;
                c->chunk_frames = 0;
                c->chunk_bytes = size;
                text_add(&c->frame, c->in.p + head, size);
                drop_input(c, head + size + 2);
                take_frames(c);
        }
}

static bool take_head(struct client *c)
{
        char *end = memmem(c->in.p, c->in.n, "\r\n\r\n", 4);

        if (!end)
                return true;
        if (strncmp(c->in.p, "HTTP/1.1 200 ", 13) != 0) {
                all.refused++;
                c->retry_at = now() + 1;
                return false;
        }
        drop_input(c, (size_t)(end + 4 - c->in.p));
        c->state = STREAM;
        c->opened = second_of_day();
        return take_chunks(c);
}

/* Frames inside a chunk that has not come whole count too when the client is cut off. */
static void note_cut(struct client *c)
{
        all.disconnects++;
        all.inside += c->in.n > 0;
}

/* `ended`: the server had closed it before this edge, and no other one will tell. */
static void receive(struct client *c, bool ended)
{
        char bytes[65536];

        while (c->state != CLOSED) {
                size_t want = c->cut ? c->cut : c->drips ? 1 : sizeof(bytes);
                bool drained;
                ssize_t n = recv(c->fd, bytes, want, 0);

                if (n < 0 && errno == EAGAIN)
                        return;
                if (n <= 0) {
                        leave(c);
                        return;
                }
                drained = (size_t)n < want;
                text_add(&c->in, bytes, (size_t)n);
                if (c->drips) {
                        c->in.n = 0;
                        return;
                }
                if (!(c->state == HEAD ? take_head(c) : take_chunks(c))) {
                        leave(c);
                        return;
                }
                if (c->cut && (c->cut -= (size_t)n) == 0) {
                        note_cut(c);
                        leave(c);
                }
                if (drained && !ended) /* what comes now is an edge of its own */
                        return;
        }
}

/* ---- the loop ---- */

/* It looks at all of them, which is not to be the test's own load. */
static void come_back(void)
{
        double at = now();

        if (all.away || at < all.back_at)
                return;
        all.back_at = at + 0.005;
        for (size_t i = 0; i < all.n; i++) {
                struct client *c = &all.clients[i];

                if (c->state == CLOSED && at >= c->retry_at && !c->drips)
                        come(c);
                if (c->drips && c->state != CLOSED && at >= c->drip_at) {
                        c->drip_at = at + 1;
                        receive(c, false);
                }
        }
}

static void turn(int ms)
{
        struct epoll_event events[256];
        int n = epoll_wait(all.poll, events, 256, ms);

        for (int i = 0; i < n; i++) {
                struct client *c = events[i].data.ptr;

                if (!c)
                        continue;
                if (c->state == HEAD && !c->in.n && (events[i].events & EPOLLOUT) && c->opened > 1e8) {
                        c->opened = 9e7; /* asked */
                        ask(c);
                }
                if (events[i].events & EPOLLIN)
                        receive(c, events[i].events & EPOLLRDHUP);
                else if (events[i].events & (EPOLLHUP | EPOLLERR))
                        leave(c);
        }
        come_back();
}

static bool all_open(void)
{
        for (size_t i = all.drippers; i < all.n; i++)
                if (all.clients[i].state != STREAM)
                        return false;
        return true;
}

static bool all_caught_up(void)
{
        for (size_t i = all.drippers; i < all.n; i++)
                if (all.clients[i].state != STREAM || all.clients[i].last < all.clients[i].goal)
                        return false;
        return true;
}

/* Turns until it is so; the seconds that took. */
static double turn_until(bool (*so)(void), const char *what)
{
        double began = now();

        while (!so()) {
                if (now() - began > PATIENCE)
                        die("%s: not within %d s", what, PATIENCE);
                turn(5);
        }
        return now() - began;
}

static void storm(void)
{
        for (size_t i = all.drippers; i < all.n; i++) {
                struct client *c = &all.clients[i];

                if (c->state != CLOSED)
                        leave(c);
                c->goal = c->task->head;
        }
        printf("{\"settled_s\":%.3f}\n", turn_until(all_caught_up, "storm"));
}

static void disconnect(long count, double rate)
{
        long until = all.disconnects + count, sent = 0;
        double began = now();

        while (all.disconnects < until) {
                if (now() - began > (double)count / rate + PATIENCE)
                        die("disconnect: %ld of %ld (asked for %ld) within its time", all.disconnects, until, sent);
                for (; sent < count && (double)sent < (now() - began) * rate; sent++) {
                        struct client *c = &all.clients[all.drippers +
                                                        chance() % (all.n - all.drippers)];

                        if (c->state == STREAM && !c->cut && sent % 8) {
                                c->cut = 1 + chance() % 400;
                        } else if (c->state != CLOSED && !c->cut) {
                                note_cut(c);
                                leave(c);
                        } else {
                                break; /* another one */
                        }
                }
                turn(5);
        }
        turn_until(all_open, "disconnect");
        printf("{\"disconnects\":%ld,\"inside_a_frame\":%ld}\n", all.disconnects, all.inside);
}

static void check_whole(void)
{
        for (size_t i = all.drippers; i < all.n; i++)
                for (long id = 1; id <= all.clients[i].goal; id++)
                        if (see(&all.clients[i], id))
                                breaks(RELIABLE, &all.clients[i], "never told", id);
}

/* Some use an id of any time again. */
static void use_bookmarks(void)
{
        for (size_t i = all.drippers; i < all.n && all.bookmarks < BOOKMARKS; i++) {
                struct client *c = &all.clients[i];

                leave(c);
                c->bookmark = true;
                c->last = (long)(chance() % (uint64_t)(c->goal + 1));
                all.bookmarks++;
        }
        turn_until(all_caught_up, "bookmarks");
}

static void finish(char *heads)
{
        for (size_t i = 0; i < all.n_tasks; i++)
                all.tasks[i].head = strtol(heads, &heads, 10);
        for (size_t i = 0; i < all.n; i++)
                all.clients[i].goal = all.clients[i].task->head;
        turn_until(all_caught_up, "finish");
        check_whole();
        use_bookmarks();
        printf("{\"frames\":%ld,\"refused\":%ld,\"bookmarks\":%ld", all.frames, all.refused,
               all.bookmarks);
        for (int i = 0; i < PROMISES; i++)
                printf(",\"%s\":%ld", promise_names[i], all.broken[i]);
        printf("}\n");
}

static void report(void)
{
        printf("{\"delivered\":%zu,\"p50_ms\":%.2f,\"p99_ms\":%.2f,\"max_ms\":%.2f}\n", all.n_times,
               1000 * quantile(all.times, all.n_times, 0.5),
               1000 * quantile(all.times, all.n_times, 0.99),
               1000 * quantile(all.times, all.n_times, 1));
}

static void go_away(void)
{
        all.away = true;
        for (size_t i = 0; i < all.n; i++)
                if (all.clients[i].state != CLOSED)
                        leave(&all.clients[i]);
        printf("{}\n");
}

/* Those whom nothing else makes come back. */
static void let_in(void)
{
        all.away = false;
        for (size_t i = 0; i < all.drippers; i++)
                if (all.clients[i].state == CLOSED)
                        come(&all.clients[i]);
}

/* False after the last one. */
static bool obey(char *line)
{
        long count;
        double rate;

        let_in();
        if (strcmp(line, "leave") == 0)
                go_away();
        else if (strcmp(line, "open") == 0)
                printf("{\"opened_s\":%.3f}\n", turn_until(all_open, "open"));
        else if (strcmp(line, "measure") == 0)
                all.n_times = 0, printf("{}\n");
        else if (strcmp(line, "report") == 0)
                report();
        else if (strcmp(line, "storm") == 0)
                storm();
        else if (sscanf(line, "disconnect %ld %lf", &count, &rate) == 2)
                disconnect(count, rate);
        else if (strncmp(line, "finish ", 7) == 0)
                finish(line + 7);
        else
                die("no such command: %s", line);
        fflush(stdout);
        return strncmp(line, "finish ", 7) != 0;
}

/* Serves the streams until a whole command has come. */
static char *next_command(struct text *lines)
{
        static char line[65536];
        char *end, bytes[4096];

        while (!lines->n || !(end = memchr(lines->p, '\n', lines->n))) {
                ssize_t n = read(STDIN_FILENO, bytes, sizeof(bytes));

                if (n == 0)
                        die("nobody commands any more");
                if (n > 0)
                        text_add(lines, bytes, (size_t)n);
                else
                        turn(10);
        }
        *end = '\0';
        snprintf(line, sizeof(line), "%s", lines->p);
        lines->n -= (size_t)(end + 1 - lines->p);
        memmove(lines->p, end + 1, lines->n);
        return line;
}

static void read_options(int argc, char **argv)
{
        int c;

        while ((c = getopt(argc, argv, "p:k:n:d:")) != -1) {
                switch (c) {
                case 'p': all.port = atoi(optarg); break;
                case 'k': all.key = optarg; break;
                case 'n': all.n = strtoul(optarg, NULL, 10); break;
                case 'd': all.drippers = strtoul(optarg, NULL, 10); break;
                default: exit(2);
                }
        }
        all.n_tasks = (size_t)(argc - optind);
        if (!all.port || !all.key || all.n <= all.drippers || !all.n_tasks)
                die("usage: subscribers -p PORT -k KEY -n SUBSCRIBERS [-d DRIPPERS] TASK…");
        all.tasks = calloc(all.n_tasks, sizeof(*all.tasks));
        all.clients = calloc(all.n, sizeof(*all.clients));
        if (!all.tasks || !all.clients)
                die("out of memory");
        for (size_t i = 0; i < all.n_tasks; i++)
                all.tasks[i].id = argv[optind + (int)i];
}

int main(int argc, char **argv)
{
        struct text lines = { 0 };

        read_options(argc, argv);
        if (fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK))
                die("fcntl: %s", strerror(errno));
        all.poll = epoll_create1(EPOLL_CLOEXEC);
        for (size_t i = 0; i < all.n; i++) {
                all.clients[i].task = &all.tasks[i % all.n_tasks];
                all.clients[i].drips = i < all.drippers;
                come(&all.clients[i]);
        }
        while (obey(next_command(&lines)))
                ;
        free(lines.p);
        return 0;
}
