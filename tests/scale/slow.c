/*
 * Slow clients: each does one thing a byte a second and comes back when it is cut off.
 *
 *   slow -p PORT -k KEY -n CLIENTS -u PATH    PATH: a long answer for the slow readers
 *
 * A third sends heads, a third bodies, a third reads.  Runs until its standard input ends, then prints
 * one line of JSON: how many are held, how often one was cut off or refused a connection.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net.h"

enum kind { HEADS, BODIES, READERS, KINDS };

struct client {
        int fd; /* -1 = comes again at `next` */
        enum kind kind;
        bool begun;
        double next; /* when it does something again */
};

static struct {
        int port;
        size_t n;
        struct client *clients;
        struct text begin[KINDS]; /* what each sends at once */
        long cut_off, refused;
} all;

static void come(struct client *c)
{
        c->fd = connect_to(all.port, c->kind == READERS);
        c->begun = false;
        c->next = now() + 0.1;
}

static void cut_off(struct client *c, bool refused)
{
        close(c->fd);
        c->fd = -1;
        c->next = now() + 1;
        if (refused)
                all.refused++;
        else
                all.cut_off++;
}

/* Sends one byte, or reads one. */
static void drip(struct client *c)
{
        char answer[64] = "";
        ssize_t n;

        c->next = now() + 1;
        if (!c->begun) {
                const struct text *t = &all.begin[c->kind];

                c->begun = send(c->fd, t->p, t->n, MSG_NOSIGNAL) == (ssize_t)t->n;
                return;
        }
        if (c->kind != READERS && send(c->fd, "x", 1, MSG_NOSIGNAL) < 0 && errno != EAGAIN) {
                cut_off(c, false);
                return;
        }
        n = recv(c->fd, answer, c->kind == READERS ? 1 : sizeof(answer) - 1, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN) || (n > 0 && c->kind != READERS))
                cut_off(c, strstr(answer, " 429 ") != NULL);
}

static void add(struct text *t, const char *s)
{
        text_add(t, s, strlen(s));
}

static void build(const char *key, const char *path)
{
        static const char host[] = " HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ";

        add(&all.begin[HEADS], "GET /v1/tasks HTTP/1.1\r\nHost: 127.0.0.1\r\nX-");
        add(&all.begin[BODIES], "POST /v1/tasks");
        add(&all.begin[READERS], "GET ");
        add(&all.begin[READERS], path);
        for (int i = BODIES; i < KINDS; i++) {
                add(&all.begin[i], host);
                add(&all.begin[i], key);
        }
        add(&all.begin[BODIES], "\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n");
        add(&all.begin[READERS], "\r\n\r\n");
        all.clients = calloc(all.n, sizeof(*all.clients));
        if (!all.clients)
                die("out of memory");
}

int main(int argc, char **argv)
{
        const char *key = "", *path = "/";
        size_t held = 0;
        char byte;
        int c;

        while ((c = getopt(argc, argv, "p:k:n:u:")) != -1) {
                switch (c) {
                case 'p': all.port = atoi(optarg); break;
                case 'k': key = optarg; break;
                case 'n': all.n = strtoul(optarg, NULL, 10); break;
                case 'u': path = optarg; break;
                default: exit(2);
                }
        }
        build(key, path);
        for (size_t i = 0; i < all.n; i++) {
                all.clients[i].kind = (enum kind)(i % KINDS);
                come(&all.clients[i]);
        }
        if (fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK))
                die("fcntl: %s", strerror(errno));
        while (read(STDIN_FILENO, &byte, 1) != 0) {
                double at = now();

                for (size_t i = 0; i < all.n; i++) {
                        struct client *client = &all.clients[i];

                        if (at >= client->next && client->fd < 0)
                                come(client);
                        else if (at >= client->next)
                                drip(client);
                }
                usleep(10000);
        }
        for (size_t i = 0; i < all.n; i++)
                held += all.clients[i].fd >= 0 && all.clients[i].begun;
        printf("{\"held\":%zu,\"cut_off\":%ld,\"refused\":%ld}\n", held, all.cut_off, all.refused);
        return 0;
}
