/* The spawner's own side: the loop of the child process.  Private to this room. */
#ifndef BATON_WORKER_SPAWNER_CHILD_H
#define BATON_WORKER_SPAWNER_CHILD_H

#include "worker/sandbox.h"

/* Serves requests until the socket closes, then kills what it started and ends. */
void spawner_child(int socket, struct sandbox *, const char *asked) NORETURN;
/* In what was forked from it: signals as a program expects them. */
void spawner_child_reset_signals(void);

#endif
