#include "worker/wire.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void wire_put(struct buf *body, struct str text)
{
        uint32_t n = (uint32_t)text.n;

        buf_bytes(body, &n, sizeof(n));
        buf_bytes(body, text.p ? text.p : "", text.n);
        buf_char(body, 0);
}

struct str wire_get(struct wire_reader *r)
{
        uint32_t n;
        struct str text;

        if (r->bad || r->n - r->at < sizeof(n))
                goto bad;
        memcpy(&n, r->p + r->at, sizeof(n));
        r->at += sizeof(n);
        if (r->n - r->at < (size_t)n + 1 || r->p[r->at + n])
                goto bad;
        text = (struct str){ r->p + r->at, n };
        r->at += (size_t)n + 1;
        return text;
bad:
        r->bad = true;
        return STR("");
}

union fd_space {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int) * WIRE_MAX_FDS)];
};

bool wire_send(int socket, const void *message, size_t n, const int *fds, size_t n_fds)
{
        union fd_space space = { 0 };
        struct iovec part = { (void *)(uintptr_t)message, n };
        struct msghdr m = { .msg_iov = &part, .msg_iovlen = 1 };
        ssize_t sent;

        BUG_ON(n_fds > WIRE_MAX_FDS);
        if (n_fds) {
                m.msg_control = space.bytes;
                m.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
                space.header.cmsg_level = SOL_SOCKET;
                space.header.cmsg_type = SCM_RIGHTS;
                space.header.cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
                memcpy(CMSG_DATA(&space.header), fds, sizeof(int) * n_fds);
        }
        do
                sent = sendmsg(socket, &m, MSG_NOSIGNAL);
        while (sent < 0 && errno == EINTR);
        return sent == (ssize_t)n;
}

int wire_receive(int socket, void *message, size_t n, int flags, int *fds, size_t *n_fds)
{
        union fd_space space = { 0 };
        struct iovec part = { message, n };
        struct msghdr m = { .msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = space.bytes,
                            .msg_controllen = sizeof(space.bytes) };
        size_t came = 0;
        ssize_t got;

        do
                got = recvmsg(socket, &m, flags | MSG_CMSG_CLOEXEC);
        while (got < 0 && errno == EINTR);
        if (got <= 0)
                return got < 0 && errno != ECONNRESET ? -1 : 0;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
                int fd;
                size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                        continue;
                for (size_t i = 0; i < count; i++) {
                        memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
                        if (n_fds && came < *n_fds)
                                fds[came++] = fd;
                        else
                                close(fd);
                }
        }
        if (n_fds)
                *n_fds = came;
        if ((size_t)got != n)
                memset(message, 0xff, n); /* no operation and no kind that there is */
        return 1;
}

PRINTF(3, 0) static void send_fault(int control, enum err e, const char *fmt, va_list args)
{
        struct wire_reply reply = { .kind = WIRE_FAULT, .err = e };

        vsnprintf(reply.text, sizeof(reply.text), fmt, args);
        (void)wire_send(control, &reply, sizeof(reply), NULL, 0);
}

void wire_fault(int control, enum err e, const char *fmt, ...)
{
        va_list args;

        va_start(args, fmt);
        send_fault(control, e, fmt, args);
        va_end(args);
}

void wire_die(int control, enum err e, const char *fmt, ...)
{
        va_list args;

        va_start(args, fmt);
        send_fault(control, e, fmt, args);
        va_end(args);
        _exit(1);
}
