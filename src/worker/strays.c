#include "worker/strays.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/arena.h"

struct pids {
        pid_t *at;
        size_t n, size;
};

static void add_pid(struct pids *pids, pid_t pid)
{
        if (pids->n == pids->size) {
                pids->size = pids->size ? 2 * pids->size : 64;
                pids->at = xrealloc(pids->at, pids->size * sizeof(*pids->at));
        }
        pids->at[pids->n++] = pid;
}

/* The children of one process, those of all its threads. */
static void add_children(struct pids *pids, pid_t parent)
{
        char path[300];
        struct dirent *thread;
        DIR *threads;
        int pid;

        snprintf(path, sizeof(path), "/proc/%d/task", (int)parent);
        threads = opendir(path);
        while (threads && (thread = readdir(threads))) {
                FILE *list;

                snprintf(path, sizeof(path), "/proc/%d/task/%s/children", (int)parent,
                         thread->d_name);
                list = fopen(path, "re");
                while (list && fscanf(list, "%d", &pid) == 1)
                        add_pid(pids, pid);
                if (list)
                        fclose(list);
        }
        if (threads)
                closedir(threads);
}

/* Stops every process below us but those that are spared; how many they are. */
static size_t stop_strays(bool (*spared)(const void *ctx, pid_t), const void *ctx,
                          struct pids *pids)
{
        size_t n = 0;

        pids->n = 0;
        add_children(pids, getpid());
        for (size_t i = 0; i < pids->n; i++)
                if (!spared(ctx, pids->at[i]))
                        pids->at[n++] = pids->at[i];
        pids->n = n;
        for (size_t i = 0; i < pids->n; i++) {
                kill(pids->at[i], SIGSTOP);
                add_children(pids, pids->at[i]);
        }
        return pids->n;
}

bool strays_kill(bool (*spared)(const void *ctx, pid_t), const void *ctx)
{
        struct pids pids = { 0 };
        size_t seen = 0, now;

        while ((now = stop_strays(spared, ctx, &pids)) > seen)
                seen = now;
        for (size_t i = 0; i < pids.n; i++)
                kill(pids.at[i], SIGKILL);
        free(pids.at);
        return pids.n > 0;
}
