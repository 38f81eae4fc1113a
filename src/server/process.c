#include "server/process.h"

#include <malloc.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

enum { MOMENT_MS = 50, TURN_SECONDS = 10, SPARE_BYTES = 16 << 20 };

static void raise_descriptors(void)
{
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
                limit.rlim_cur = limit.rlim_max;
                setrlimit(RLIMIT_NOFILE, &limit);
        }
}

void process_begin(sigset_t *signals)
{
        const struct sigaction ends_only = { .sa_handler = SIG_DFL, .sa_flags = SA_NOCLDSTOP };

        umask(077);
        mallopt(M_ARENA_MAX, 2); /* few heaps: a small idle footprint */
        raise_descriptors();
        signal(SIGPIPE, SIG_IGN);
        sigemptyset(signals);
        sigaddset(signals, SIGTERM);
        sigaddset(signals, SIGINT);
        sigaddset(signals, SIGCHLD);
        sigaction(SIGCHLD, &ends_only, NULL);
        pthread_sigmask(SIG_BLOCK, signals, NULL);
}

/* What a burst of connections took and gave back lies between what others hold: 5,000 idle streams
 * are 12 MiB with this and 44 MiB without. */
static void give_back_memory(void)
{
        if (mallinfo2().fordblks > SPARE_BYTES)
                malloc_trim(0);
}

int process_wait(const sigset_t *signals, bool looks)
{
        const struct timespec look = { 0, PROCESS_LOOK_MS * 1000000L }, turn = { TURN_SECONDS, 0 };
        int signal;

        while ((signal = sigtimedwait(signals, NULL, looks ? &look : &turn)) < 0 && !looks)
                give_back_memory();
        return signal < 0 ? 0 : signal;
}

bool process_patience(const sigset_t *signals, int64_t seconds, bool (*busy)(void *), void *context)
{
        const struct timespec moment = { 0, MOMENT_MS * 1000000L };

        for (int64_t left = seconds * 1000 / MOMENT_MS; left > 0 && busy(context); left--)
                if (sigtimedwait(signals, NULL, &moment) > 0)
                        return false;
        return true;
}

/* It cannot be forked again from a process with threads, a database and no rights. */
enum err process_check(struct scope *scope, int signal)
{
        return signal == SIGCHLD ?
                       fail(scope, ERR_UNAVAILABLE, "the spawner has died; start it again") :
                       ERR_OK;
}
