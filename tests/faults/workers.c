#include "workers.h"

#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/attr.h"

/* The sum comes back through a pipe; a process that dies counts as one that found something. */
static void serve(int64_t first, int64_t step, int64_t n, int out, void (*begin)(void *),
                  int64_t (*work)(int64_t, void *), void (*end)(void *), void *context)
{
        static const int deadly[] = { SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGSYS, SIGABRT };
        int64_t sum = 0;

        /* A crash ends the process: cmocka's handlers would go on with the next test in it. */
        for (size_t i = 0; i < LENGTH(deadly); i++)
                signal(deadly[i], SIG_DFL);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        begin(context);
        for (int64_t i = first; i < n; i += step)
                sum += work(i, context);
        end(context);
        fflush(NULL);
        _exit(write(out, &sum, sizeof(sum)) == sizeof(sum) ? 0 : 1);
}

int64_t workers_share(int64_t n, void (*begin)(void *), int64_t (*work)(int64_t, void *),
                      void (*end)(void *), void *context)
{
        int64_t count = sysconf(_SC_NPROCESSORS_ONLN), sum = 0, part;
        int pipes[2], status;

        BUG_ON(pipe(pipes));
        fflush(NULL);
        for (int64_t i = 0; i < count; i++) {
                pid_t child = fork();

                BUG_ON(child < 0);
                if (child == 0)
                        serve(i, count, n, pipes[1], begin, work, end, context);
        }
        close(pipes[1]);
        while (read(pipes[0], &part, sizeof(part)) == sizeof(part))
                sum += part;
        close(pipes[0]);
        while (wait(&status) > 0)
                sum += status != 0;
        return sum;
}
