/* The system call filter of sandboxed commands: what they may not ask of the kernel. */
#ifndef BATON_WORKER_SECCOMP_H
#define BATON_WORKER_SECCOMP_H

/* A memfd with the filter as BPF, close-on-exec; -1 when it cannot be made. */
int seccomp_filter_memfd(void);

#endif
