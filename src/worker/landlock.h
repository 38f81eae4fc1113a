/* Landlock: the calling process, and what it starts, may touch the named places and nothing else. */
#ifndef BATON_WORKER_LANDLOCK_H
#define BATON_WORKER_LANDLOCK_H

#include <stdbool.h>
#include <stddef.h>

enum landlock_right { LANDLOCK_READ, LANDLOCK_DEVICE, LANDLOCK_WRITE }; /* each: and execute */

struct landlock_place {
        const char *path; /* one that is not there is passed over; NULL too */
        enum landlock_right right;
};

/* From this ABI on a command cannot signal processes outside. */
enum { LANDLOCK_SCOPED = 6, LANDLOCK_LEAST = 2 /* without it nothing can be moved */ };

int landlock_abi(void); /* 0 = this kernel has none */
/* The process has no_new_privs.  False: errno says why. */
bool landlock_apply(int abi, const struct landlock_place *, size_t n);

#endif
