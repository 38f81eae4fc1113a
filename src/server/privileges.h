/* What a server that was started by root gives up once its spawner runs. */
#ifndef BATON_SERVER_PRIVILEGES_H
#define BATON_SERVER_PRIVILEGES_H

#include "core/scope.h"

/*
 * Gives up every capability: the server stays the owner of its data directory and can do nothing
 * else that an ordinary user cannot.  If the directory belongs to somebody else, the right to write
 * in it is kept.  Nothing happens when it was not started by root.
 */
enum err privileges_drop(struct scope *, const char *data_directory) NODISCARD;

#endif
