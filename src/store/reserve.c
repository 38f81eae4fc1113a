#include "store/reserve.h"

#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* Bytes of the file system below path: all of it, and what an ordinary user may still have. */
static bool room(const char *path, int64_t *size, int64_t *left)
{
        char copy[PATH_MAX];
        struct statvfs fs;

        snprintf(copy, sizeof(copy), "%s", path);
        if (statvfs(dirname(copy), &fs))
                return false;
        *size = (int64_t)fs.f_blocks * (int64_t)fs.f_frsize;
        *left = (int64_t)fs.f_bavail * (int64_t)fs.f_frsize;
        return true;
}

static bool is_held(const char *path, int64_t bytes)
{
        struct stat st;

        return stat(path, &st) == 0 && st.st_size == bytes && (int64_t)st.st_blocks * 512 >= bytes;
}

bool reserve_take(const char *path)
{
        int64_t size, left, bytes;
        bool taken;
        int fd;

        if (!room(path, &size, &left))
                return false;
        bytes = size / 4 < RESERVE_BYTES ? size / 4 : RESERVE_BYTES;
        if (is_held(path, bytes))
                return true;
        if (left < bytes + bytes / 4)
                return false;
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (fd < 0)
                return false;
        taken = posix_fallocate(fd, 0, bytes) == 0;
        close(fd);
        if (!taken)
                unlink(path);
        return taken;
}

void reserve_give(const char *path)
{
        unlink(path);
}
