/* The helper that touches a workspace's files: forked for one operation.  Private to this room. */
#ifndef BATON_WORKER_FILES_CHILD_H
#define BATON_WORKER_FILES_CHILD_H

#include "worker/sandbox.h"

/* Makes the directory tree of a workspace. */
void files_child_workspace(const struct sandbox *, const struct wire_request *,
                           int control) NORETURN;
/* Does one operation; the result goes to the memfd, figures and faults to the control socket. */
void files_child_work(const struct sandbox *, const struct wire_request *, struct wire_reader *,
                      int control, int result) NORETURN;

#endif
