/*
 * Bytes on a connection of the real server, at once and then in pieces: which requests it accepts
 * does not depend on how the bytes came.
 */
#include <errno.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/sockios.h>

#include "fuzz.h"
#include "http/server.h"

enum { BODY_MAX = 512, PIECES_MAX = 40 };

/* Of the process: the server is started once. */
static struct {
        char directory[64], path[96];
        struct http_server *http;
        struct http_loop *loop;
        struct buf *accepted; /* of the input under way; written by the loop */
        struct http_task barrier;
        sem_t passed;
} server;

static size_t body_limit(void *app, enum http_method method, struct str path)
{
        (void)app, (void)method, (void)path;
        return BODY_MAX;
}

static void handle(void *app, struct exchange *x)
{
        const struct http_request *r = exchange_request(x);

        (void)app;
        MUST(r->path.n && r->path.p[0] == '/' && str_is_utf8(r->path) && r->body.n <= BODY_MAX);
        MUST(!memchr(r->path.p, 0, r->path.n));
        buf_printf(server.accepted, STR_FMT " " STR_FMT " " STR_FMT " %zu\n",
                   STR_ARG(r->method_text), STR_ARG(r->path), STR_ARG(r->query), r->body.n);
        buf_str(server.accepted, r->body);
        exchange_reply(x, 200, "text/plain", r->path);
}

static void *loop_start(void *app, struct http_loop *loop)
{
        (void)app;
        server.loop = loop;
        sem_post(&server.passed);
        return NULL;
}

static void loop_stop(void *app, void *data)
{
        (void)app, (void)data;
}

static void stop(void)
{
        http_server_stop(server.http);
        unlink(server.path);
        rmdir(server.directory);
}

static void start(struct scope *scope)
{
        struct http_options options = { .listen = "127.0.0.1:0",
                                        .unix_socket = server.path,
                                        .socket_uid = geteuid(),
                                        .loops = 1,
                                        .head_seconds = 10,
                                        .idle_seconds = 60,
                                        .max_connections = 100,
                                        .world = &fuzz_world,
                                        .body_limit = body_limit,
                                        .handle = handle,
                                        .loop_start = loop_start,
                                        .loop_stop = loop_stop };

        strcpy(server.directory, "/tmp/baton-fuzz-XXXXXX");
        MUST(mkdtemp(server.directory));
        snprintf(server.path, sizeof(server.path), "%s/socket", server.directory);
        sem_init(&server.passed, 0, 0);
        MUST(!http_server_start(scope, &options, &server.http));
        sem_wait(&server.passed); /* the loop is there */
        atexit(stop);
}

static int dial(void)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        strcpy(address.sun_path, server.path);
        MUST(fd >= 0 && !connect(fd, (struct sockaddr *)&address, sizeof(address)));
        return fd;
}

static void pass(struct http_task *task)
{
        (void)task;
        sem_post(&server.passed);
}

/* Everything that was sent has been read and dealt with. */
static void await_loop(int fd)
{
        int unread = 1;

        while (ioctl(fd, SIOCOUTQ, &unread) == 0 && unread > 0)
                sched_yield();
        server.barrier.run = pass;
        http_post(server.loop, &server.barrier);
        while (sem_wait(&server.passed) && errno == EINTR)
                ;
}

static void throw_away(int fd)
{
        char room[4096];

        while (recv(fd, room, sizeof(room), MSG_DONTWAIT) > 0)
                ;
}

/* `step` bytes at a time. */
static void send_all(struct str input, size_t step, struct buf *accepted)
{
        int fd = dial();

        server.accepted = accepted;
        await_loop(fd); /* it was accepted */
        for (size_t at = 0; at < input.n; at += step) {
                struct str piece = str_slice(input, at, at + step);

                if (send(fd, piece.p, piece.n, MSG_NOSIGNAL) != (ssize_t)piece.n)
                        break;
                await_loop(fd);
                throw_away(fd);
        }
        close(fd);
        await_loop(fd);
        await_loop(fd);
}

void fuzz(struct scope *scope, struct str input)
{
        struct buf whole = BUF_INIT(1 << 20), pieces = BUF_INIT(1 << 20);

        if (!server.http)
                start(scope);
        send_all(input, input.n ? input.n : 1, &whole);
        send_all(input, input.n / PIECES_MAX + 1, &pieces);
        MUST(str_eq(buf_view(&whole), buf_view(&pieces)));
        buf_done(&whole);
        buf_done(&pieces);
}
