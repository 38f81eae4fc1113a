#include "server/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/timex.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/table.h"
#include "server/options.h"
#include "server/privileges.h"
#include "store/store.h"
#include "worker/cgroup.h"
#include "worker/landlock.h"
#include "worker/seccomp.h"
#include "worker/spawner.h"

/* FINE needs nothing; WARNING: something works less well; MISSING: the server needs it. */
enum state { FINE, WARNING, MISSING };

struct findings {
        struct scope *scope;
        const struct options *options;
        const char *data; /* the data directory, or the nearest one above it that exists */
        bool data_exists;
        json_t *list;
        bool missing;
};

static void find(struct findings *f, const char *name, enum state state, const char *fmt, ...)
        PRINTF(4, 5);
static void find(struct findings *f, const char *name, enum state state, const char *fmt, ...)
{
        static const char *const words[] = { "ok", "warning", "missing" };
        char detail[1024];
        va_list args;

        va_start(args, fmt);
        vsnprintf(detail, sizeof(detail), fmt, args);
        va_end(args);
        f->missing |= state == MISSING;
        json_array_append_new(f->list, json_pack("{s:s, s:s, s:s}", "name", name, "state",
                                                 words[state], "detail", detail));
}

/* The first line that a program prints; empty when it cannot be run or fails. */
static struct str first_line(struct scope *scope, const char *program, const char *argument)
{
        char text[256];
        ssize_t n = 0;
        int out[2], status = -1;
        pid_t pid;

        if (pipe2(out, O_CLOEXEC))
                return STR("");
        pid = fork();
        if (!pid) {
                if (dup2(out[1], STDOUT_FILENO) >= 0 &&
                    dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO) >= 0)
                        execlp(program, program, argument, (char *)NULL);
                _exit(127);
        }
        close(out[1]);
        if (pid > 0) {
                n = read(out[0], text, sizeof(text) - 1);
                (void)waitpid(pid, &status, 0);
        }
        close(out[0]);
        text[n > 0 ? n : 0] = 0;
        text[strcspn(text, "\n")] = 0;
        return status ? STR("") : str_dup(&scope->arena, str_from(text));
}

/* ---- the machine ---- */

static void look_at_system(struct findings *f)
{
        struct utsname name;

        if (!uname(&name))
                find(f, "kernel", FINE, "%s %s, %s", name.sysname, name.release, name.machine);
        if (geteuid())
                find(f, "user", FINE, "uid %u: every workspace runs as this user", geteuid());
        else
                find(f, "user", FINE, "root: every workspace has a uid of its own");
}

static void look_at_files(struct findings *f)
{
        struct rlimit files = { 0 };
        long long wanted = f->options->max_connections + 256;

        (void)getrlimit(RLIMIT_NOFILE, &files);
        if (files.rlim_max == RLIM_INFINITY || files.rlim_max >= (rlim_t)wanted)
                find(f, "open files", FINE, "up to %lld", (long long)files.rlim_max);
        else
                find(f, "open files", WARNING, "up to %lld; --max-connections %lld wants %lld",
                     (long long)files.rlim_max, (long long)f->options->max_connections, wanted);
}

static void look_at_writer(struct findings *f)
{
        int boost = privileges_boost();

        if (boost)
                find(f, "writer", FINE, "its thread goes before others: nice lower by %d", boost);
        else
                find(f, "writer", WARNING,
                     "its thread is one among others and writes less beside many streams; LimitNICE=-%d"
                     " (systemd) or CAP_SYS_NICE lets it go first",
                     PRIVILEGES_BOOST);
        (void)setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + boost);
}

static void look_at_clock(struct findings *f)
{
        enum { RELEASED = 1735689600 }; /* 2025-01-01, from which ids count */
        struct timex kept = { 0 };

        if (time(NULL) < RELEASED)
                find(f, "clock", MISSING, "it lies before 2025: ids count from there");
        else if (adjtimex(&kept) < 0 || (kept.status & STA_UNSYNC))
                find(f, "clock", WARNING,
                     "nothing keeps it in step; leases do not depend on it, deadlines do");
        else
                find(f, "clock", FINE, "kept in step, within %ld ms", kept.maxerror / 1000);
}

static void look_at_git(struct findings *f)
{
        struct str version = first_line(f->scope, "git", "--version");

        if (version.n)
                find(f, "git", FINE, STR_FMT, STR_ARG(version));
        else
                find(f, "git", MISSING, "not installed: git_clone steps fail");
}

/* The log of a database with several writers could be reset at once before this version. */
static void look_at_sqlite(struct findings *f)
{
        const char *version = store_engine_version();
        int part[3] = { 0 };

        (void)sscanf(version, "%d.%d.%d", &part[0], &part[1], &part[2]);
        if (part[0] * 1000000 + part[1] * 1000 + part[2] >= 3051003)
                find(f, "sqlite", FINE, "%s", version);
        else
                find(f, "sqlite", WARNING,
                     "%s: below 3.51.3 two connections that reset the log at once can damage the"
                     " database; the server writes through one only, and so must everybody else",
                     version);
}

/* ---- sandboxes ---- */

/* As the user that commands would be. */
static void look_at_user_namespaces(struct findings *f)
{
        int status = 0;
        pid_t pid = fork();

        if (!pid) {
                uid_t uid = geteuid() ? geteuid() : SPAWNER_FIRST_UID;

                _exit(setresuid(uid, uid, uid) || unshare(CLONE_NEWUSER) ? errno : 0);
        }
        if (pid < 0 || waitpid(pid, &status, 0) < 0 || !WIFEXITED(status))
                return;
        if (!WEXITSTATUS(status))
                find(f, "user namespaces", FINE, "an ordinary user can make them");
        else
                find(f, "user namespaces", WARNING, "an ordinary user cannot make them: %s",
                     strerror(WEXITSTATUS(status)));
}

static void look_at_parts(struct findings *f)
{
        struct str bwrap = first_line(f->scope, "bwrap", "--version");
        int filter = seccomp_filter_memfd(SECCOMP_SOCKETS_OWN), abi = landlock_abi();

        look_at_user_namespaces(f);
        if (bwrap.n)
                find(f, "bubblewrap", FINE, STR_FMT, STR_ARG(bwrap));
        else
                find(f, "bubblewrap", WARNING, "not installed");
        if (abi >= LANDLOCK_SCOPED)
                find(f, "landlock", FINE, "ABI %d", abi);
        else
                find(f, "landlock", WARNING, "ABI %d; %d with namespaces, %d without are needed",
                     abi, LANDLOCK_LEAST, LANDLOCK_SCOPED);
        if (filter >= 0)
                find(f, "seccomp", FINE, "the filter of system calls can be made");
        else
                find(f, "seccomp", MISSING, "the filter of system calls cannot be made");
        if (filter >= 0)
                close(filter);
}

static void look_at_limits(struct findings *f)
{
        static const struct {
                const char *name, *otherwise;
        } limits[CGROUP_LIMITS] = {
                [CGROUP_MEMORY] = { "memory limit", "by rlimit, for each process" },
                [CGROUP_PROCESSES] = { "process limit", "by rlimit" },
                [CGROUP_CPUS] = { "processor limit", "none: --command-cpus has no effect" },
        };
        struct cgroups groups;

        cgroups_probe(&groups);
        for (int i = 0; i < CGROUP_LIMITS; i++) {
                const struct cgroup_parent *parent = cgroups_parent(&groups, i);

                if (parent)
                        find(f, limits[i].name, FINE, "by control groups, version %d, below %s",
                             parent->unified ? 2 : 1, parent->dir);
                else
                        find(f, limits[i].name, WARNING, "no control group can be written: %s",
                             limits[i].otherwise);
        }
}

/* Starts a spawner of this kind in a directory of its own: what it finds is what a server finds. */
static enum err try_sandbox(struct findings *f, const char *asked, struct str *runtime,
                            struct str *problem)
{
        const char *place = getenv("TMPDIR");
        char *home = str_c(&f->scope->arena,
                           arena_printf(&f->scope->arena, "%s/baton-doctor-XXXXXX",
                                        place && *place ? place : "/tmp"));
        struct spawner_options options = { .workspaces = home, .sandbox = asked };
        struct spawner *spawner = NULL;
        enum err e;

        if (!mkdtemp(home))
                return fail(f->scope, ERR_UNAVAILABLE, "cannot make %s: %s", home,
                            strerror(errno));
        e = spawner_start(f->scope, &options, &spawner);
        if (!e)
                e = spawner_ready(f->scope, spawner);
        if (!e) {
                *runtime = str_dup(&f->scope->arena, spawner_runtime(spawner));
                *problem = str_dup(&f->scope->arena, spawner_runtime_problem(spawner));
        }
        spawner_free(spawner);
        rmdir(home);
        return e;
}

static void look_at_runtime(struct findings *f, const char *name, const char *fine)
{
        struct str runtime, problem;
        const char *title = arena_printf(&f->scope->arena, "runtime %s", name).p;

        if (try_sandbox(f, name, &runtime, &problem))
                find(f, title, WARNING, STR_FMT, STR_ARG(f->scope->fault.detail));
        else if (str_is(runtime, "none"))
                find(f, title, WARNING, "does not work here: " STR_FMT, STR_ARG(problem));
        else
                find(f, title, FINE, "%s%s" STR_FMT, fine, problem.n ? "; not at its best: " : "",
                     STR_ARG(problem));
}

static void look_at_sandbox(struct findings *f)
{
        const char *asked = f->options->sandbox;
        struct str runtime, problem;

        look_at_parts(f);
        look_at_limits(f);
        look_at_runtime(f, "bwrap", "works");
        look_at_runtime(f, "landlock", "works");
        look_at_runtime(f, "trusted", "works: limits only, and only by name");
        if (try_sandbox(f, asked, &runtime, &problem))
                find(f, "sandbox", MISSING, STR_FMT, STR_ARG(f->scope->fault.detail));
        else if (str_is(runtime, "none"))
                find(f, "sandbox", f->options->concurrency ? MISSING : WARNING,
                     "--sandbox %s finds nothing that works, commands will be refused: " STR_FMT,
                     asked, STR_ARG(problem));
        else
                find(f, "sandbox", str_is(runtime, "trusted") ? WARNING : FINE,
                     "--sandbox %s takes " STR_FMT "%s" STR_FMT, asked, STR_ARG(runtime),
                     problem.n ? ", because what is stronger does not work: " : "",
                     STR_ARG(problem));
}

/* ---- the data directory ---- */

static void find_data(struct findings *f)
{
        char *path = str_c(&f->scope->arena, str_from(f->options->data));

        f->data = path;
        f->data_exists = access(path, F_OK) == 0;
        while (access(path, F_OK) && strrchr(path, '/') > path)
                *strrchr(path, '/') = 0;
        if (access(path, F_OK))
                f->data = *path == '/' ? "/" : ".";
}

static void look_at_data(struct findings *f)
{
        const char *wanted = f->options->data;
        struct stat st = { 0 };

        (void)stat(f->data, &st);
        if (access(f->data, W_OK | X_OK))
                find(f, "data directory", MISSING, "%s cannot be written: %s", f->data,
                     strerror(errno));
        else if (!f->data_exists)
                find(f, "data directory", FINE, "%s will be made in %s", wanted, f->data);
        else if (!S_ISDIR(st.st_mode))
                find(f, "data directory", MISSING, "%s is not a directory", wanted);
        else if (st.st_mode & 077)
                find(f, "data directory", WARNING, "%s has mode %04o: others may enter; 0700 is"
                                                   " right",
                     wanted, st.st_mode & 07777);
        else if (st.st_uid != geteuid())
                find(f, "data directory", WARNING, "%s belongs to uid %u", wanted, st.st_uid);
        else
                find(f, "data directory", FINE, "%s, mode %04o", wanted, st.st_mode & 07777);
}

static void look_at_file_system(struct findings *f)
{
        static const struct {
                long magic;
                const char *why;
        } unfit[] = { { TMPFS_MAGIC, "tmpfs: its contents end with the machine" },
                      { RAMFS_MAGIC, "ramfs: its contents end with the machine" },
                      { NFS_SUPER_MAGIC, "NFS: locks and syncs are not to be relied on" },
                      { SMB_SUPER_MAGIC, "SMB: locks and syncs are not to be relied on" },
                      { CIFS_SUPER_MAGIC, "CIFS: locks and syncs are not to be relied on" },
                      { FUSE_SUPER_MAGIC, "FUSE: whether syncs reach a disk is not known" } };
        struct statfs fs = { 0 };

        if (statfs(f->data, &fs))
                return;
        for (size_t i = 0; i < LENGTH(unfit); i++)
                if ((unsigned long)fs.f_type == (unsigned long)unfit[i].magic) {
                        find(f, "file system", WARNING, "%s", unfit[i].why);
                        return;
                }
        find(f, "file system", FINE, "%lld MiB free",
             (long long)fs.f_bavail * (long long)fs.f_bsize >> 20);
}

static int by_value(const void *a, const void *b)
{
        int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

        return (x > y) - (x < y);
}

static int64_t now_us(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Every acknowledged change waits for one of these. */
static void look_at_sync(struct findings *f)
{
        enum { ROUNDS = 15, SLOW_US = 50000 };
        static const char page[4096];
        char path[600];
        int64_t took[ROUNDS];
        int64_t median;
        int fd;

        snprintf(path, sizeof(path), "%s/.doctor-XXXXXX", f->data);
        fd = mkostemp(path, O_CLOEXEC);
        if (fd < 0) {
                find(f, "fsync", WARNING, "not tried: %s", strerror(errno));
                return;
        }
        unlink(path);
        for (int i = 0; i < ROUNDS; i++) {
                int64_t began = now_us();

                if (write(fd, page, sizeof(page)) != (ssize_t)sizeof(page) || fdatasync(fd)) {
                        find(f, "fsync", MISSING, "a write cannot be synced: %s", strerror(errno));
                        close(fd);
                        return;
                }
                took[i] = now_us() - began;
        }
        close(fd);
        qsort(took, ROUNDS, sizeof(*took), by_value);
        median = took[ROUNDS / 2];
        find(f, "fsync", median > SLOW_US ? WARNING : FINE,
             "4 KiB in %.2f ms (median of %d), worst %.2f ms", (double)median / 1000, ROUNDS,
             (double)took[ROUNDS - 1] / 1000);
}

/* ---- all of it ---- */

static void print(struct findings *f, const char *format)
{
        static const struct column columns[] = { { "CHECK", "name", SHOW_TEXT },
                                                 { "STATE", "state", SHOW_STATUS },
                                                 { "DETAIL", "detail", SHOW_FREE } };
        struct screen screen;
        size_t i;
        json_t *item;

        screen_init(&screen, f->scope, stdout, !getenv("NO_COLOR"));
        if (strcmp(format, "json") == 0) {
                json_t *all = json_pack("{s:b, s:O}", "ok", !f->missing, "checks", f->list);

                json_dumpf(all, stdout, JSON_COMPACT);
                printf("\n");
                json_decref(all);
        } else if (strcmp(format, "jsonl") == 0) {
                json_array_foreach(f->list, i, item) {
                        json_dumpf(item, stdout, JSON_COMPACT);
                        printf("\n");
                }
        } else {
                table_print(&screen, columns, LENGTH(columns), f->list);
        }
}

/* Takes -o FORMAT out of the words; what remains are options of serve. */
static enum err take_format(struct scope *scope, int *argc, char **argv, const char **format)
{
        static const char *const formats[] = { "table", "json", "jsonl" };
        int n = 0;

        *format = formats[0];
        for (int i = 0; i < *argc; i++) {
                bool is = strcmp(argv[i], "-o") == 0 || strcmp(argv[i], "--output") == 0;

                if (is && i + 1 < *argc)
                        *format = argv[++i];
                else
                        argv[n++] = argv[i];
        }
        *argc = n;
        for (size_t i = 0; i < LENGTH(formats); i++)
                if (strcmp(*format, formats[i]) == 0)
                        return ERR_OK;
        return fail_field(scope, "output", ERR_VALIDATION,
                          "--output must be table, json or jsonl, not \"%s\"", *format);
}

int doctor(int argc, char **argv)
{
        struct scope scope;
        struct options options;
        struct findings f = { .scope = &scope, .options = &options };
        const char *format;
        enum err e;

        scope_init(&scope, &system_world);
        e = take_format(&scope, &argc, argv, &format);
        if (!e)
                e = options_read(&scope, COMMAND_SERVE, argc, argv, &options);
        if (!e && !spawner_sandbox_is_known(options.sandbox))
                e = fail(&scope, ERR_VALIDATION,
                         "--sandbox must be auto, bwrap, landlock or trusted, not \"%s\"",
                         options.sandbox);
        if (e) {
                fprintf(stderr, "baton: " STR_FMT "\n", STR_ARG(scope.fault.detail));
                scope_done(&scope);
                return err_exit_status(e);
        }
        f.list = json_array();
        find_data(&f);
        look_at_system(&f);
        look_at_sandbox(&f);
        look_at_sqlite(&f);
        look_at_data(&f);
        look_at_file_system(&f);
        look_at_sync(&f);
        look_at_clock(&f);
        look_at_files(&f);
        look_at_writer(&f);
        look_at_git(&f);
        print(&f, format);
        json_decref(f.list);
        scope_done(&scope);
        return f.missing;
}
