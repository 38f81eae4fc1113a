/*
 * Strays: being the subreaper, the spawner inherits what a run leaves behind.  It may be one
 * bubblewrap that was killed between making its process 1 and telling us, or, without a namespace,
 * a thousand processes that fork.  Those that are stopped neither fork nor make room for others; so
 * first all are, then they die.
 */
#ifndef BATON_WORKER_STRAYS_H
#define BATON_WORKER_STRAYS_H

#include <stdbool.h>
#include <sys/types.h>

/* Kills every child of ours that is not spared, and all below it.  False: there was none. */
bool strays_kill(bool (*spared)(const void *ctx, pid_t), const void *ctx);

#endif
