#include "worker/network.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "worker/wire.h"

enum { BACKLOG = 64 };

static bool write_file(const char *path, const char *text)
{
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        bool written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

        if (fd >= 0)
                close(fd);
        return written;
}

bool network_map_self(uid_t uid, gid_t gid)
{
        char uids[64], gids[64];

        snprintf(uids, sizeof(uids), "%u %u 1\n", uid, uid);
        snprintf(gids, sizeof(gids), "%u %u 1\n", gid, gid);
        return write_file("/proc/self/setgroups", "deny") &&
               write_file("/proc/self/uid_map", uids) && write_file("/proc/self/gid_map", gids);
}

void network_raise_loopback(void)
{
        struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        if (fd < 0)
                return;
        (void)ioctl(fd, SIOCSIFFLAGS, &lo);
        close(fd);
}

void network_leave(bool root, int control)
{
        uid_t uid = getuid();
        gid_t gid = getgid();

        if (unshare(CLONE_NEWNET | (root ? 0 : CLONE_NEWUSER)) ||
            (!root && !network_map_self(uid, gid)))
                wire_die(control, ERR_UNAVAILABLE, "cannot make a network: %s", strerror(errno));
        network_raise_loopback();
}

void network_offer(int control)
{
        struct sockaddr_in at = { .sin_family = AF_INET,
                                  .sin_port = htons(NETWORK_PROXY_PORT),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        struct wire_reply reply = { .kind = WIRE_LISTENER };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

        if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, BACKLOG) ||
            !wire_send(control, &reply, sizeof(reply), &fd, 1))
                wire_die(control, ERR_UNAVAILABLE, "cannot listen for the proxy: %s",
                         strerror(errno));
        close(fd);
}
