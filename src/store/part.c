#include "store/part.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static enum err refused(struct scope *scope, const char *path)
{
        return fail(scope, errno == ENOSPC || errno == EDQUOT ? ERR_STORAGE_FULL : ERR_UNAVAILABLE,
                    "cannot write %s: %s", path, strerror(errno));
}

/* What an engine keeps beside a database file. */
static void drop_companions(struct scope *scope, const char *path)
{
        static const char *const suffixes[] = { "-wal", "-shm", "-journal" };

        for (size_t i = 0; i < LENGTH(suffixes); i++)
                unlink(arena_printf(&scope->arena, "%s%s", path, suffixes[i]).p);
}

/* Whoever held the lock before may have given the file its name meanwhile: then it is not the part any more. */
static bool is_still_there(const struct part *part)
{
        struct stat named, held;

        return stat(part->temporary, &named) == 0 && fstat(part->fd, &held) == 0 &&
               named.st_dev == held.st_dev && named.st_ino == held.st_ino;
}

enum err part_begin(struct scope *scope, const char *path, bool replace, struct part *out)
{
        struct part part = { .path = path };

        if (!replace && access(path, F_OK) == 0)
                return fail(scope, ERR_CONFLICT, "%s is there already; name another file, or move it away", path);
        part.temporary = arena_printf(&scope->arena, "%s.part", path).p;
        part.fd = open(part.temporary, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (part.fd < 0)
                return refused(scope, part.temporary);
        if (flock(part.fd, LOCK_EX | LOCK_NB) || !is_still_there(&part)) {
                close(part.fd);
                return fail(scope, ERR_CONFLICT, "another process writes %s", part.temporary);
        }
        if (ftruncate(part.fd, 0)) {
                enum err e = refused(scope, part.temporary);

                part_drop(scope, &part);
                return e;
        }
        drop_companions(scope, part.temporary);
        *out = part;
        return ERR_OK;
}

static bool sync_name(struct scope *scope, const char *path)
{
        int fd = open(dirname(str_c(&scope->arena, str_from(path))), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        bool ok = fd >= 0 && fsync(fd) == 0;

        if (fd >= 0)
                close(fd);
        return ok;
}

enum err part_finish(struct scope *scope, struct part *part)
{
        enum err e = ERR_OK;

        if (fsync(part->fd) || rename(part->temporary, part->path) || !sync_name(scope, part->path))
                e = refused(scope, part->path);
        close(part->fd);
        drop_companions(scope, part->temporary);
        return e;
}

void part_drop(struct scope *scope, struct part *part)
{
        drop_companions(scope, part->temporary);
        unlink(part->temporary);
        close(part->fd);
}
