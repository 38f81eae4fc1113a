#include "worker/sandbox.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/close_range.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "worker/landlock.h"
#include "worker/plain.h"
#include "worker/seccomp.h"

/* Descriptors that bubblewrap gets; it closes them before the command runs. */
enum { FD_ARGS = 3, FD_FILTER, FD_STATUS, FD_PASSWD, FD_GROUP, FD_HOSTS, FD_GIT, FD_END };
/* Ours are moved above this while those are put in place. */
enum { FD_ASIDE = 64 };

/* Where our own mount namespace shows the two directories that may lie below closed parents. */
#define STAGE           "/tmp"
#define STAGE_WORKSPACE STAGE "/workspace"
#define STAGE_SOURCE    STAGE "/source"

#define GIT_CONFIG "/etc/gitconfig.source"

enum { NOFILE_SOFT = 1024, NOFILE_HARD = 4096 };
/* Around bubblewrap; what it runs has a tighter bound. */
enum { FOREIGN_PROCESSES = 4096 };

const char *const runtime_names[RUNTIMES] = { "none", "bwrap", "landlock", "trusted" };

static const struct kind {
        enum runtime runtime;
        bool namespaces, by_name_only;
        enum seccomp_sockets sockets;
} kinds[] = {
        { RUNTIME_BWRAP, true, false, SECCOMP_SOCKETS_OWN },
        { RUNTIME_LANDLOCK, true, false, SECCOMP_SOCKETS_IP },
        { RUNTIME_LANDLOCK, false, true, SECCOMP_SOCKETS_NONE },
        { RUNTIME_TRUSTED, false, true, SECCOMP_SOCKETS_NONE },
};

static bool serves(const struct kind *kind, const char *asked)
{
        return strcmp(asked, "auto") ? !strcmp(asked, runtime_names[kind->runtime]) :
                                       !kind->by_name_only;
}

bool sandbox_asked_is_known(const char *asked)
{
        for (unsigned i = 0; i < LENGTH(kinds); i++)
                if (serves(&kinds[i], asked))
                        return true;
        return false;
}

bool sandbox_kind(struct sandbox *box, const char *asked, unsigned i)
{
        for (const struct kind *kind = kinds; kind < kinds + LENGTH(kinds); kind++) {
                if (!serves(kind, asked) || i--)
                        continue;
                if (box->filter >= 0)
                        close(box->filter);
                box->runtime = kind->runtime;
                box->namespaces = kind->namespaces;
                box->landlock = kind->runtime == RUNTIME_LANDLOCK ? landlock_abi() : 0;
                box->filter = seccomp_filter_memfd(kind->sockets);
                return true;
        }
        return false;
}

/* clang-format off */
static const char *const fixed_args[] = {
        /* The program files of the host, nothing else of it. */
        "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink", "usr/sbin",
        "/sbin", "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64",
        "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache",
        "--ro-bind-try", "/etc/alternatives", "/etc/alternatives",
        "--ro-bind-try", "/etc/ssl", "/etc/ssl",
        "--ro-bind-data", "6", "/etc/passwd", "--ro-bind-data", "7", "/etc/group",
        "--ro-bind-data", "8", "/etc/hosts",
        "--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys",
        "--dev", "/dev", "--size", "67108864", "--tmpfs", "/dev/shm",
        "--size", "268435456", "--tmpfs", "/tmp", "--size", "16777216", "--tmpfs", "/run",
        "--size", "16777216", "--tmpfs", "/home/agent",
        "--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-uts",
        "--unshare-cgroup-try", "--uid", "1000", "--gid", "1000", "--hostname", "sandbox",
        "--disable-userns", "--cap-drop", "ALL", "--new-session", "--die-with-parent",
        "--seccomp", "4", "--json-status-fd", "5",
        "--clearenv", "--setenv", "PATH", "/usr/bin:/bin", "--setenv", "HOME", "/home/agent",
        "--setenv", "LANG", "C.UTF-8",
};
/* clang-format on */
static_assert(FD_PASSWD == 6 && FD_GROUP == 7 && FD_HOSTS == 8 && FD_FILTER == 4 && FD_STATUS == 5,
              "the numbers are spelled out in the arguments");

static const char passwd[] = "root:x:0:0:root:/root:/usr/sbin/nologin\n"
                             "agent:x:1000:1000:agent:/home/agent:/bin/sh\n"
                             "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
static const char group[] = "root:x:0:\nagent:x:1000:\nnogroup:x:65534:\n";
static const char hosts[] = "127.0.0.1 localhost sandbox\n::1 localhost\n";
/* The checkout belongs to somebody else, which git refuses unless told. */
static const char git_config[] = "[safe]\n"
                                 "\tdirectory = " SANDBOX_SOURCE "\n"
                                 "\tdirectory = " SANDBOX_SOURCE "/.git\n";

bool sandbox_uid_allowed(const struct sandbox *box, uint32_t uid)
{
        return !box->root || (uid >= box->first_uid && uid != box->server_uid &&
                              uid != box->server_gid && uid < UINT32_MAX);
}

void sandbox_change_uid(const struct sandbox *box, uint32_t uid, int control)
{
        if (!box->root)
                return;
        if (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid) ||
            getuid() != uid || geteuid() != uid)
                wire_die(control, ERR_UNAVAILABLE, "cannot change to uid %u: %s", uid,
                         strerror(errno));
}

int sandbox_open_workspaces(const struct sandbox *box, int control)
{
        int fd = open(box->workspaces, O_PATH | O_DIRECTORY | O_CLOEXEC);
        struct stat st;

        if (fd < 0 || fstat(fd, &st))
                wire_die(control, ERR_UNAVAILABLE, "directory of workspaces %s: %s",
                         box->workspaces, strerror(errno));
        if (st.st_dev != box->device || st.st_ino != box->inode)
                wire_die(control, ERR_UNAVAILABLE,
                         "the directory of workspaces %s has been replaced", box->workspaces);
        return fd;
}

int sandbox_open_workspace(const struct sandbox *box, const char *workspace, uint32_t uid,
                           int control)
{
        int above = sandbox_open_workspaces(box, control);
        struct stat st;
        int fd = openat(above, workspace, O_PATH | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0 && errno == ENOENT)
                wire_die(control, ERR_NOT_FOUND, "workspace %s has no directory", workspace);
        if (fd < 0 || fstat(fd, &st))
                wire_die(control, ERR_UNAVAILABLE, "directory of workspace %s: %s", workspace,
                         strerror(errno));
        if (st.st_uid != (box->root ? uid : getuid()))
                wire_die(control, ERR_UNAVAILABLE,
                         "the directory of workspace %s belongs to uid %u, not to %u", workspace,
                         st.st_uid, box->root ? uid : getuid());
        close(above);
        return fd;
}

/* Is path the root itself or below it?  Both are absolute and resolved. */
static bool lies_below(const char *path, const char *root)
{
        size_t n = strlen(root);

        return n == 1 || (!strncmp(path, root, n) && (!path[n] || path[n] == '/'));
}

static void resolve_source(const struct sandbox *box, const char *source, int control,
                           char resolved[PATH_MAX])
{
        char root[PATH_MAX];

        if (source[0] != '/')
                wire_die(control, ERR_VALIDATION,
                         "git source %s is not an absolute path of this machine", source);
        if (!realpath(source, resolved))
                wire_die(control, ERR_VALIDATION, "git source %s: %s", source, strerror(errno));
        for (const char *const *at = box->git_roots; at && *at; at++)
                if (realpath(*at, root) && lies_below(resolved, root))
                        return;
        wire_die(control, ERR_VALIDATION,
                 "git source %s lies below none of the directories that git may read here", source);
}

/* Without following a link: what was compared with the roots is what is opened. */
static int open_resolved(const char *path, int control)
{
        struct open_how how = { .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                                .resolve = RESOLVE_NO_SYMLINKS };
        int fd = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));

        if (fd < 0)
                wire_die(control, ERR_VALIDATION, "git source %s: %s", path, strerror(errno));
        return fd;
}

static bool write_map(pid_t pid, const char *name, unsigned inside, unsigned outside)
{
        char path[64], line[64];
        ssize_t written;
        int fd, n;

        snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
        n = snprintf(line, sizeof(line), "%u %u 1\n", inside, outside);
        fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0)
                return false;
        written = write(fd, line, (size_t)n);
        close(fd);
        return written == n;
}

/* A user namespace that says: what belongs to the owner belongs to the workspace's uid; or -1. */
static int owner_map(const struct stat *owner, uint32_t uid)
{
        struct clone_args how = { .flags = CLONE_NEWUSER, .exit_signal = SIGCHLD };
        pid_t pid = (pid_t)syscall(SYS_clone3, &how, sizeof(how));
        char path[64];
        int fd = -1;

        if (!pid) {
                (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
                for (;;)
                        pause();
        }
        if (pid < 0)
                return -1;
        snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
        if (write_map(pid, "uid_map", owner->st_uid, uid) &&
            write_map(pid, "gid_map", owner->st_gid, uid))
                fd = open(path, O_RDONLY | O_CLOEXEC);
        kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
        return fd;
}

/*
 * Shows a directory with its owner's files as the workspace's own, so that private ones can be read
 * and git finds nothing foreign.  Where the kernel or the file system cannot, the modes decide.
 */
static bool show_as_own(int fd, const char *place, uint32_t uid)
{
        struct mount_attr attr = { .attr_set = MOUNT_ATTR_IDMAP | MOUNT_ATTR_RDONLY |
                                               MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV };
        struct stat owner;
        bool shown = false;
        int map, tree;

        if (fstat(fd, &owner) || owner.st_uid == uid)
                return false;
        map = owner_map(&owner, uid);
        tree = open_tree(fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
        if (map >= 0 && tree >= 0 && !(mkdir(place, 0755) && errno != EEXIST)) {
                attr.userns_fd = (uint64_t)map;
                shown = !mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) &&
                        !move_mount(tree, "", AT_FDCWD, place, MOVE_MOUNT_F_EMPTY_PATH);
        }
        if (map >= 0)
                close(map);
        if (tree >= 0)
                close(tree);
        return shown;
}

static void show(int fd, const char *place, int control)
{
        char from[64];

        snprintf(from, sizeof(from), "/proc/self/fd/%d", fd);
        if ((mkdir(place, 0755) && errno != EEXIST) || mount(from, place, NULL, MS_BIND, NULL))
                wire_die(control, ERR_UNAVAILABLE, "cannot mount at %s: %s", place,
                         strerror(errno));
}

/*
 * Where we may: a mount namespace of our own, in which the workspace and the source appear where the
 * workspace's uid can reach them, whatever the modes of the directories above them.
 */
static void stage(const struct sandbox *box, const struct sandbox_run *run, char source[PATH_MAX],
                  char workspace[PATH_MAX])
{
        int workspace_fd = -1, source_fd = -1;

        if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL))
                wire_die(run->control, ERR_UNAVAILABLE, "cannot make a mount namespace: %s",
                         strerror(errno));
        if (run->workspace)
                workspace_fd = sandbox_open_workspace(box, run->workspace, run->uid, run->control);
        if (run->git_source)
                source_fd = open_resolved(source, run->control);
        if (mount("tmpfs", STAGE, "tmpfs", MS_NOSUID | MS_NODEV, "size=64k,mode=0755"))
                wire_die(run->control, ERR_UNAVAILABLE, "cannot mount a tmpfs: %s",
                         strerror(errno));
        if (workspace_fd >= 0) {
                show(workspace_fd, STAGE_WORKSPACE, run->control);
                close(workspace_fd);
        } else if (mkdir(STAGE_WORKSPACE, 0755) || chmod(STAGE_WORKSPACE, 0755)) {
                wire_die(run->control, ERR_UNAVAILABLE, "mkdir: %s", strerror(errno));
        }
        strcpy(workspace, STAGE_WORKSPACE);
        if (source_fd >= 0) {
                if (!box->root || !show_as_own(source_fd, STAGE_SOURCE, run->uid))
                        show(source_fd, STAGE_SOURCE, run->control);
                close(source_fd);
                strcpy(source, STAGE_SOURCE);
        }
}

static void arg(struct buf *args, const char *text)
{
        buf_bytes(args, text, strlen(text) + 1);
}

static void arg3(struct buf *args, const char *option, const char *from, const char *to)
{
        arg(args, option);
        arg(args, from);
        arg(args, to);
}

static void variables(struct buf *args, char *const *env)
{
        for (; env && *env; env++) {
                const char *equals = strchr(*env, '=');

                arg(args, "--setenv");
                buf_bytes(args, *env, (size_t)(equals - *env));
                buf_char(args, 0);
                arg(args, equals + 1);
        }
}

static int data_fd(const void *bytes, size_t n, int control)
{
        int fd = memfd_create("sandbox", MFD_CLOEXEC);

        if (fd < 0 || write(fd, bytes, n) != (ssize_t)n || lseek(fd, 0, SEEK_SET))
                wire_die(control, ERR_UNAVAILABLE, "memfd: %s", strerror(errno));
        return fd;
}

static int text_fd(const char *text, int control)
{
        return data_fd(text, strlen(text), control);
}

static int arguments_fd(const struct sandbox_run *run, const char *workspace, const char *source)
{
        struct buf args = BUF_INIT(WIRE_BODY_MAX);
        int fd;

        for (unsigned i = 0; i < LENGTH(fixed_args); i++)
                arg(&args, fixed_args[i]);
        if (run->network == NETWORK_NONE)
                arg(&args, "--unshare-net");
        if (run->git_source) {
                arg3(&args, "--ro-bind", source, SANDBOX_SOURCE);
                arg3(&args, "--ro-bind-data", "9", GIT_CONFIG);
                arg3(&args, "--setenv", "GIT_CONFIG_GLOBAL", GIT_CONFIG);
        }
        variables(&args, run->env);
        if (run->workspace) {
                arg3(&args, "--bind", workspace, SANDBOX_WORKSPACE);
        } else {
                arg3(&args, "--size", "1048576", "--tmpfs");
                arg(&args, SANDBOX_WORKSPACE);
        }
        arg(&args, "--chdir");
        arg(&args, run->cwd);
        /* Last, when every place to mount on has been made. */
        arg3(&args, "--remount-ro", "/dev", "--remount-ro");
        arg(&args, "/");
        fd = data_fd(args.p, args.n, run->control);
        buf_done(&args);
        return fd;
}

/* A descriptor of its own position: all runs read the same filter. */
static int reopen(int fd, int control)
{
        char path[64];
        int fresh;

        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        fresh = open(path, O_RDONLY | O_CLOEXEC);
        if (fresh < 0)
                wire_die(control, ERR_UNAVAILABLE, "system call filter: %s", strerror(errno));
        return fresh;
}

/* Puts the wanted descriptors in place and marks every other one; returns the control socket. */
static int place_fds(const struct sandbox *box, const struct sandbox_run *run, int args)
{
        int wanted[FD_END] = {
                [0] = open("/dev/null", O_RDONLY | O_CLOEXEC),
                [1] = run->out,
                [2] = run->err,
                [FD_ARGS] = args,
                [FD_FILTER] = reopen(box->filter, run->control),
                [FD_STATUS] = run->status,
                [FD_PASSWD] = text_fd(passwd, run->control),
                [FD_GROUP] = text_fd(group, run->control),
                [FD_HOSTS] = text_fd(hosts, run->control),
                [FD_GIT] = run->git_source ? text_fd(git_config, run->control) : -1,
        };
        int control = fcntl(run->control, F_DUPFD_CLOEXEC, FD_ASIDE);

        if (control < 0)
                wire_die(run->control, ERR_UNAVAILABLE, "descriptors: %s", strerror(errno));
        for (int i = 0; i < FD_END; i++)
                if (wanted[i] >= 0)
                        wanted[i] = fcntl(wanted[i], F_DUPFD_CLOEXEC, FD_ASIDE);
        (void)close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
        for (int i = 0; i < FD_END; i++) {
                if (wanted[i] < 0 && i == FD_GIT)
                        continue;
                if (wanted[i] < 0 || dup2(wanted[i], i) < 0)
                        wire_die(control, ERR_UNAVAILABLE, "descriptors: %s", strerror(errno));
        }
        return control;
}

static void limit(int what, int64_t soft, int64_t hard)
{
        struct rlimit now, wanted = { (rlim_t)soft, (rlim_t)hard };

        if (getrlimit((__rlimit_resource_t)what, &now))
                return;
        if (wanted.rlim_max > now.rlim_max)
                wanted.rlim_max = now.rlim_max;
        if (wanted.rlim_cur > wanted.rlim_max)
                wanted.rlim_cur = wanted.rlim_max;
        (void)setrlimit((__rlimit_resource_t)what, &wanted);
}

/* Processes and threads that this user has now. */
static int64_t running_of_user(void)
{
        DIR *list = opendir("/proc");
        struct dirent *entry;
        char path[300];
        struct stat st;
        int64_t n = 0;

        while (list && (entry = readdir(list))) {
                snprintf(path, sizeof(path), "/proc/%s/task", entry->d_name);
                if (!stat(path, &st) && st.st_uid == getuid())
                        n += (int64_t)st.st_nlink - 2;
        }
        if (list)
                closedir(list);
        return n;
}

/* RLIMIT_NPROC counts everything of a user, but in a user namespace only what is in it: with neither
 * a uid nor a namespace of our own, what there is comes on top. */
static int64_t room_for_others(const struct sandbox *box, const struct sandbox_run *run)
{
        if (run->processes_grouped)
                return FOREIGN_PROCESSES; /* the group shall be what refuses, and count it */
        if (box->root || (box->namespaces && box->runtime != RUNTIME_BWRAP))
                return 0;
        return box->runtime == RUNTIME_BWRAP ? FOREIGN_PROCESSES : running_of_user();
}

void sandbox_limit(const struct sandbox *box, const struct sandbox_run *run)
{
        int64_t processes = run->process_cap + room_for_others(box, run);

        limit(RLIMIT_CORE, 0, 0);
        limit(RLIMIT_NICE, 0, 0); /* that the server has it is for its writer */
        limit(RLIMIT_NOFILE, NOFILE_SOFT, NOFILE_HARD);
        limit(RLIMIT_FSIZE, run->file_size_cap, run->file_size_cap);
        limit(RLIMIT_NPROC, processes, processes);
        if (run->memory_cap > 0)
                limit(RLIMIT_DATA, run->memory_cap, run->memory_cap);
}

/* Bubblewrap around the command.  Without a uid of our own or a control group the processes are
 * bounded from inside, where only those of the sandbox count. */
static char **command(const struct sandbox *box, const struct sandbox_run *run)
{
        static const char *const words[] = { "bwrap", "--args", "3", "--", "prlimit", NULL, "--" };
        size_t n = 0, n_words = box->root || run->processes_grouped ? 4 : LENGTH(words);
        char **argv, *bound;

        while (run->argv[n])
                n++;
        argv = xcalloc(n + LENGTH(words) + 1, sizeof(*argv));
        for (size_t i = 0; i < n_words; i++)
                argv[i] = (char *)(uintptr_t)words[i];
        if (n_words > 5) {
                if (asprintf(&bound, "--nproc=%lld", (long long)run->process_cap) < 0)
                        _exit(1);
                argv[5] = bound;
        }
        memcpy(argv + n_words, run->argv, n * sizeof(*argv));
        return argv;
}

/* What the runtime needs and this machine may lack. */
static void check_kind(const struct sandbox *box, int control)
{
        if (box->runtime == RUNTIME_BWRAP && !box->bwrap)
                wire_die(control, ERR_UNAVAILABLE, "bubblewrap (bwrap) is not installed");
        if (box->filter < 0)
                wire_die(control, ERR_UNAVAILABLE, "the system call filter cannot be made");
        if (box->runtime == RUNTIME_LANDLOCK && box->landlock < LANDLOCK_LEAST)
                wire_die(control, ERR_UNAVAILABLE,
                         "this kernel has Landlock ABI %d, %d is needed", box->landlock,
                         LANDLOCK_LEAST);
        if (box->runtime == RUNTIME_LANDLOCK && !box->namespaces && box->landlock < LANDLOCK_SCOPED)
                wire_die(control, ERR_UNAVAILABLE,
                         "without namespaces Landlock ABI %d is needed, this kernel has %d",
                         LANDLOCK_SCOPED, box->landlock);
}

/* Bubblewrap finds itself in a network that it has no power over. */
static void offer_network(const struct sandbox *box, const struct sandbox_run *run)
{
        network_leave(box->root, run->control);
        network_offer(run->control);
}

void sandbox_exec(const struct sandbox *box, const struct sandbox_run *run)
{
        static char path_variable[] = "PATH=/usr/bin:/bin";
        char *const env[] = { path_variable, NULL };
        char workspace[PATH_MAX] = "", source[PATH_MAX] = "";
        bool plain = box->runtime != RUNTIME_BWRAP;
        char **argv;
        int control;

        check_kind(box, run->control);
        if (run->git_source)
                resolve_source(box, run->git_source, run->control, source);
        if (plain)
                plain_isolate(box, run);
        else if (run->network == NETWORK_PROXY)
                offer_network(box, run);
        if (box->root || (plain && box->namespaces)) {
                stage(box, run, source, workspace);
        } else if (run->workspace) {
                close(sandbox_open_workspace(box, run->workspace, run->uid, run->control));
                snprintf(workspace, sizeof(workspace), "%s/%s", box->workspaces, run->workspace);
        }
        if (plain)
                plain_exec(box, run, workspace, source);
        argv = command(box, run);
        control = place_fds(box, run, arguments_fd(run, workspace, source));
        umask(022);
        sandbox_limit(box, run);
        sandbox_change_uid(box, run->uid, control);
        /* After the change of uid, which clears it. */
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_PDEATHSIG, SIGKILL))
                wire_die(control, ERR_UNAVAILABLE, "prctl: %s", strerror(errno));
        if (getppid() != run->parent)
                _exit(1);
        execve(box->bwrap, argv, env);
        wire_die(control, ERR_UNAVAILABLE, "cannot execute %s: %s", box->bwrap, strerror(errno));
}
