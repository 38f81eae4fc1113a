/*
 * Who acts.  Comes from the key (or the Unix socket's peer), never from a body; every operation that
 * writes takes one, and every look-up is narrowed by its workspace.
 */
#ifndef BATON_DOMAIN_PRINCIPAL_H
#define BATON_DOMAIN_PRINCIPAL_H

#include "core/record.h"

enum key_scope {
        SCOPE_TASKS_READ = 1,
        SCOPE_TASKS_WRITE = 2,
        SCOPE_TASKS_APPROVE = 4,
        SCOPE_RUNS_CLAIM = 8,
        SCOPE_ADMIN = 16,
        SCOPE_GLOBAL_CREATE = 32,
        SCOPE_ALL = 63,
        SCOPE_WORKER = 64, /* the built-in worker only: may claim executor `worker` */
};

struct principal {
        struct str actor;        /* "human:admin" */
        struct str origin;       /* "http:api", "daemon:tick" */
        struct str session_id;   /* absent if the key has none */
        struct str agent_name;
        struct str capabilities; /* at most these; sorted "a,b" */
        bool caps_bound;         /* capabilities is a bound, else any may be named */
        struct str workspace;    /* UUID: what the call works in */
        bool all_workspaces;
        unsigned scopes;
        int64_t key;             /* 0 for the local socket and the server itself */
        struct str idempotency_key; /* of the request that it acts in; absent without one */
};

#endif
