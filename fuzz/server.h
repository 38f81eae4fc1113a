/*
 * The server in one thread: store in memory, domain, hub, waiting calls and API as `baton serve`
 * puts them together, with connections replaced at http/exchange.h.  A request is read by the
 * production reader of heads and goes the production way from api_handle() on; a turn is
 * writer_turn().
 */
#ifndef BATON_FUZZ_SERVER_H
#define BATON_FUZZ_SERVER_H

#include "api/api.h"
#include "http/head.h"
#include "hub/hooks.h"

struct http_loop {
        void *data;
        struct http_task *first, **last;
        void (*every)(void *);
        void *every_arg;
};

/* What a client sees of a request. */
struct exchange {
        struct exchange *next;
        struct http_loop *loop;
        struct scope scope; /* of the request's texts; reset when it was answered */
        struct head head;
        struct http_request request;
        void (*closed)(struct exchange *, void *);
        void *closed_arg;
        void (*delivered)(void *, bool);
        void *delivered_arg;
        int status; /* 0 = not answered yet */
        bool stream, over;
        char type[64];
        struct buf answer;
};

struct server {
        struct scope scope;
        struct hooks hooks;
        struct store *store;
        struct definition_cache *definitions;
        struct api *api;
        struct http_loop loop;
        struct exchange *exchanges; /* the newest first */
        char key[64];               /* the administrator's */
        int inputs;                 /* that it has served */
};

/* The process's server with no row of the input before: making one takes longer than most inputs,
 * so it is emptied, and replaced now and then (names and lanes are kept for ever). */
struct server *server_begin(void);
/* Every client leaves, everything ends; what waits has to come back. */
void server_end(struct server *);

/* head: method, target and fields with their line ends, without the empty line. */
struct exchange *server_request(struct server *, struct str head, struct str body);
void server_abandon(struct server *, struct exchange *);  /* the client goes without reading an answer */
void server_forget(struct server *, struct exchange *); /* after its end */
/* Turns until nothing is left to do. */
void server_settle(struct server *);
/* The clocks go on: in steps as the tick takes them, or at once as after a stall. */
void server_wait(struct server *, int64_t seconds);
void server_jump(struct server *, int64_t seconds);
/* One operation through the writer's queue, with everything that follows from its commit. */
enum err server_run(struct server *, struct scope *, enum err (*run)(struct tx *, void *),
                    void *arg);
/* The built-in worker's turn: claims a run and carries it on until it ends, waits, or `steps` steps
 * were performed, each with this output; then the worker is gone, as after a crash. */
void server_work(struct server *, int steps, struct str output, bool fails);
/* Every invariant of the rows; ends the process with the name of one that does not hold. */
void server_check(struct server *);
/* The number of the newest event of a tree, 0 for none. */
int64_t server_newest_event(struct server *, int64_t tree);

#endif
