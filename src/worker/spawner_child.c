#include "worker/spawner_child.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/failpoint.h"
#include "worker/cgroup.h"
#include "worker/files_child.h"
#include "worker/strays.h"
#include "worker/trial.h"

/* One request that a child process works on. */
struct job {
        struct job *next;
        int control;
        int status_fd;    /* what bubblewrap tells; -1 for a helper */
        pid_t pid;        /* bubblewrap or the helper; 0 once reaped */
        pid_t inner;      /* process 1 of the sandbox, ours after bubblewrap is gone; 0 = not */
        bool inner_known; /* inner has been told, whether or not it lives */
        int status;
        char told[1024];
        size_t n_told;
        struct cgroup group; /* when grouped */
        bool grouped;
};

/* A group that is to be removed. */
struct leftover {
        struct leftover *next;
        struct cgroup group;
};

/*
 * A process that stands ready in a group of its own and becomes the next run.  Entering a group
 * makes the kernel wait for all processors, often ten milliseconds: nobody shall wait for that.
 */
struct spare {
        pid_t pid; /* 0 = there is none */
        int socket;
        struct cgroup group;
};

struct child {
        struct sandbox *box;
        struct spare spare;
        int socket, signals, epoll;
        struct job *jobs;
        struct leftover *leftovers;
        int n_leftovers;
        struct cgroups groups;
};

enum { LEFTOVERS_MAX = 64, LEFTOVER_MS = 20, SPARE_MS = 1, GRACE_S = 5 };

static void watch(struct child *c, int fd, void *tag)
{
        struct epoll_event event = { .events = EPOLLIN | EPOLLRDHUP, .data.ptr = tag };

        BUG_ON(epoll_ctl(c->epoll, EPOLL_CTL_ADD, fd, &event));
}

/* ---- what bubblewrap tells ---- */

static bool told_number(const struct job *job, const char *name, long *value)
{
        const char *at = strstr(job->told, name);

        if (!at)
                return false;
        at += strlen(name);
        at += strspn(at, " :");
        *value = strtol(at, NULL, 10);
        return true;
}

static void read_status(struct job *job)
{
        long pid;

        while (job->status_fd >= 0 && job->n_told < sizeof(job->told) - 1) {
                ssize_t n = read(job->status_fd, job->told + job->n_told,
                                 sizeof(job->told) - 1 - job->n_told);

                if (n <= 0)
                        break;
                job->n_told += (size_t)n;
                job->told[job->n_told] = 0;
        }
        if (!job->inner_known && told_number(job, "\"child-pid\"", &pid) && pid > 1) {
                job->inner = (pid_t)pid;
                job->inner_known = true;
        }
}

/* ---- ending ---- */

/* Later, when there is time: while a spare enters its group the kernel lets nobody remove one. */
static void remove_group(struct child *c, const struct cgroup *group)
{
        struct leftover *left = xcalloc(1, sizeof(*left));

        left->group = *group;
        left->next = c->leftovers;
        c->leftovers = left;
        c->n_leftovers++;
}

static void remove_leftovers(struct child *c)
{
        struct leftover **at = &c->leftovers;

        while (*at) {
                struct leftover *left = *at;

                if (cgroup_remove(&left->group)) {
                        *at = left->next;
                        free(left);
                        c->n_leftovers--;
                } else {
                        at = &left->next;
                }
        }
}

static void finish(struct child *c, struct job *job)
{
        struct wire_reply reply = { .kind = WIRE_DONE, .status = job->status, .exit_code = -1 };
        struct job **at = &c->jobs;
        long code;

        if (told_number(job, "\"exit-code\"", &code))
                reply.exit_code = (int32_t)code;
        if (job->grouped) {
                for (int what = 0; what < CGROUP_LIMITS; what++) {
                        reply.bounds[what] = job->group.bounds[what];
                        reply.hit[what] = cgroup_hit(&c->groups, &job->group, what);
                }
                remove_group(c, &job->group);
        }
        failpoint_pass(FAILPOINT_SPAWN_REAPED);
        (void)wire_send(job->control, &reply, sizeof(reply), NULL, 0);
        /* By hand: a child that was forked meanwhile may hold the socket open a moment longer. */
        (void)epoll_ctl(c->epoll, EPOLL_CTL_DEL, job->control, NULL);
        close(job->control);
        if (job->status_fd >= 0)
                close(job->status_fd);
        while (*at != job)
                at = &(*at)->next;
        *at = job->next;
        free(job);
}

static void kill_job(const struct job *job)
{
        if (job->pid)
                kill(job->pid, SIGKILL);
        else if (job->inner)
                kill(job->inner, SIGKILL);
}

/* Is pid a child of ours, dead or alive?  Only then its number cannot mean somebody else. */
static bool is_ours(pid_t pid)
{
        siginfo_t info;

        return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

static bool is_of_a_job(const void *child, pid_t pid)
{
        const struct child *c = child;

        for (const struct job *job = c->jobs; job; job = job->next)
                if (job->pid == pid || job->inner == pid)
                        return true;
        return c->spare.pid == pid;
}

/* Every child that belongs to no job is what a run left behind. */
static bool kill_strays(const struct child *c)
{
        return strays_kill(is_of_a_job, c);
}

static void drop_spare(struct child *c)
{
        close(c->spare.socket);
        remove_group(c, &c->spare.group);
        c->spare.pid = 0;
}

static void reaped(struct child *c, pid_t pid, int status)
{
        if (pid == c->spare.pid) {
                drop_spare(c);
                return;
        }
        for (struct job *job = c->jobs; job; job = job->next) {
                if (job->pid == pid) {
                        job->pid = 0;
                        job->status = status;
                        read_status(job);
                        if (job->status_fd >= 0 && !job->inner_known)
                                (void)kill_strays(c);
                        /* Killing bubblewrap kills its process 1; this makes sure. */
                        if (job->inner && is_ours(job->inner))
                                kill(job->inner, SIGKILL);
                        else
                                job->inner = 0;
                } else if (job->inner == pid) {
                        job->inner = 0;
                } else {
                        continue;
                }
                /* Without a namespace there may be more, which the last of it brings down. */
                if (!job->pid && !job->inner &&
                    (c->box->namespaces || job->status_fd < 0 || !kill_strays(c)))
                        finish(c, job);
                return;
        }
}

static struct job *ended_job(const struct child *c)
{
        for (struct job *job = c->jobs; job; job = job->next)
                if (!job->pid && !job->inner)
                        return job;
        return NULL;
}

/* Runs whose own processes are gone end when nothing that they left behind lives. */
static void finish_bare(struct child *c)
{
        struct job *job;

        while ((job = ended_job(c)) && !kill_strays(c))
                finish(c, job);
}

static void reap(struct child *c)
{
        struct signalfd_siginfo info[8];
        pid_t pid;
        int status;

        while (read(c->signals, info, sizeof(info)) > 0)
                ;
        while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
                reaped(c, pid, status);
        finish_bare(c);
}

static void kill_everything(struct child *c)
{
        time_t deadline = time(NULL) + GRACE_S;

        for (struct job *job = c->jobs; job; job = job->next) {
                read_status(job);
                kill_job(job);
        }
        if (c->spare.pid)
                kill(c->spare.pid, SIGKILL);
        while (time(NULL) < deadline) {
                int status;
                pid_t pid = waitpid(-1, &status, WNOHANG);

                if (pid < 0)
                        break; /* no child is left */
                if (pid) {
                        reaped(c, pid, status);
                } else {
                        (void)kill_strays(c);
                        usleep(1000);
                }
        }
        for (int i = 0; c->leftovers && i < 100; i++) {
                remove_leftovers(c);
                usleep(1000);
        }
}

/* ---- starting ---- */

void spawner_child_reset_signals(void)
{
        sigset_t none;

        sigemptyset(&none);
        signal(SIGPIPE, SIG_DFL);
        signal(SIGINT, SIG_DFL);
        signal(SIGTERM, SIG_DFL);
        signal(SIGHUP, SIG_DFL);
        sigprocmask(SIG_SETMASK, &none, NULL);
}

static struct wire_reader read_body(int fd, int control)
{
        struct stat st;
        struct wire_reader r = { 0 };
        size_t got = 0;
        char *bytes;

        /* Only a file can be sized; anything else could block or grow. */
        if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size > WIRE_BODY_MAX)
                wire_die(control, ERR_INTERNAL, "the request's body is not a sized file");
        bytes = xmalloc((size_t)st.st_size + 1);
        while (got < (size_t)st.st_size) {
                ssize_t n = pread(fd, bytes + got, (size_t)st.st_size - got, (off_t)got);

                if (n <= 0)
                        break;
                got += (size_t)n;
        }
        r.p = bytes;
        r.n = got;
        return r;
}

static char **read_list(struct wire_reader *r, uint32_t n)
{
        char **list = xcalloc((size_t)n + 1, sizeof(*list));

        for (uint32_t i = 0; i < n; i++)
                list[i] = (char *)(uintptr_t)wire_get(r).p;
        return list;
}

static void run_child(const struct sandbox *box, const struct wire_request *q, const int *fds,
                      pid_t parent) NORETURN;
static void run_child(const struct sandbox *box, const struct wire_request *q, const int *fds,
                      pid_t parent)
{
        struct wire_reader r = read_body(fds[WIRE_BODY], fds[WIRE_CONTROL]);
        struct sandbox_run run = { .workspace = q->workspace,
                                   .uid = q->uid,
                                   .network = q->network,
                                   .file_size_cap = q->file_size_cap,
                                   .memory_cap = q->caps[CGROUP_MEMORY],
                                   .process_cap = q->caps[CGROUP_PROCESSES],
                                   .processes_grouped = q->processes_grouped,
                                   .control = fds[WIRE_CONTROL],
                                   .out = fds[WIRE_OUT],
                                   .err = fds[WIRE_ERR],
                                   .status = fds[WIRE_STATUS],
                                   .parent = parent };
        struct str source;

        run.cwd = wire_get(&r).p;
        source = wire_get(&r);
        run.git_source = q->has_source ? source.p : NULL;
        if (q->n_argv > WIRE_ITEMS_MAX || q->n_env > WIRE_ITEMS_MAX)
                r.bad = true;
        run.argv = r.bad ? NULL : read_list(&r, q->n_argv);
        run.env = r.bad ? NULL : read_list(&r, q->n_env);
        if (r.bad)
                wire_die(run.control, ERR_INTERNAL, "the request's body is broken");
        sandbox_exec(box, &run);
}

/* Enters the group, waits for a run and becomes it. */
static void spare_child(const struct child *c, int socket, pid_t parent) NORETURN;
static void spare_child(const struct child *c, int socket, pid_t parent)
{
        enum { OWN_SOCKET = 3, OWN_FILTER };
        struct sandbox box = *c->box;
        struct wire_request q = { 0 };
        int fds[WIRE_MAX_FDS];
        size_t n_fds = WIRE_MAX_FDS;
        int filter, entered;

        spawner_child_reset_signals();
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
                _exit(1);
        socket = fcntl(socket, F_DUPFD_CLOEXEC, OWN_FILTER + 1);
        filter = fcntl(box.filter, F_DUPFD_CLOEXEC, OWN_FILTER + 1);
        if (dup3(socket, OWN_SOCKET, O_CLOEXEC) < 0 || dup3(filter, OWN_FILTER, O_CLOEXEC) < 0)
                _exit(1);
        (void)close_range(OWN_FILTER + 1, ~0U, 0);
        box.filter = OWN_FILTER;
        entered = cgroup_enter(&c->spare.group) ? 0 : errno;
        failpoint_pass(FAILPOINT_SPAWN_FORKED);
        if (wire_receive(OWN_SOCKET, &q, sizeof(q), 0, fds, &n_fds) != 1 || n_fds != WIRE_MAX_FDS)
                _exit(1);
        if (entered)
                wire_die(fds[WIRE_CONTROL], ERR_UNAVAILABLE, "control group: %s",
                         strerror(entered));
        failpoint_pass(FAILPOINT_SPAWN_EXEC);
        run_child(&box, &q, fds, parent);
}

static bool make_spare(struct child *c)
{
        pid_t parent = getpid();
        int ends[2];

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
                return false;
        cgroup_make(&c->groups, &c->spare.group);
        c->spare.pid = fork();
        if (!c->spare.pid)
                spare_child(c, ends[1], parent);
        close(ends[1]);
        c->spare.socket = ends[0];
        if (c->spare.pid > 0)
                return true;
        drop_spare(c);
        return false;
}

static void work_child(const struct child *c, const struct wire_request *q, const int *fds,
                       size_t n_fds) NORETURN;
static void work_child(const struct child *c, const struct wire_request *q, const int *fds,
                       size_t n_fds)
{
        struct wire_reader r;

        if (q->op == WIRE_WORKSPACE)
                files_child_workspace(c->box, q, fds[WIRE_CONTROL]);
        if (n_fds <= WIRE_RESULT)
                wire_die(fds[WIRE_CONTROL], ERR_INTERNAL, "the request has no result file");
        r = read_body(fds[WIRE_BODY], fds[WIRE_CONTROL]);
        files_child_work(c->box, q, &r, fds[WIRE_CONTROL], fds[WIRE_RESULT]);
}

/* What the spawner itself checks, being the one with privileges. */
static const char *refusal(const struct child *c, const struct wire_request *q, size_t n_fds)
{
        static const char letters[] =
                "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
        size_t n = strnlen(q->workspace, sizeof(q->workspace));

        if (q->op >= WIRE_OPS || (q->op == WIRE_RUN && n_fds != WIRE_RUN_FDS))
                return "no such request";
        if (!n || n == sizeof(q->workspace) || strspn(q->workspace, letters) != n)
                return "not the name of a workspace";
        if (!sandbox_uid_allowed(c->box, q->uid))
                return "this uid is not one of a workspace";
        return NULL;
}

/* Hands the run to the spare. */
static bool start_run(struct child *c, struct job *job, struct wire_request q, const int *fds)
{
        int all[WIRE_MAX_FDS], status[2];
        bool sent;

        if (pipe2(status, O_CLOEXEC))
                return false;
        (void)fcntl(status[0], F_SETFL, O_NONBLOCK);
        if (!c->spare.pid && !make_spare(c)) {
                close(status[0]);
                close(status[1]);
                return false;
        }
        job->pid = c->spare.pid;
        job->group = c->spare.group;
        job->grouped = true;
        job->status_fd = status[0];
        c->spare.pid = 0;
        cgroup_bound(&c->groups, &job->group, q.caps);
        if (job->group.bounds[CGROUP_MEMORY])
                q.caps[CGROUP_MEMORY] = 0; /* bounded for the whole tree already */
        q.processes_grouped = job->group.bounds[CGROUP_PROCESSES];
        memcpy(all, fds, sizeof(*all) * WIRE_RUN_FDS);
        all[WIRE_STATUS] = status[1];
        sent = wire_send(c->spare.socket, &q, sizeof(q), all, WIRE_MAX_FDS);
        close(c->spare.socket); /* the spare ends by itself when nothing came */
        close(status[1]);
        return sent;
}

static void start(struct child *c, const struct wire_request *q, const int *fds, size_t n_fds)
{
        struct job *job = xcalloc(1, sizeof(*job));
        bool started;

        failpoint_pass(FAILPOINT_SPAWN_ASKED);
        job->status_fd = -1;
        job->control = fds[WIRE_CONTROL];
        job->next = c->jobs;
        c->jobs = job;
        if (q->op == WIRE_RUN) {
                started = start_run(c, job, *q, fds);
        } else {
                job->pid = fork();
                if (!job->pid) {
                        spawner_child_reset_signals();
                        work_child(c, q, fds, n_fds);
                }
                started = job->pid > 0;
        }
        if (!started)
                wire_fault(job->control, ERR_UNAVAILABLE, "cannot start a process: %s",
                           strerror(errno));
        if (job->pid > 0) {
                watch(c, job->control, job);
        } else {
                job->pid = 0;
                finish(c, job);
        }
}

/* False: the server is gone. */
static bool accept_request(struct child *c)
{
        struct wire_request q = { 0 };
        int fds[WIRE_MAX_FDS];
        size_t n_fds = WIRE_MAX_FDS;
        int got = wire_receive(c->socket, &q, sizeof(q), MSG_DONTWAIT, fds, &n_fds);
        const char *why;

        if (got < 0)
                return errno == EAGAIN || errno == EMFILE;
        if (!got)
                return false;
        why = refusal(c, &q, n_fds);
        if (n_fds && why)
                wire_fault(fds[WIRE_CONTROL], ERR_VALIDATION, "%s", why);
        if (n_fds > WIRE_BODY && !why) {
                start(c, &q, fds, n_fds);
                fds[WIRE_CONTROL] = -1; /* the job's */
        }
        for (size_t i = 0; i < n_fds; i++)
                if (fds[i] >= 0)
                        close(fds[i]);
        return true;
}

/* ---- life ---- */

static void set_up(struct child *c)
{
        struct rlimit files;
        sigset_t signals;

        (void)close_range(3, (unsigned)c->socket - 1, 0);
        (void)close_range((unsigned)c->socket + 1, ~0U, 0);
        (void)setsid(); /* the terminal's signals are for the server, which tells us */
        (void)prctl(PR_SET_NAME, "baton-spawner");
        (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
        signal(SIGPIPE, SIG_IGN);
        signal(SIGINT, SIG_IGN);
        signal(SIGTERM, SIG_IGN);
        signal(SIGHUP, SIG_IGN);
        sigemptyset(&signals);
        sigaddset(&signals, SIGCHLD);
        sigprocmask(SIG_SETMASK, &signals, NULL);
        if (!getrlimit(RLIMIT_NOFILE, &files)) {
                files.rlim_cur = files.rlim_max;
                (void)setrlimit(RLIMIT_NOFILE, &files);
        }
        c->signals = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
        c->epoll = epoll_create1(EPOLL_CLOEXEC);
        BUG_ON(c->signals < 0 || c->epoll < 0);
        watch(c, c->socket, &c->socket);
        watch(c, c->signals, &c->signals);
        cgroups_probe(&c->groups);
}

void spawner_child(int socket, struct sandbox *box, const char *asked)
{
        struct child c = { .box = box, .socket = socket };
        struct wire_reply hello = { .kind = WIRE_HELLO, .a = geteuid() };
        bool open = true, runs;

        set_up(&c);
        trial_choose(box, asked, &hello);
        runs = c.box->runtime != RUNTIME_NONE;
        (void)wire_send(socket, &hello, sizeof(hello), NULL, 0);
        while (open) {
                struct epoll_event events[16];
                int idle = !c.spare.pid && runs ? SPARE_MS : c.leftovers ? LEFTOVER_MS : -1;
                int n = epoll_wait(c.epoll, events, LENGTH(events), idle);
                bool died = false;

                for (int i = 0; i < n; i++) {
                        struct job *job = events[i].data.ptr;

                        if (events[i].data.ptr == &c.socket) {
                                open = accept_request(&c) && open;
                        } else if (events[i].data.ptr == &c.signals) {
                                died = true;
                        } else {
                                /* Nothing but its end, or a word, comes here: both mean kill. */
                                (void)epoll_ctl(c.epoll, EPOLL_CTL_DEL, job->control, NULL);
                                kill_job(job);
                        }
                }
                if (died)
                        reap(&c); /* last: it frees jobs that other events may name */
                if (n > 0 && c.n_leftovers < LEFTOVERS_MAX)
                        continue;
                if (n <= 0 && !c.spare.pid && runs)
                        (void)make_spare(&c);
                else
                        remove_leftovers(&c);
        }
        kill_everything(&c);
        _exit(0);
}
