#include "worker/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/attr.h"

/* Newer than Debian's header; older kernels want the shorter struct. */
struct ruleset {
        uint64_t fs, net, scoped;
};
#ifndef LANDLOCK_ACCESS_FS_REFER
#define LANDLOCK_ACCESS_FS_REFER (1ULL << 13)
#endif
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14)
#endif
#define ACCESS_IOCTL_DEV (1ULL << 15)
#define SCOPE_ALL        (1ULL << 0 | 1ULL << 1) /* abstract sockets, signals */

#define READ                                                     \
        (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | \
         LANDLOCK_ACCESS_FS_READ_DIR)
#define OF_FILES                                                    \
        (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | \
         LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE | ACCESS_IOCTL_DEV)
#define DEVICES (LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK)

/* The first right that an ABI does not know. */
static const uint64_t unknown_from[] = { 0,
                                         LANDLOCK_ACCESS_FS_REFER,
                                         LANDLOCK_ACCESS_FS_TRUNCATE,
                                         ACCESS_IOCTL_DEV,
                                         ACCESS_IOCTL_DEV,
                                         ACCESS_IOCTL_DEV << 1 };

static uint64_t handled(int abi)
{
        return unknown_from[abi < 5 ? abi : 5] - 1;
}

int landlock_abi(void)
{
        long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

        return abi < 0 ? 0 : (int)abi;
}

static bool add(int ruleset, const struct landlock_place *place, uint64_t all)
{
        const uint64_t rights[] = { [LANDLOCK_READ] = READ,
                                    [LANDLOCK_DEVICE] = OF_FILES & ~LANDLOCK_ACCESS_FS_EXECUTE,
                                    [LANDLOCK_WRITE] = ~DEVICES };
        struct landlock_path_beneath_attr rule = { .allowed_access = rights[place->right] & all };
        struct stat st;
        bool added;

        if (!place->path)
                return true;
        rule.parent_fd = open(place->path, O_PATH | O_CLOEXEC);
        if (rule.parent_fd < 0)
                return errno == ENOENT;
        if (!fstat(rule.parent_fd, &st) && !S_ISDIR(st.st_mode))
                rule.allowed_access &= OF_FILES;
        added = !syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
        close(rule.parent_fd);
        return added;
}

bool landlock_apply(int abi, const struct landlock_place *places, size_t n)
{
        struct ruleset attr = { .fs = handled(abi), .scoped = SCOPE_ALL };
        size_t size = abi >= LANDLOCK_SCOPED ? sizeof(attr) : sizeof(attr.fs);
        int fd = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
        bool ok = fd >= 0;

        for (size_t i = 0; ok && i < n; i++)
                ok = add(fd, &places[i], attr.fs);
        ok = ok && !syscall(SYS_landlock_restrict_self, fd, 0);
        if (fd >= 0)
                close(fd);
        return ok;
}
