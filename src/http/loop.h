/* What a server and its exchanges know of each other; of this room alone. */
#ifndef BATON_HTTP_LOOP_H
#define BATON_HTTP_LOOP_H

#include <event2/event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "http/server.h"

enum { LOOPS_MAX = 16 };

struct timer;

struct http_loop {
        struct http_server *server;
        struct event_base *base;
        struct event *wake, *sweep;
        pthread_t thread;
        int eventfd;
        pthread_mutex_t lock;
        struct http_task *posted, **posted_last;
        struct exchange *connections;
        struct timer *timers;
        void *data;
        char date[40];
        time_t date_of;
};

struct http_server {
        struct http_options options;
        struct http_loop loops[LOOPS_MAX];
        int n_loops, next_loop;
        int tcp, local;
        struct event *tcp_event, *local_event;
        char address[64];
        char *socket_path;
        struct tally *sources;
        _Atomic size_t connections, refused, busy;
        _Atomic bool draining;
        bool out_of_files; /* nothing is accepted until the next sweep; of the first loop */
};

/* A connection on its way from the listener to its loop. */
struct arrival {
        struct http_task task;
        struct http_loop *loop;
        int fd;
        struct http_peer peer;
        uint64_t source;
        const char *refusal; /* why it is one too many; NULL = welcome */
};

/* Takes a place back; of a connection that was refused, the one for telling it. */
void http_server_leave(struct http_server *, uint64_t source, bool refused);

/* ---- on the loop's thread, or when it has ended ---- */
void exchange_open(struct http_loop *, const struct arrival *);
/* Once a second: ends what is overdue, takes memory from what rests. */
void exchange_sweep(struct http_loop *);
void exchange_close_all(struct http_loop *);

#endif
