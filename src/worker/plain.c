#include "worker/plain.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/openat2.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "worker/landlock.h"
#include "worker/seccomp.h"

#define GIT_CONFIG "gitconfig.%d" /* with the command's process id */

enum { NO_COMMAND = 127, NOT_EXECUTABLE = 126, SIGNALED = 128 };

/* ---- namespaces ---- */

void plain_isolate(const struct sandbox *box, const struct sandbox_run *run)
{
        static const char name[] = "sandbox";
        bool own_network = run->network != NETWORK_HOST;
        int flags = CLONE_NEWIPC | CLONE_NEWUTS | (own_network ? CLONE_NEWNET : 0);
        uid_t uid = getuid();
        gid_t gid = getgid();

        if (!box->namespaces)
                return;
        if (unshare(flags | (box->root ? 0 : CLONE_NEWUSER)) ||
            (!box->root && !network_map_self(uid, gid)) || sethostname(name, strlen(name)))
                wire_die(run->control, ERR_UNAVAILABLE, "cannot make namespaces: %s",
                         strerror(errno));
        if (own_network)
                network_raise_loopback();
        if (run->network == NETWORK_PROXY)
                network_offer(run->control);
}

/* What is mounted becomes read-only, but for the workspace and a place for temporary files. */
static void seal(const struct sandbox *box, const struct sandbox_run *run, const char *workspace,
                 const char *tmp)
{
        struct mount_attr closed = { .attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID };
        struct mount_attr opened = { .attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
                                     .attr_clr = MOUNT_ATTR_RDONLY };
        char options[96];

        snprintf(options, sizeof(options), "size=268435456,mode=0700,uid=%u,gid=%u",
                 box->root ? run->uid : getuid(), box->root ? run->uid : getgid());
        if (mkdir(tmp, 0755) ||
            mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &closed, sizeof(closed)) ||
            (run->workspace && mount_setattr(AT_FDCWD, workspace, 0, &opened, sizeof(opened))) ||
            mount("tmpfs", tmp, "tmpfs", MS_NOSUID | MS_NODEV, options))
                wire_die(run->control, ERR_UNAVAILABLE, "cannot close the mounts: %s",
                         strerror(errno));
}

/* ---- the command's own process ---- */

static void give_up_privileges(const struct sandbox *box, const struct sandbox_run *run)
{
        struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct none[2] = { 0 };

        sandbox_change_uid(box, run->uid, run->control);
        /* Not dumpable: what was forked from the spawner still holds its environment. */
        if (syscall(SYS_capset, &header, none) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
            prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
                wire_die(run->control, ERR_UNAVAILABLE, "cannot give up privileges: %s",
                         strerror(errno));
}

static void enter_directory(const struct sandbox_run *run, const char *workspace)
{
        const char *below = run->cwd + strlen(SANDBOX_WORKSPACE);
        struct open_how how = { .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                                .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS };
        int root = open(*workspace ? workspace : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        int fd = (int)syscall(SYS_openat2, root, *below ? below + 1 : ".", &how, sizeof(how));

        if (root < 0 || fd < 0 || fchdir(fd))
                wire_die(run->control, ERR_VALIDATION, "there is no directory %s in the workspace",
                         *below ? below + 1 : ".");
        close(fd);
        close(root);
}

/* The checkout has the name that it has under bubblewrap; it belongs to somebody else, which git
 * refuses unless told, in a file, for its own helpers drop what the environment says. */
static void configure_git(const char *tmp, const char *source)
{
        char path[PATH_MAX + 64];
        FILE *file;

        snprintf(path, sizeof(path), "%s/" GIT_CONFIG, tmp, (int)getpid());
        file = fopen(path, "we");
        if (!file)
                return;
        fprintf(file,
                "[safe]\n\tdirectory = \"%s\"\n\tdirectory = \"%s/.git\"\n"
                "[url \"file://%s\"]\n\tinsteadOf = file://" SANDBOX_SOURCE "\n",
                source, source, source);
        fclose(file);
        setenv("GIT_CONFIG_GLOBAL", path, 1);
}

static void set_environment(const struct sandbox_run *run, const char *tmp, const char *source)
{
        clearenv();
        setenv("PATH", "/usr/bin:/bin", 1);
        setenv("HOME", tmp, 1);
        setenv("TMPDIR", tmp, 1);
        setenv("LANG", "C.UTF-8", 1);
        setenv("GIT_CONFIG_NOSYSTEM", "1", 1); /* could not be read, which stops git */
        if (*source)
                configure_git(tmp, source);
        for (char *const *env = run->env; env && *env; env++)
                putenv(*env);
}

static void place_descriptors(const struct sandbox_run *run)
{
        int fds[3] = { open("/dev/null", O_RDONLY | O_CLOEXEC), run->out, run->err };

        for (int i = 0; i < 3; i++)
                fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
        for (int i = 0; i < 3; i++)
                if (fds[i] < 0 || dup2(fds[i], i) < 0)
                        _exit(1);
        (void)close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
}

static void restrict_self(const struct sandbox *box, const struct sandbox_run *run,
                          const char *workspace, const char *tmp, const char *source)
{
        const struct landlock_place places[] = {
                { "/usr", LANDLOCK_READ },
                { "/bin", LANDLOCK_READ },
                { "/sbin", LANDLOCK_READ },
                { "/lib", LANDLOCK_READ },
                { "/lib64", LANDLOCK_READ },
                { "/etc/ld.so.cache", LANDLOCK_READ },
                { "/etc/alternatives", LANDLOCK_READ },
                { "/etc/ssl", LANDLOCK_READ },
                { "/dev/null", LANDLOCK_DEVICE },
                { "/dev/zero", LANDLOCK_DEVICE },
                { "/dev/full", LANDLOCK_DEVICE },
                { "/dev/random", LANDLOCK_DEVICE },
                { "/dev/urandom", LANDLOCK_DEVICE },
                { box->namespaces ? "/proc" : NULL, LANDLOCK_READ },
                { *source ? source : NULL, LANDLOCK_READ },
                { tmp, LANDLOCK_WRITE },
                { *workspace ? workspace : NULL, LANDLOCK_WRITE },
        };

        if (!landlock_apply(box->landlock, places, LENGTH(places)))
                wire_die(run->control, ERR_UNAVAILABLE, "Landlock: %s", strerror(errno));
        if (!seccomp_apply(box->filter))
                wire_die(run->control, ERR_UNAVAILABLE, "system call filter: %s", strerror(errno));
}

static void become_command(const struct sandbox *box, const struct sandbox_run *run,
                           const char *workspace, const char *tmp, const char *source,
                           pid_t parent) NORETURN;
static void become_command(const struct sandbox *box, const struct sandbox_run *run,
                           const char *workspace, const char *tmp, const char *source,
                           pid_t parent)
{
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent || setsid() < 0)
                _exit(1);
        umask(022);
        if (!box->namespaces)
                (void)mkdir(tmp, 0700);
        enter_directory(run, workspace);
        sandbox_limit(box, run);
        if (box->runtime == RUNTIME_LANDLOCK)
                restrict_self(box, run, workspace, tmp, source);
        set_environment(run, tmp, source);
        place_descriptors(run);
        execvp(run->argv[0], run->argv);
        dprintf(STDERR_FILENO, "%s: %s\n", run->argv[0], strerror(errno));
        _exit(errno == ENOENT ? NO_COMMAND : NOT_EXECUTABLE);
}

/* ---- the supervisor ---- */

/* Reaps everything until the command ends; its exit code as a shell tells it. */
static int wait_for(pid_t command)
{
        int status = 0;
        pid_t pid;

        while ((pid = wait(&status)) != command)
                if (pid < 0 && errno != EINTR)
                        _exit(1);
        return WIFSIGNALED(status) ? SIGNALED + WTERMSIG(status) : WEXITSTATUS(status);
}

static void tell(const struct sandbox_run *run, const char *name, int number)
{
        dprintf(run->status, "{ \"%s\": %d }\n", name, number);
}

/* Process 1 of the namespace: with its end the kernel ends everything in it. */
static void be_first(const struct sandbox *box, const struct sandbox_run *run,
                     const char *workspace, const char *tmp, const char *source,
                     int above) NORETURN;
static void be_first(const struct sandbox *box, const struct sandbox_run *run,
                     const char *workspace, const char *tmp, const char *source, int above)
{
        struct pollfd gone = { .fd = above };
        pid_t self = getpid(), command;

        /* Its processes only; hidden is what the command may not trace, which includes us. */
        if (mount("proc", "/proc", "proc", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
                  "hidepid=invisible"))
                wire_die(run->control, ERR_UNAVAILABLE, "cannot mount /proc: %s", strerror(errno));
        give_up_privileges(box, run);
        /* Or the one above died before we could ask to die with it. */
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) || poll(&gone, 1, 0) != 0)
                _exit(1);
        command = fork();
        if (!command)
                become_command(box, run, workspace, tmp, source, self);
        _exit(command < 0 ? 1 : wait_for(command));
}

static int supervise_namespace(const struct sandbox *box, const struct sandbox_run *run,
                               const char *workspace, const char *tmp, const char *source)
{
        int alive[2], status;
        pid_t first;

        seal(box, run, workspace, tmp);
        /* Only now: whatever is forked next is process 1, with whose end the namespace is dead. */
        if (unshare(CLONE_NEWPID))
                wire_die(run->control, ERR_UNAVAILABLE, "cannot make namespaces: %s",
                         strerror(errno));
        if (pipe2(alive, O_CLOEXEC) || (first = fork()) < 0)
                wire_die(run->control, ERR_UNAVAILABLE, "cannot start a process: %s",
                         strerror(errno));
        if (!first) {
                close(alive[1]);
                be_first(box, run, workspace, tmp, source, alive[0]);
        }
        close(alive[0]);
        tell(run, "child-pid", first);
        give_up_privileges(box, run);
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != run->parent)
                _exit(1);
        while (waitpid(first, &status, 0) < 0)
                if (errno != EINTR)
                        _exit(1);
        if (WIFSIGNALED(status))
                _exit(1);
        return WEXITSTATUS(status);
}

/* What the command leaves behind comes to the spawner when we end, which kills it. */
static int supervise_bare(const struct sandbox *box, const struct sandbox_run *run,
                          const char *workspace, const char *tmp, const char *source)
{
        pid_t self = getpid(), command;
        char git_config[64];
        int code, dir;

        give_up_privileges(box, run);
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) || prctl(PR_SET_CHILD_SUBREAPER, 1) ||
            getppid() != run->parent)
                _exit(1);
        command = fork();
        if (!command)
                become_command(box, run, workspace, tmp, source, self);
        if (command < 0)
                wire_die(run->control, ERR_UNAVAILABLE, "cannot start a process: %s",
                         strerror(errno));
        code = wait_for(command);
        snprintf(git_config, sizeof(git_config), GIT_CONFIG, (int)command);
        dir = open(tmp, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (dir >= 0)
                (void)unlinkat(dir, git_config, 0);
        return code;
}

void plain_exec(const struct sandbox *box, const struct sandbox_run *run, const char *workspace,
                const char *source)
{
        char tmp[PATH_MAX + 8];
        int code;

        if (run->network != NETWORK_NONE && box->runtime == RUNTIME_LANDLOCK && !box->namespaces)
                wire_die(run->control, ERR_UNAVAILABLE,
                         "Landlock without namespaces has no network to give; use bubblewrap");
        snprintf(tmp, sizeof(tmp), "%s", box->namespaces ? "/tmp/tmp" : "/nonexistent");
        if (!box->namespaces && *workspace)
                snprintf(tmp, sizeof(tmp), "%s/.tmp", workspace);
        code = (box->namespaces ? supervise_namespace : supervise_bare)(box, run, workspace, tmp,
                                                                        source);
        tell(run, "exit-code", code);
        _exit(0);
}
