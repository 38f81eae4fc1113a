#include "worker/files_child.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <limits.h>
#include <linux/close_range.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "worker/files.h"

struct helper {
        int control, result;
        int root; /* the workspace's directory */
        const char *path;
};

static const char *const trees[] = { "repos", "artifacts", "tasks" };

/* What errno means for a path that somebody named. */
static void refuse(const struct helper *h, const char *doing) NORETURN;
static void refuse(const struct helper *h, const char *doing)
{
        const char *path = *h->path ? h->path : ".";

        switch (errno) {
        case ENOENT:
                wire_die(h->control, ERR_NOT_FOUND, "no such file in the workspace: %s", path);
        case EXDEV:
        case ELOOP:
                wire_die(h->control, ERR_VALIDATION,
                         "path %s leads out of the workspace through a symbolic link", path);
        case ENOTDIR:
                wire_die(h->control, ERR_VALIDATION, "path %s: not a directory", path);
        case EISDIR:
                wire_die(h->control, ERR_VALIDATION, "path %s is a directory", path);
        case ENAMETOOLONG:
                wire_die(h->control, ERR_VALIDATION, "path %s is too long", path);
        case EACCES:
        case EPERM:
                wire_die(h->control, ERR_PERMISSION_DENIED, "path %s: permission denied", path);
        case ENOSPC:
        case EDQUOT:
                wire_die(h->control, ERR_STORAGE_FULL, "path %s: no space is left", path);
        default:
                wire_die(h->control, ERR_INTERNAL, "cannot %s %s: %s", doing, path,
                         strerror(errno));
        }
}

static int open_beneath(const struct helper *h, const char *path, uint64_t flags)
{
        struct open_how how = { .flags = flags | O_CLOEXEC,
                                .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS };

        return (int)syscall(SYS_openat2, h->root, *path ? path : ".", &how, sizeof(how));
}

static void figures(const struct helper *h, int64_t a, int64_t b) NORETURN;
static void figures(const struct helper *h, int64_t a, int64_t b)
{
        struct wire_reply reply = { .kind = WIRE_FIGURES, .a = a, .b = b };

        _exit(wire_send(h->control, &reply, sizeof(reply), NULL, 0) ? 0 : 1);
}

static void write_all(const struct helper *h, int fd, const char *bytes, size_t n)
{
        while (n) {
                ssize_t written = write(fd, bytes, n);

                if (written < 0)
                        refuse(h, "write");
                bytes += written;
                n -= (size_t)written;
        }
}

/* ---- the directories above ---- */

/* Makes every directory of a path that is missing. */
static void make_directories(const struct helper *h, const char *path)
{
        char prefix[PATH_MAX];
        size_t n = strlen(path), from = 0;

        if (n >= sizeof(prefix)) {
                errno = ENAMETOOLONG;
                refuse(h, "make");
        }
        memcpy(prefix, path, n + 1);
        while (from < n) {
                size_t to = from + strcspn(prefix + from, "/");
                bool last = to == n;
                int fd, above;

                prefix[to] = 0;
                fd = open_beneath(h, prefix, O_PATH | O_DIRECTORY);
                if (fd < 0 && errno == ENOENT) {
                        if (from)
                                prefix[from - 1] = 0;
                        above = open_beneath(h, from ? prefix : "", O_PATH | O_DIRECTORY);
                        if (above < 0 || (mkdirat(above, prefix + from, 0755) && errno != EEXIST))
                                refuse(h, "make");
                        close(above);
                        if (from)
                                prefix[from - 1] = '/';
                        fd = open_beneath(h, prefix, O_PATH | O_DIRECTORY);
                }
                if (fd < 0)
                        refuse(h, "make");
                close(fd);
                if (!last)
                        prefix[to] = '/';
                from = to + 1;
        }
}

/* Splits "a/b/c" into an open a/b, which is made when wanted, and "c". */
static int open_parent(const struct helper *h, const char **name)
{
        const char *slash = strrchr(h->path, '/');
        char above[PATH_MAX] = "";
        int fd;

        *name = slash ? slash + 1 : h->path;
        if (!**name || !strcmp(*name, "."))
                wire_die(h->control, ERR_VALIDATION, "path %s does not name a file", h->path);
        if (slash) {
                if ((size_t)(slash - h->path) >= sizeof(above)) {
                        errno = ENAMETOOLONG;
                        refuse(h, "open");
                }
                memcpy(above, h->path, (size_t)(slash - h->path));
                make_directories(h, above);
        }
        fd = open_beneath(h, above, O_RDONLY | O_DIRECTORY);
        if (fd < 0)
                refuse(h, "open");
        return fd;
}

/* ---- operations ---- */

/* All of the workspace, following no link and leaving no file system. */
static FTS *open_walk(const struct helper *h)
{
        static char here[] = ".";
        char *const roots[] = { here, NULL };
        FTS *walk = fchdir(h->root) ? NULL : fts_open(roots, FTS_PHYSICAL | FTS_XDEV, NULL);

        if (!walk)
                refuse(h, "walk");
        return walk;
}

static void usage(const struct helper *h, int64_t *bytes, int64_t *count)
{
        FTS *walk = open_walk(h);
        FTSENT *entry;

        *bytes = *count = 0;
        while ((entry = fts_read(walk))) {
                if (entry->fts_info == FTS_DNR && entry->fts_errno == EACCES)
                        /* Not counted would be a way around the quota. */
                        wire_die(h->control, ERR_PERMISSION_DENIED,
                                 "directory %s of the workspace cannot be read", entry->fts_path);
                if (entry->fts_info == FTS_F)
                        *bytes += entry->fts_statp->st_size;
                if (entry->fts_info != FTS_DP && entry->fts_level > FTS_ROOTLEVEL)
                        ++*count;
        }
        fts_close(walk);
}

/* What is in a directory goes before it; one that its owner has closed to itself is opened. */
static void clear(const struct helper *h, int64_t most, int64_t *removed, int64_t *left)
{
        FTS *walk = open_walk(h);
        FTSENT *entry;

        while ((entry = fts_read(walk))) {
                bool directory = entry->fts_info == FTS_DP;

                if (entry->fts_info == FTS_D)
                        (void)chmod(entry->fts_accpath, 0700);
                if (entry->fts_info == FTS_D || entry->fts_level == FTS_ROOTLEVEL)
                        continue;
                *left = *removed == most;
                if (*left)
                        break;
                if (unlinkat(AT_FDCWD, entry->fts_accpath, directory ? AT_REMOVEDIR : 0))
                        wire_die(h->control, ERR_INTERNAL, "cannot remove %s: %s", entry->fts_path,
                                 strerror(errno));
                ++*removed;
        }
        fts_close(walk);
}

static void read_file(const struct helper *h, int64_t cap) NORETURN;
static void read_file(const struct helper *h, int64_t cap)
{
        /* Not blocking: a FIFO must not hold us before it is found to be one. */
        int fd = open_beneath(h, h->path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
        char piece[64 * 1024];
        struct stat st;
        int64_t total = 0;
        ssize_t n;

        if (fd < 0 && errno == ENXIO)
                wire_die(h->control, ERR_VALIDATION, "path %s is not a regular file", h->path);
        if (fd < 0 || fstat(fd, &st))
                refuse(h, "open");
        if (!S_ISREG(st.st_mode))
                wire_die(h->control, ERR_VALIDATION, "path %s is not a regular file",
                         *h->path ? h->path : ".");
        while (total < cap) {
                int64_t room = cap - total;

                n = read(fd, piece, room < (int64_t)sizeof(piece) ? (size_t)room : sizeof(piece));
                if (n < 0)
                        refuse(h, "read");
                if (n == 0)
                        break;
                total += n;
                write_all(h, h->result, piece, (size_t)n);
        }
        figures(h, total, st.st_size > total ? st.st_size : total);
}

static void check_quota(const struct helper *h, int parent, const char *name, int64_t size,
                        int64_t quota, mode_t *mode)
{
        int64_t bytes, count;
        struct stat old;

        if (!fstatat(parent, name, &old, AT_SYMLINK_NOFOLLOW)) {
                if (S_ISDIR(old.st_mode)) {
                        errno = EISDIR;
                        refuse(h, "write");
                }
                if (S_ISREG(old.st_mode)) {
                        size -= old.st_size;
                        *mode = old.st_mode & 0777;
                }
        }
        usage(h, &bytes, &count);
        bytes += size;
        if (bytes > quota)
                wire_die(h->control, ERR_QUOTA_EXCEEDED,
                         "file %s: the workspace may hold %lld bytes and would hold %lld", h->path,
                         (long long)quota, (long long)bytes);
}

static void write_file(const struct helper *h, struct str bytes, int64_t quota) NORETURN;
static void write_file(const struct helper *h, struct str bytes, int64_t quota)
{
        const char *name;
        int parent = open_parent(h, &name);
        mode_t mode = 0644;
        char temporary[64];
        uint64_t lot;
        int fd;

        check_quota(h, parent, name, (int64_t)bytes.n, quota, &mode);
        if (getrandom(&lot, sizeof(lot), 0) != sizeof(lot))
                refuse(h, "write");
        snprintf(temporary, sizeof(temporary), ".write-%016llx", (unsigned long long)lot);
        fd = openat(parent, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                refuse(h, "write");
        for (size_t done = 0; done < bytes.n;) {
                ssize_t n = write(fd, bytes.p + done, bytes.n - done);

                if (n < 0)
                        goto failed;
                done += (size_t)n;
        }
        if (fchmod(fd, mode) || fsync(fd) || renameat(parent, temporary, parent, name))
                goto failed;
        (void)fsync(parent);
        figures(h, (int64_t)bytes.n, 0);
failed:
        fd = errno;
        (void)unlinkat(parent, temporary, 0);
        errno = fd;
        refuse(h, "write");
}

static int by_name(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

static enum file_type type_of(mode_t mode)
{
        return S_ISREG(mode) ? FILE_REGULAR :
               S_ISDIR(mode) ? FILE_DIRECTORY :
               S_ISLNK(mode) ? FILE_SYMLINK :
                               FILE_OTHER;
}

static size_t read_names(const struct helper *h, int fd, char ***names)
{
        DIR *directory = fdopendir(fd);
        struct dirent *entry;
        size_t n = 0;

        if (!directory)
                refuse(h, "list");
        *names = xcalloc(FILES_LIST_MAX, sizeof(**names));
        while ((entry = readdir(directory))) {
                if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
                        continue;
                if (n == FILES_LIST_MAX)
                        wire_die(h->control, ERR_TOO_LARGE, "directory %s has more than %d entries",
                                 h->path, FILES_LIST_MAX);
                (*names)[n++] = xstrdup(entry->d_name);
        }
        return n;
}

static void list_directory(const struct helper *h) NORETURN;
static void list_directory(const struct helper *h)
{
        int fd = open_beneath(h, h->path, O_RDONLY | O_DIRECTORY);
        struct buf text = BUF_INIT(WIRE_BODY_MAX);
        char **names;
        size_t n, shown = 0;

        if (fd < 0)
                refuse(h, "list");
        n = read_names(h, fd, &names);
        qsort(names, n, sizeof(*names), by_name);
        for (size_t i = 0; i < n; i++) {
                struct stat st;
                int64_t size;
                uint32_t type;

                if (fstatat(fd, names[i], &st, AT_SYMLINK_NOFOLLOW))
                        continue; /* gone since */
                type = type_of(st.st_mode);
                size = type == FILE_REGULAR ? st.st_size : 0;
                buf_bytes(&text, &type, sizeof(type));
                buf_bytes(&text, &size, sizeof(size));
                wire_put(&text, str_from(names[i]));
                shown++;
        }
        write_all(h, h->result, text.p, text.n);
        figures(h, (int64_t)text.n, (int64_t)shown);
}

/* ---- entry ---- */

/* Lexically; what links do is the kernel's part. */
static void check_path(const struct helper *h, struct str path)
{
        struct str rest = path;

        if (memchr(path.p, 0, path.n))
                wire_die(h->control, ERR_VALIDATION, "path %s holds a NUL byte", path.p);
        if (path.p[0] == '/')
                wire_die(h->control, ERR_VALIDATION,
                         "path %s is absolute; paths are relative to the workspace", path.p);
        while (rest.p)
                if (str_is(str_cut(rest, '/', &rest), ".."))
                        wire_die(h->control, ERR_VALIDATION,
                                 "path %s: \"..\" is not allowed in a path", path.p);
}

void files_child_work(const struct sandbox *box, const struct wire_request *q,
                      struct wire_reader *body, int control, int result)
{
        struct str path = wire_get(body), bytes = wire_get(body);
        struct helper h = { .control = control, .result = result, .path = path.p };
        int64_t a = 0, b = 0;

        if (body->bad)
                wire_die(control, ERR_INTERNAL, "the request's body is broken");
        h.root = sandbox_open_workspace(box, q->workspace, q->uid, control);
        (void)close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
        sandbox_change_uid(box, q->uid, control);
        umask(022);
        check_path(&h, path);
        switch ((enum wire_op)q->op) {
        case WIRE_READ:
                read_file(&h, q->cap);
        case WIRE_WRITE:
                write_file(&h, bytes, q->cap);
        case WIRE_LIST:
                list_directory(&h);
        case WIRE_MKDIR:
                make_directories(&h, path.p);
                break;
        case WIRE_USAGE:
                usage(&h, &a, &b);
                break;
        case WIRE_CLEAR:
                clear(&h, q->cap, &a, &b);
                break;
        case WIRE_WORKSPACE:
        case WIRE_RUN:
        case WIRE_OPS:
        default:
                wire_die(control, ERR_INTERNAL, "no such file operation");
        }
        figures(&h, a, b);
}

void files_child_workspace(const struct sandbox *box, const struct wire_request *q, int control)
{
        uid_t owner = box->root ? q->uid : getuid();
        int above = sandbox_open_workspaces(box, control);
        struct stat st;
        int fd;

        if (mkdirat(above, q->workspace, 0700) && errno != EEXIST)
                wire_die(control, ERR_UNAVAILABLE, "directory of workspace %s: %s", q->workspace,
                         strerror(errno));
        fd = openat(above, q->workspace, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st))
                wire_die(control, ERR_UNAVAILABLE, "directory of workspace %s: %s", q->workspace,
                         strerror(errno));
        /* Root's own: made just now, or left by a stop between the two steps. */
        if (box->root && st.st_uid == 0 && fchown(fd, q->uid, q->uid))
                wire_die(control, ERR_UNAVAILABLE, "directory of workspace %s: %s", q->workspace,
                         strerror(errno));
        if (st.st_uid != owner && !(box->root && st.st_uid == 0))
                wire_die(control, ERR_CONFLICT,
                         "the directory of workspace %s belongs to uid %u, not to %u", q->workspace,
                         st.st_uid, owner);
        sandbox_change_uid(box, q->uid, control);
        umask(022);
        for (unsigned i = 0; i < LENGTH(trees); i++)
                if (mkdirat(fd, trees[i], 0755) && errno != EEXIST)
                        wire_die(control, ERR_UNAVAILABLE, "directory of workspace %s: %s",
                                 q->workspace, strerror(errno));
        _exit(0);
}
