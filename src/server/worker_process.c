#include "server/worker_process.h"

#include <stdio.h>

#include "core/log.h"
#include "domain/server.h"
#include "server/assembly.h"
#include "server/process.h"

static enum err check(struct scope *scope, const struct options *o)
{
        if (!o->store[0])
                return fail_field(scope, "store", ERR_VALIDATION,
                                  "a file has one process, whose worker is part of baton serve (--concurrency);"
                                  " a worker of its own needs --store postgres://…, see baton db copy");
        if (!o->concurrency)
                return fail_field(scope, "concurrency", ERR_VALIDATION,
                                  "a worker needs --concurrency 1 or more");
        return ERR_OK;
}

/* For who starts it. */
static void tell(const struct assembly *a)
{
        struct arena arena = { 0 };

        printf("working as " STR_FMT "\n", STR_ARG(server_worker(&arena, a->hooks.domain->number)));
        fflush(stdout);
        arena_done(&arena);
}

enum err work(struct scope *scope, const struct options *o)
{
        struct assembly a = ASSEMBLY_INIT;
        sigset_t signals;
        int signal;
        enum err e = check(scope, o);

        if (e)
                return e;
        process_begin(&signals);
        e = assembly_open(scope, &a, o);
        if (!e)
                e = assembly_start(scope, &a);
        if (!e) {
                tell(&a);
                signal = process_wait(&signals, false);
                e = process_check(scope, signal);
        }
        if (!e) {
                log_write(LOG_INFO, "draining", "reason", signal == SIGTERM ? "SIGTERM" : "SIGINT", NULL);
                (void)assembly_drain(&a, &signals);
        }
        assembly_stop(scope, &a);
        assembly_close(&a);
        return e;
}
