/*
 * Servers that use one database at the same time.  Each has a number, which is part of the ids it makes
 * and of its built-in worker's name, and a row that says when it was seen last, by the lease clock: while
 * nobody runs, nobody is missed.  Who was not seen for SERVER_GONE loses its number, and the runs that its
 * worker held go back to the queue.
 *
 * A server that finds nothing to do and is asked nothing rests: it says until when it will not be heard of,
 * which nobody has to wait for since nothing is held then, and ticks again at that time, when it is asked
 * something, or when another has written.
 *
 * A server with a file for a database has number 0, no row, and is never missed.
 */
#ifndef BATON_DOMAIN_SERVER_H
#define BATON_DOMAIN_SERVER_H

#include "domain/domain.h"

#define SERVER_SEEN_EVERY (5 * US_PER_S)
#define SERVER_GONE (3 * SERVER_SEEN_EVERY)
#define SERVER_REST (120 * US_PER_S) /* at most */

/* Takes the number that this place has, or a free one; what the worker of that number held, whose process is
 * dead, goes back. */
enum err server_join(struct tx *) NODISCARD;
/* Once its number may have been given to another: takes one again. */
enum err server_stay(struct tx *) NODISCARD;
/* In a tick, behind what is due: how long this one may rest, microseconds; 0: not. */
enum err server_rest(struct tx *, int64_t *rest) NODISCARD;
/* Says that this one is there, and will be for so long, and looks who is not. */
enum err server_tick(struct tx *, int64_t rest) NODISCARD;
/* For the end of a server: gives the number back. */
enum err server_leave(struct tx *, void *) NODISCARD;
/* Whether this is the one server that does what must not be done twice; in any transaction. */
enum err server_leads(struct tx *, bool *) NODISCARD;

/* A process on the database that has a worker. */
struct server_row {
        int64_t number, worker; /* worker: how many runs it performs at once */
        struct str host, volume;
        int64_t seen_at;        /* wall clock */
        int64_t active;         /* runs that its worker holds */
};
extern const struct record server_record;
/* All of them (struct server_row), by number; none where the database is a file. */
enum err servers_working(struct tx *, struct list *) NODISCARD;

/* The actor that the built-in worker of a server is. */
struct str server_worker(struct arena *, int64_t number);

#endif
