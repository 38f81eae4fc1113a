#include "core/failpoint.h"

#ifdef BATON_WITH_FAILPOINTS

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum action { NOTHING, DIE, FAIL, STALL };
#define STALL_MS 200

struct failpoint_slot {
        _Atomic uint32_t action;
        _Atomic uint32_t from, to; /* hits at which it is taken, counted from 1, both included */
        _Atomic uint32_t hits, taken;
};

static struct {
        pthread_once_t once;
        struct failpoint_slot *slots;
} control = { .once = PTHREAD_ONCE_INIT };

static void attach(void)
{
        const char *path = getenv("BATON_FAILPOINTS");
        int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
        void *at = MAP_FAILED;

        if (fd >= 0)
                at = mmap(NULL, FAILPOINTS * sizeof(*control.slots), PROT_READ | PROT_WRITE,
                          MAP_SHARED, fd, 0);
        if (fd >= 0)
                close(fd);
        BUG_ON(path && at == MAP_FAILED);
        control.slots = at == MAP_FAILED ? NULL : at;
}

static enum action action_of(enum failpoint point)
{
        struct failpoint_slot *slot;
        uint32_t hit;

        pthread_once(&control.once, attach);
        if (!control.slots)
                return NOTHING;
        slot = &control.slots[point];
        hit = ++slot->hits;
        if (!slot->action || hit < slot->from || hit > slot->to)
                return NOTHING;
        slot->taken++;
        return (enum action)slot->action;
}

bool failpoint_fails(enum failpoint point)
{
        const struct timespec stall = { .tv_nsec = STALL_MS * 1000000L };
        enum action action = action_of(point);

        if (action == DIE)
                kill(getpid(), SIGKILL);
        if (action == STALL)
                nanosleep(&stall, NULL);
        return action == FAIL;
}

enum err failpoint(struct scope *scope, enum failpoint point)
{
        return failpoint_fails(point) ?
                       fail(scope, ERR_UNAVAILABLE, "failpoint %d says no", (int)point) :
                       ERR_OK;
}

void failpoint_pass(enum failpoint point)
{
        (void)failpoint_fails(point);
}

#endif
