#include "server/directory.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/failpoint.h"

const char *directory_file(struct scope *scope, const struct directory *d, const char *name)
{
        return arena_printf(&scope->arena, "%s/%s", d->path, name).p;
}

static enum err make_directory(struct scope *scope, const char *path)
{
        char *at = str_c(&scope->arena, str_from(path));

        for (char *slash = strchr(at + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
                *slash = '\0';
                mkdir(at, 0700);
                *slash = '/';
        }
        if (mkdir(at, 0700) && errno != EEXIST)
                return fail(scope, ERR_UNAVAILABLE, "cannot make %s: %s", path, strerror(errno));
        return ERR_OK;
}

enum err directory_open(struct scope *scope, struct directory *d, const char *path)
{
        enum err e;

        snprintf(d->path, sizeof(d->path), "%s", path);
        e = make_directory(scope, d->path);
        if (e)
                return e;
        d->lock = open(directory_file(scope, d, "lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (d->lock < 0)
                return fail(scope, ERR_UNAVAILABLE, "cannot write in %s: %s", d->path,
                            strerror(errno));
        if (flock(d->lock, LOCK_EX | LOCK_NB))
                return fail(scope, ERR_UNAVAILABLE,
                            "another server already uses %s; stop it or choose another --data",
                            d->path);
        return ERR_OK;
}

void directory_close(struct directory *d)
{
        if (d->lock >= 0)
                close(d->lock);
}

static bool sync_directory(const char *path)
{
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        bool ok = fd >= 0 && fsync(fd) == 0;

        if (fd >= 0)
                close(fd);
        return ok;
}

/* Written beside, synced, renamed, and the name synced too. */
enum err directory_write(struct scope *scope, const struct directory *d, const char *name,
                         struct str text)
{
        const char *path = directory_file(scope, d, name), *temporary;
        bool ok;
        int fd;

        temporary = arena_printf(&scope->arena, "%s.new", path).p;
        fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        ok = fd >= 0 && write(fd, text.p, text.n) == (ssize_t)text.n && fsync(fd) == 0;
        if (fd >= 0)
                close(fd);
        if (!ok || failpoint_fails(FAILPOINT_BOOT_FILE) || rename(temporary, path) ||
            !sync_directory(d->path))
                return fail(scope, ERR_UNAVAILABLE, "cannot write %s: %s", path, strerror(errno));
        return ERR_OK;
}

enum err directory_vault(struct scope *scope, const struct directory *d, unsigned char *vault,
                         size_t n, bool *made)
{
        const char *path = directory_file(scope, d, "secret.key");
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        struct stat st = { 0 };
        bool whole;

        *made = fd < 0 && errno == ENOENT;
        if (*made) {
                scope_random(scope, vault, n);
                return directory_write(scope, d, "secret.key", (struct str){ (char *)vault, n });
        }
        if (fd < 0)
                return fail(scope, ERR_UNAVAILABLE, "cannot read %s: %s", path, strerror(errno));
        whole = !fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size == (off_t)n &&
                read(fd, vault, n) == (ssize_t)n;
        close(fd);
        if (st.st_mode & 077)
                return fail(scope, ERR_UNAVAILABLE,
                            "%s can be read by others (mode %04o): make it 0600, and put the"
                            " secrets anew if somebody may have copied it",
                            path, (unsigned)st.st_mode & 07777);
        if (!whole)
                return fail(scope, ERR_UNAVAILABLE, "%s is not a key of %zu bytes", path, n);
        return ERR_OK;
}

enum err directory_name(struct scope *scope, const struct directory *d, const char *file,
                        struct str *out)
{
        unsigned char random[16];
        const size_t n = 2 * sizeof(random);
        char name[2 * sizeof(random) + 1] = "";
        const char *path = directory_file(scope, d, file);
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        bool whole = fd >= 0 && read(fd, name, n) == (ssize_t)n;
        bool missing = fd < 0 && errno == ENOENT;
        enum err e = ERR_OK;

        if (fd >= 0)
                close(fd);
        if (!missing && !whole)
                return fail(scope, ERR_UNAVAILABLE, "%s is no name of %zu digits: remove it", path, n);
        if (missing) {
                scope_random(scope, random, sizeof(random));
                sodium_bin2hex(name, sizeof(name), random, sizeof(random));
                e = directory_write(scope, d, file, str_from(name));
        }
        *out = str_dup(&scope->arena, str_from(name));
        return e;
}
