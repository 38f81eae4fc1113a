/* The process: what it gets from the system and gives back, and the signals that end it. */
#ifndef BATON_SERVER_PROCESS_H
#define BATON_SERVER_PROCESS_H

#include <signal.h>

#include "core/scope.h"

enum { PROCESS_LOOK_MS = 500 };

/* Before any thread exists.  The signals that are waited for from now on. */
void process_begin(sigset_t *);
/* The signal that came, or 0 after PROCESS_LOOK_MS if it looks and else never. */
int process_wait(const sigset_t *, bool looks);
/* Until nobody is busy, or the time is over.  False: a signal came. */
bool process_patience(const sigset_t *, int64_t seconds, bool (*busy)(void *), void *);
/* ERR_UNAVAILABLE: it was a child's end, that of the spawner, without which it cannot go on. */
enum err process_check(struct scope *, int signal) NODISCARD;

#endif
