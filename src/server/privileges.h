/* What a process takes while it may, and what one that was started by root gives up once its spawner runs. */
#ifndef BATON_SERVER_PRIVILEGES_H
#define BATON_SERVER_PRIVILEGES_H

#include "core/scope.h"

/*
 * Everybody waits for the thread that writes, and it needs the processor longest at a time: among
 * equals, threads that wake up for a moment put it off.  So it gets a nice value that is lower by this.
 */
enum { PRIVILEGES_BOOST = 10 };
/* Lowers the caller's, while it may: a thread that it makes inherits it.  By so much, or 0: it is not allowed. */
int privileges_boost(void);

/*
 * Gives up every capability: the server stays the owner of its data directory and can do nothing
 * else that an ordinary user cannot.  If the directory belongs to somebody else, the right to write
 * in it is kept.  Nothing happens when it was not started by root.
 */
enum err privileges_drop(struct scope *, const char *data_directory) NODISCARD;

#endif
