/*
 * Messages between the server and its spawner: two ends of one program, so plain structs.  Every
 * request is one SEQPACKET message with descriptors: a control socket of its own, a memfd with the
 * texts, and what the operation writes to.  All replies come on the control socket; closing it
 * kills what the request started.
 *
 * The spawner may be root and the server is not: the spawner itself looks only at the fixed struct,
 * the texts are read by the child that does the work.
 */
#ifndef BATON_WORKER_WIRE_H
#define BATON_WORKER_WIRE_H

#include "core/arena.h"
#include "core/attr.h"
#include "core/buf.h"
#include "core/err.h"
#include "worker/cgroup.h"
#include "worker/network.h"

enum wire_op {
        WIRE_WORKSPACE,
        WIRE_RUN,
        WIRE_READ,
        WIRE_WRITE,
        WIRE_LIST,
        WIRE_MKDIR,
        WIRE_USAGE,
        WIRE_CLEAR,
        WIRE_OPS
};

/* Descriptors of a request, in this order; file operations carry WIRE_RESULT, runs the two pipes.
 * The spawner adds the status pipe when it hands a run on to a process of its own. */
enum {
        WIRE_CONTROL,
        WIRE_BODY,
        WIRE_RESULT,
        WIRE_OUT = WIRE_RESULT,
        WIRE_ERR,
        WIRE_STATUS,
        WIRE_RUN_FDS = WIRE_STATUS,
        WIRE_MAX_FDS
};

#define WIRE_BODY_MAX  (INT64_C(80) << 20)
#define WIRE_ITEMS_MAX 4096
#define WIRE_ITEM_MAX  (128 * 1024 - 1) /* the kernel's bound for one argument */

struct wire_request {
        uint32_t op, uid;
        uint32_t n_argv, n_env;
        bool has_source;
        enum network network;
        bool processes_grouped; /* the spawner's own remark for the child */
        char workspace[72];
        int64_t cap; /* of a read; the quota of a write; entries to clear */
        int64_t file_size_cap;
        int64_t caps[CGROUP_LIMITS]; /* 0 = none */
};

/* A listener comes with its descriptor. */
enum wire_kind { WIRE_FAULT, WIRE_FIGURES, WIRE_DONE, WIRE_HELLO, WIRE_LISTENER };

struct wire_reply {
        uint32_t kind;
        uint32_t err;      /* of a fault */
        int32_t status;    /* of waitpid, when done */
        int32_t exit_code; /* as the sandbox reported it; -1 = it did not */
        bool bounds[CGROUP_LIMITS]; /* which limits a control group kept */
        bool hit[CGROUP_LIMITS];    /* which of them it ran into */
        struct {
                uint32_t runtime, landlock; /* enum runtime; ABI, 0 = not used */
                bool namespaces;
        } hello;
        int64_t a, b; /* figures; a of a hello is the spawner's uid */
        char text[600];
};

/* Texts: length, bytes, NUL; so a view into a body is a C string as well. */
void wire_put(struct buf *, struct str);

struct wire_reader {
        const char *p;
        size_t n, at;
        bool bad; /* something did not fit; every later text is empty */
};

struct str wire_get(struct wire_reader *);

/* Sends or receives one message with descriptors.  Receive: 1 a message, 0 closed, -1 none now or
 * an error; *n_fds in: room, out: how many came (all close-on-exec). */
bool wire_send(int socket, const void *message, size_t n, const int *fds, size_t n_fds);
int wire_receive(int socket, void *message, size_t n, int flags, int *fds, size_t *n_fds);

/* For processes without a scope: says why on the control socket and ends. */
void wire_die(int control, enum err, const char *fmt, ...) NORETURN PRINTF(3, 4);
void wire_fault(int control, enum err, const char *fmt, ...) PRINTF(3, 4);

#endif
