/* The system call filter of sandboxed commands: what they may not ask of the kernel. */
#ifndef BATON_WORKER_SECCOMP_H
#define BATON_WORKER_SECCOMP_H

#include <stdbool.h>

/* Which sockets a command may make, by what keeps it from the machine's others. */
enum seccomp_sockets {
        SECCOMP_SOCKETS_OWN,  /* an own network and an own view of the files: unix, IP, netlink */
        SECCOMP_SOCKETS_IP,   /* an own network, but the machine's files: not unix */
        SECCOMP_SOCKETS_NONE, /* neither: none, and nothing else that leads to other processes */
};

/* A memfd with the filter as BPF, close-on-exec; -1 when it cannot be made. */
int seccomp_filter_memfd(enum seccomp_sockets);
/* Puts such a filter on the calling process, which has no_new_privs. */
bool seccomp_apply(int filter);

#endif
