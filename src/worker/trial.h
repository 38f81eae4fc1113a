/* Trials: which kind of sandbox works on this machine.  The spawner's, before it serves. */
#ifndef BATON_WORKER_TRIAL_H
#define BATON_WORKER_TRIAL_H

#include "worker/sandbox.h"

/* Takes the strongest kind that was asked for and works; hello says which, and why those before it
 * do not. */
void trial_choose(struct sandbox *, const char *asked, struct wire_reply *hello);

#endif
