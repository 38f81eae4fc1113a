/*
 * The spawner, its sandbox and the files of a workspace, as root and as an ordinary user.  Where
 * bubblewrap cannot work the sandboxed cases are skipped, and the reason is printed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#undef fail /* ours has arguments */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/attr.h"
#include "core/utf8.h"
#include "worker/files.h"

#define W1 STR("0c5q8v2k7m1xa")
#define W2 STR("other-workspace")

static struct {
        char home[32], workspaces[96], root[96], closed[128], outside[128];
        struct spawner *spawner;
        const char *git_roots[2];
} f;

struct call {
        struct scope scope;
        struct spawn_spec spec;
        struct spawn_result result;
};

static uint32_t uid_of(struct str workspace)
{
        return SPAWNER_FIRST_UID + 1 + (str_eq(workspace, W2) ? 1 : 0);
}

static int64_t now_ms(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static struct call begin(void)
{
        struct call c = {
                .spec = { .workspace_uuid = W1, .uid = uid_of(W1), .timeout_us = 20 * US_PER_S }
        };

        scope_init(&c.scope, &system_world);
        return c;
}

static enum err run(struct call *c, const char *const *argv)
{
        c->spec.argv = argv;
        return spawner_run(&c->scope, f.spawner, &c->spec, &c->result);
}

static void run_ok(struct call *c, const char *const *argv)
{
        enum err e = run(c, argv);

        if (e)
                print_message("%s: " STR_FMT "\n", err_name(e), STR_ARG(c->scope.fault.detail));
        assert_int_equal(e, ERR_OK);
}

static void sh(struct call *c, const char *script)
{
        const char *const argv[] = { "sh", "-c", script, NULL };

        run_ok(c, argv);
}

static void assert_str(struct str got, const char *want)
{
        if (!str_is(got, want))
                print_message("got \"" STR_FMT "\", want \"%s\"\n", STR_ARG(got), want);
        assert_true(str_is(got, want));
}

static void assert_has(struct str got, const char *want)
{
        if (!str_contains(got, str_from(want)))
                print_message("got \"" STR_FMT "\", want \"%s\" in it\n", STR_ARG(got), want);
        assert_true(str_contains(got, str_from(want)));
}

static void assert_hasnt(struct str got, const char *unwanted)
{
        if (str_contains(got, str_from(unwanted)))
                print_message("got \"" STR_FMT "\" with \"%s\" in it\n", STR_ARG(got), unwanted);
        assert_false(str_contains(got, str_from(unwanted)));
}

/* Processes of the host whose command line holds a word. */
static int alive(const char *word)
{
        DIR *list = opendir("/proc");
        struct dirent *entry;
        int n = 0;

        assert_non_null(list);
        while ((entry = readdir(list))) {
                char path[300], line[4096];
                ssize_t got;
                int fd;

                if (strspn(entry->d_name, "0123456789") != strlen(entry->d_name))
                        continue;
                snprintf(path, sizeof(path), "/proc/%s/cmdline", entry->d_name);
                fd = open(path, O_RDONLY | O_CLOEXEC);
                if (fd < 0)
                        continue;
                got = read(fd, line, sizeof(line));
                close(fd);
                n += got > 0 && memmem(line, (size_t)got, word, strlen(word));
        }
        closedir(list);
        return n;
}

static bool dead_within(const char *word, int64_t ms)
{
        int64_t end = now_ms() + ms;

        while (now_ms() < end)
                if (!alive(word))
                        return true;
        return !alive(word);
}

/* ---- set-up ---- */

static void must(const char *command)
{
        if (system(command)) {
                print_message("failed: %s\n", command);
                assert_true(false);
        }
}

static enum err started(struct scope *scope, const struct spawner_options *options,
                        struct spawner **out)
{
        enum err e = spawner_start(scope, options, out);

        return e ? e : spawner_ready(scope, *out);
}

static int set_up(void **state)
{
        struct scope scope;
        struct spawner_options options = { .workspaces = f.workspaces,
                                           .git_roots = f.git_roots,
                                           .server_uid = 4242,
                                           .server_gid = 4242 };
        char command[512];
        bool root = geteuid() == 0;

        (void)state;
        snprintf(f.home, sizeof(f.home), "/tmp/test-spawner-XXXXXX");
        assert_non_null(mkdtemp(f.home)); /* 0700 */
        snprintf(f.workspaces, sizeof(f.workspaces), "%s/workspaces", f.home);
        snprintf(f.root, sizeof(f.root), "%s/src", f.home);
        snprintf(f.closed, sizeof(f.closed), "%s/closed/project", f.root);
        snprintf(f.outside, sizeof(f.outside), "%s/elsewhere", f.home);
        snprintf(command, sizeof(command),
                 "mkdir -p %s %s && chmod 700 %s/closed && echo key >%s/key", f.closed, f.outside,
                 f.root, f.home);
        must(command);
        snprintf(command, sizeof(command),
                 "cd %s && git -c init.defaultBranch=main init -q && echo hello >README && "
                 "git add README && git -c user.name=a -c user.email=a@b commit -qm first && "
                 "ln -s %s %s/sneaky",
                 f.closed, f.outside, f.root);
        must(command);
        setenv("SERVER_SECRET", "leaked-by-environment", 1);
        f.git_roots[0] = f.root;
        scope_init(&scope, &system_world);
        assert_int_equal(started(&scope, &options, &f.spawner), ERR_OK);
        assert_int_equal(spawner_workspace(&scope, f.spawner, W1, uid_of(W1)), ERR_OK);
        assert_int_equal(spawner_workspace(&scope, f.spawner, W2, uid_of(W2)), ERR_OK);
        scope_done(&scope);
        if (str_is(spawner_runtime(f.spawner), "none"))
                print_message("sandboxed cases are skipped: " STR_FMT "\n",
                              STR_ARG(spawner_runtime_problem(f.spawner)));
        print_message("running as %s\n", root ? "root" : "an ordinary user");
        return 0;
}

static int tear_down(void **state)
{
        char command[128];

        (void)state;
        spawner_free(f.spawner);
        snprintf(command, sizeof(command), "chmod -R u+rwX %s && rm -rf %s", f.home, f.home);
        must(command);
        return 0;
}

#define NEEDS_SANDBOX()                                           \
        do                                                        \
                if (!str_is(spawner_runtime(f.spawner), "bwrap")) \
                        skip();                                   \
        while (0)

/* ---- commands ---- */

static void a_command_runs_and_its_output_comes_back(void **state)
{
        struct call c = begin();
        char uid[32];
        const char *const argv[] = { "echo", "two words", "--", "-x", NULL };

        NEEDS_SANDBOX();
        (void)state;
        run_ok(&c, argv);
        assert_str(c.result.out, "two words -- -x\n");
        assert_str(c.result.err, "");
        assert_int_equal(c.result.exit_code, 0);
        assert_true(c.result.duration_us > 0);
        assert_false(c.result.truncated || c.result.timed_out || c.result.canceled);
        assert_has(c.result.sandbox, "{\"runtime\":\"bwrap\"");
        assert_has(c.result.sandbox, "\"network\":\"none\"");
        snprintf(uid, sizeof(uid), "\"uid\":%u,", geteuid() ? geteuid() : uid_of(W1));
        assert_has(c.result.sandbox, uid);
        sh(&c, "echo to-out; echo to-err >&2; whoami; pwd; id -u; cat; echo end");
        assert_str(c.result.out, "to-out\nagent\n/workspace\n1000\nend\n");
        assert_str(c.result.err, "to-err\n");
        scope_done(&c.scope);
}

static void exit_codes_are_exact(void **state)
{
        static const struct {
                const char *script;
                int code;
        } cases[] = { { "exit 0", 0 },        { "exit 1", 1 },         { "exit 42", 42 },
                      { "exit 255", 255 },    { "kill -9 $$", 137 },   { "kill -15 $$", 143 },
                      { "kill -11 $$", 139 }, { "exec /no/such", 127 } };
        const char *const missing[] = { "no-such-command", NULL };
        const char *const directory[] = { "/usr", NULL };
        struct call c = begin();

        NEEDS_SANDBOX();
        (void)state;
        for (unsigned i = 0; i < LENGTH(cases); i++) {
                sh(&c, cases[i].script);
                assert_int_equal(c.result.exit_code, cases[i].code);
        }
        run_ok(&c, missing);
        assert_int_equal(c.result.exit_code, 127);
        assert_has(c.result.err, "No such file");
        run_ok(&c, directory);
        assert_int_equal(c.result.exit_code, 126);
        scope_done(&c.scope);
}

static void bad_requests_are_refused(void **state)
{
        const char *const argv[] = { "pwd", NULL }, *const nothing[] = { NULL };
        const char *const bad_env[] = { "NOT AN ASSIGNMENT", NULL };
        static const char *const outside[] = { "..",          "../x",          "a/../../b",
                                               "/etc",        "/workspacetwo", "/workspace/../etc",
                                               "a/b/../../.." };
        struct call c = begin();

        NEEDS_SANDBOX();
        (void)state;
        assert_int_equal(run(&c, nothing), ERR_VALIDATION);
        for (unsigned i = 0; i < LENGTH(outside); i++) {
                c.spec.cwd = str_from(outside[i]);
                assert_int_equal(run(&c, argv), ERR_VALIDATION);
                assert_has(c.scope.fault.detail, outside[i]);
        }
        c.spec.cwd = STR("does/not/exist");
        assert_int_equal(run(&c, argv), ERR_VALIDATION);
        assert_has(c.scope.fault.detail, "does/not/exist");
        c.spec.cwd = STR("");
        c.spec.env = bad_env;
        assert_int_equal(run(&c, argv), ERR_VALIDATION);
        c.spec.env = NULL;
        c.spec.workspace_uuid = STR("../other");
        assert_int_equal(run(&c, argv), ERR_VALIDATION);
        c.spec.workspace_uuid = STR("never-made");
        assert_int_equal(run(&c, argv), ERR_NOT_FOUND);
        c.spec = begin().spec;
        run_ok(&c, argv);
        if (geteuid() == 0) {
                c.spec.uid = 0;
                assert_int_equal(run(&c, argv), ERR_VALIDATION);
                c.spec.uid = 4242;
                assert_int_equal(run(&c, argv), ERR_VALIDATION);
                c.spec.uid = uid_of(W2); /* not this workspace's */
                assert_int_equal(run(&c, argv), ERR_UNAVAILABLE);
        }
        scope_done(&c.scope);
}

static void cwd_is_inside_the_workspace(void **state)
{
        static const struct {
                const char *cwd, *want;
        } cases[] = { { "", "/workspace\n" },
                      { ".", "/workspace\n" },
                      { "repos", "/workspace/repos\n" },
                      { "/workspace", "/workspace\n" },
                      { "/workspace/tasks/", "/workspace/tasks\n" },
                      { "repos/../artifacts", "/workspace/artifacts\n" } };
        const char *const argv[] = { "pwd", NULL };
        struct call c = begin();

        NEEDS_SANDBOX();
        (void)state;
        for (unsigned i = 0; i < LENGTH(cases); i++) {
                c.spec.cwd = str_from(cases[i].cwd);
                run_ok(&c, argv);
                assert_str(c.result.out, cases[i].want);
        }
        scope_done(&c.scope);
}

static void a_timeout_kills_the_whole_tree(void **state)
{
        struct call c = begin();
        int64_t start = now_ms();

        NEEDS_SANDBOX();
        (void)state;
        c.spec.timeout_us = 300 * US_PER_MS;
        sh(&c, "trap '' TERM HUP; setsid sleep 987001 & (setsid sh -c 'sleep 987001 >/dev/null "
               "2>&1' &) ; "
               "echo started; sleep 987001");
        assert_true(now_ms() - start < 2300);
        assert_true(c.result.timed_out);
        assert_false(c.result.canceled);
        assert_int_equal(c.result.exit_code, 137);
        assert_str(c.result.out, "started\n");
        assert_int_equal(alive("987001"), 0);
        /* A daemon does not outlive the command either. */
        c.spec.timeout_us = 20 * US_PER_S;
        start = now_ms();
        sh(&c, "setsid sleep 987002 & echo bye");
        assert_true(now_ms() - start < 2000);
        assert_int_equal(c.result.exit_code, 0);
        assert_str(c.result.out, "bye\n");
        assert_int_equal(alive("987002"), 0);
        scope_done(&c.scope);
}

static bool after_some(void *ctx)
{
        return ++*(int *)ctx > 3;
}

static void a_cancel_kills_the_whole_tree(void **state)
{
        struct call c = begin();
        int polls = 0;
        int64_t start = now_ms();

        NEEDS_SANDBOX();
        (void)state;
        c.spec.canceled = after_some;
        c.spec.ctx = &polls;
        sh(&c, "(setsid sleep 987003 &); trap '' TERM; sleep 987003");
        assert_true(now_ms() - start < 2300);
        assert_true(c.result.canceled);
        assert_false(c.result.timed_out);
        assert_int_equal(c.result.exit_code, 137);
        assert_int_equal(alive("987003"), 0);
        scope_done(&c.scope);
}

struct seen {
        int64_t bytes[3];
        int64_t first_ms;
};

static void see(void *ctx, int stream, struct str bytes)
{
        struct seen *seen = ctx;

        if (!seen->first_ms)
                seen->first_ms = now_ms();
        seen->bytes[stream] += (int64_t)bytes.n;
}

static void output_is_bounded(void **state)
{
        struct call c = begin();
        struct seen seen = { 0 };
        int64_t start = now_ms();

        NEEDS_SANDBOX();
        (void)state;
        c.spec.stdout_cap = 1000;
        c.spec.stderr_cap = 10;
        c.spec.on_output = see;
        c.spec.ctx = &seen;
        sh(&c,
           "head -c 5000 /dev/zero | tr '\\0' x; head -c 20 /dev/zero | tr '\\0' y >&2; exit 3");
        assert_int_equal(c.result.exit_code, 3);
        assert_int_equal(c.result.out.n, 1000);
        assert_int_equal(c.result.err.n, 10);
        assert_true(c.result.truncated);
        assert_false(c.result.output_exceeded);
        assert_int_equal(seen.bytes[1], 5000);
        assert_int_equal(seen.bytes[2], 20);

        c.spec.output_cap = 1 << 20;
        sh(&c, "(setsid sleep 987004 &); yes");
        assert_true(c.result.output_exceeded && c.result.truncated);
        assert_int_equal(c.result.exit_code, 137);
        assert_true(now_ms() - start < 5000);
        assert_int_equal(alive("987004"), 0);

        scope_done(&c.scope);
        c = begin();
        seen = (struct seen){ 0 };
        c.spec.on_output = see;
        c.spec.ctx = &seen;
        sh(&c, "echo now; sleep 0.5");
        assert_true(now_ms() - seen.first_ms >= 400); /* as it comes, not at the end */
        scope_done(&c.scope);
}

static void output_becomes_utf8(void **state)
{
        struct call c = begin();

        NEEDS_SANDBOX();
        (void)state;
        sh(&c, "printf 'a\\377b\\000c\\303\\244\\n'");
        assert_str(c.result.out, "a\xef\xbf\xbd"
                                 "b\xef\xbf\xbd"
                                 "c\xc3\xa4\n");
        c.spec.stdout_cap = 4;
        sh(&c, "printf 'abc\\303\\244'");
        assert_str(c.result.out, "abc");
        scope_done(&c.scope);
}

static void bytes_are_made_utf8(void **state)
{
        static const struct {
                const char *in, *out;
                bool cut;
        } cases[] = { { "plain", "plain", false },
                      { "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80",
                        "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", true },
                      { "x\xc3", "x\xef\xbf\xbd", false },
                      { "x\xc3", "x", true },
                      { "x\xe2\x82", "x", true },
                      { "x\xf0\x9f\x98", "x", true },
                      { "\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", false },
                      { "\x80", "\xef\xbf\xbd", true },
                      { "", "", true } };
        struct arena arena = { 0 };

        (void)state;
        for (unsigned i = 0; i < LENGTH(cases); i++)
                assert_str(utf8_clean(&arena, str_from(cases[i].in), cases[i].cut), cases[i].out);
        arena_done(&arena);
}

static void the_environment_is_clean(void **state)
{
        const char *const env[] = { "TOKEN=own=value", "EMPTY=", NULL };
        struct call c = begin();

        NEEDS_SANDBOX();
        (void)state;
        c.spec.env = env;
        sh(&c, "env | grep -v -e ^PWD= -e ^SHLVL= -e ^_= -e ^OLDPWD= | sort");
        assert_str(c.result.out, "EMPTY=\nHOME=/home/agent\nLANG=C.UTF-8\nPATH=/usr/bin:/bin\n"
                                 "TOKEN=own=value\n");
        scope_done(&c.scope);
}

static void there_is_no_network(void **state)
{
        static const char script[] = "import socket,errno\n"
                                     "def t(f,*a):\n"
                                     "  s=None\n"
                                     "  try:\n"
                                     "    s=socket.socket(f,socket.SOCK_STREAM); s.settimeout(2); "
                                     "s.connect(*a); print('connected')\n"
                                     "  except OSError as e: print('socket' if s is None else "
                                     "'connect', errno.errorcode.get(e.errno))\n"
                                     "t(socket.AF_INET,('127.0.0.1',%d))\n"
                                     "t(socket.AF_INET,('192.0.2.1',80))\n"
                                     "t(socket.AF_UNIX,'\\0test-spawner-%d')\n"
                                     "t(socket.AF_VSOCK,(2,1))\n"
                                     "t(socket.AF_PACKET,('lo',0))\n";
        struct sockaddr_in address = { .sin_family = AF_INET,
                                       .sin_addr.s_addr = htonl(0x7f000001) };
        socklen_t length = sizeof(address);
        int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        char text[1024];
        const char *const argv[] = { "python3", "-c", text, NULL };
        struct call c = begin();

        NEEDS_SANDBOX();
        (void)state;
        assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(listen(listener, 4), 0);
        assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
        snprintf(text, sizeof(text), script, ntohs(address.sin_port), (int)getpid());
        run_ok(&c, argv);
        assert_str(c.result.out, "connect ECONNREFUSED\nconnect ENETUNREACH\nconnect ECONNREFUSED\n"
                                 "socket EAFNOSUPPORT\nsocket EAFNOSUPPORT\n");
        close(listener);
        scope_done(&c.scope);
}

static void nothing_else_of_the_host_is_seen(void **state)
{
        char script[1024];
        struct call c = begin();

        NEEDS_SANDBOX();
        (void)state;
        snprintf(script, sizeof(script),
                 "cat /etc/shadow; cat %s/key; ls %s; ls /root /work /home; ls -d /proc/[0-9]* | "
                 "wc -l; "
                 "ls /workspace; touch /usr/x /etc/x /x /dev/x; ls /sys; su -c id",
                 f.home, f.workspaces);
        sh(&c, script);
        /* bubblewrap, the shell, ls and wc are all the processes there are */
        assert_has(c.result.err, "/etc/shadow: No such file");
        assert_has(c.result.err, "/key: No such file");
        assert_has(c.result.err, "workspaces': No such file");
        assert_has(c.result.err, "/x': Read-only file system");
        assert_hasnt(c.result.out, "key");
        assert_hasnt(c.result.out, "uid=0");
        assert_has(c.result.out, "agent\n");
        assert_has(c.result.out, "artifacts\nrepos\ntasks\n");
        scope_done(&c.scope);
}

static void workspaces_are_apart(void **state)
{
        struct call c = begin();
        char path[256];

        NEEDS_SANDBOX();
        (void)state;
        sh(&c, "echo mine >note; umask; ls -ln note | cut -d' ' -f1,3,4");
        assert_str(c.result.out, "0022\n-rw-r--r-- 1000 1000\n");
        c.spec.workspace_uuid = W2;
        c.spec.uid = uid_of(W2);
        sh(&c, "ls; cat /workspace/note");
        assert_str(c.result.out, "artifacts\nrepos\ntasks\n");
        snprintf(path, sizeof(path), "%s/" STR_FMT "/note", f.workspaces, STR_ARG(W1));
        if (geteuid() == 0) {
                struct stat st;

                assert_int_equal(stat(path, &st), 0);
                assert_int_equal(st.st_uid, uid_of(W1));
                *strrchr(path, '/') = 0;
                assert_int_equal(stat(path, &st), 0);
                assert_int_equal(st.st_mode & 0777, 0700);
        }
        scope_done(&c.scope);
}

/* ---- the four holes ---- */

static void hole_1_the_kernel_of_the_host_is_not_writable(void **state)
{
        struct call c = begin();

        NEEDS_SANDBOX();
        (void)state;
        sh(&c, "echo x >/proc/sys/kernel/core_pattern; find /proc/sys -writable -type f | wc -l; "
               "cat /proc/self/uid_map; grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status | "
               "tr -s '\\t' ' '; "
               "find /proc -maxdepth 1 -type f -writable; ulimit -c");
        assert_has(c.result.err, "Read-only file system");
        assert_has(c.result.out, "0\n");
        assert_has(c.result.out, "CapEff: 0000000000000000\nNoNewPrivs: 1\nSeccomp: 2\n0\n");
        scope_done(&c.scope);
}

static void hole_2_nothing_leaks_through_process_1(void **state)
{
        const char *const env[] = { "TOKEN=by-argument", NULL };
        struct call c = begin();

        NEEDS_SANDBOX();
        (void)state;
        c.spec.env = env;
        sh(&c, "tr '\\0' ' ' </proc/1/environ; echo; tr '\\0' ' ' </proc/1/cmdline");
        assert_hasnt(c.result.out, "leaked-by-environment");
        assert_hasnt(c.result.out, "by-argument");
        assert_hasnt(c.result.out, f.home);
        assert_has(c.result.out, "bwrap --args 3 -- ");
        scope_done(&c.scope);
}

static void hole_3_no_descriptor_is_inherited(void **state)
{
        struct call c = begin();
        char name[96];
        int open_one;

        NEEDS_SANDBOX();
        (void)state;
        snprintf(name, sizeof(name), "%s/key", f.home);
        open_one = open(name, O_RDONLY); /* without close-on-exec */
        sh(&c,
           "ls -l /proc/self/fd | grep -c -e '->'; for p in /proc/[0-9]*; do ls -l $p/fd; done | "
           "grep -v -e pipe: -e /dev/null -e anon_inode -e /proc/ -e '^total' | grep -e '->' ; "
           "readlink /proc/self/fd/0");
        assert_str(c.result.out, "4\n/dev/null\n");
        close(open_one);
        scope_done(&c.scope);
}

static void hole_4_every_tmpfs_has_a_size(void **state)
{
        struct call c = begin();

        NEEDS_SANDBOX();
        (void)state;
        sh(&c,
           "df -k --output=size,target -t tmpfs | sort -k2 | tail -n +1 | tr -s ' '; "
           "for d in / /dev /etc /home; do touch $d/file 2>/dev/null && echo \"$d writable\"; "
           "done; "
           "for d in /tmp /run /dev/shm /home/agent; do touch $d/file && echo \"$d fine\"; done; "
           "head -c 30000000 /dev/zero >/run/big || echo full");
        assert_has(c.result.out, "262144 /tmp\n");
        assert_has(c.result.out, "16384 /run\n");
        assert_has(c.result.out, "16384 /home/agent\n");
        assert_has(c.result.out, "65536 /dev/shm\n");
        assert_hasnt(c.result.out, "writable");
        assert_has(c.result.out, "/tmp fine\n/run fine\n/dev/shm fine\n/home/agent fine\n");
        assert_has(c.result.out, "full");
        scope_done(&c.scope);
}

static void system_calls_are_filtered(void **state)
{
        static const char script[] =
                "import ctypes,errno\n"
                "l=ctypes.CDLL(None,use_errno=True)\n"
                "def t(name,*a):\n"
                "  r=l.syscall(*a); print(name, errno.errorcode.get(ctypes.get_errno()) if r<0 "
                "else 'allowed')\n"
                "t('mount',165,0,0,0,0,0)\n"
                "t('keyctl',250,0,0)\n"
                "t('bpf',321,0,0,0)\n"
                "t('io_uring_setup',425,1,0)\n"
                "t('perf_event_open',298,0,0,0,0,0)\n"
                "t('clone3',435,0,0)\n"
                "t('unshare',272,0x10000000)\n"
                "t('clone',56,0x10000000|17,0,0,0,0)\n"
                "t('TIOCSTI',16,0,0x5412,0)\n"
                "t('statmount',457,0,0,0,0)\n"
                "t('getppid',110)\n";
        const char *const argv[] = { "python3", "-c", script, NULL };
        struct call c = begin();

        NEEDS_SANDBOX();
        (void)state;
#ifdef __x86_64__
        run_ok(&c, argv);
        assert_str(c.result.out,
                   "mount EPERM\nkeyctl EPERM\nbpf EPERM\nio_uring_setup EPERM\n"
                   "perf_event_open EPERM\nclone3 ENOSYS\nunshare EPERM\nclone EPERM\n"
                   "TIOCSTI EPERM\nstatmount EPERM\ngetppid allowed\n");
#else
        (void)argv;
#endif
        scope_done(&c.scope);
}

static void resources_are_bounded(void **state)
{
        static const char forks[] = "import os,time\nn=0\ntry:\n  while n<400:\n"
                                    "    if os.fork()==0: time.sleep(60)\n    n+=1\n"
                                    "except OSError: print('stopped')\n";
        static const char hog[] = "import mmap\nb=[]\ntry:\n  for i in range(64):\n"
                                  "    b.append(bytearray(16<<20))\n  print('took all')\n"
                                  "except MemoryError: print('refused')\n";
        const char *const fork_argv[] = { "python3", "-c", forks, NULL };
        const char *const hog_argv[] = { "python3", "-c", hog, NULL };
        struct call c = begin();

        NEEDS_SANDBOX();
        (void)state;
        c.spec.file_size_cap = 1 << 20;
        sh(&c, "head -c 3000000 /dev/zero >big; stat -c %s big; rm big");
        assert_str(c.result.out, "1048576\n");
        c.spec.memory_cap = 256 << 20;
        run_ok(&c, hog_argv);
        assert_hasnt(c.result.out, "took all");
        assert_true(c.result.oom || str_contains(c.result.out, STR("refused")));
        c.spec.memory_cap = 0;
        c.spec.process_cap = 50;
        run_ok(&c, fork_argv);
        assert_str(c.result.out, "stopped\n");
        scope_done(&c.scope);
}

/* ---- git ---- */

static void a_checkout_below_a_closed_directory_is_shown_read_only(void **state)
{
        struct call c = begin();
        char command[256];

        NEEDS_SANDBOX();
        (void)state;
        c.spec.git_source = str_from(f.closed);
        sh(&c, "cat /source/README; touch /source/x; git clone -q /source repos/copy && cat "
               "repos/copy/README; "
               "git clone -q --no-local file:///source repos/copy2 && cat repos/copy2/README; "
               "git -C /source log --format=%s; rm -rf repos/copy repos/copy2");
        assert_str(c.result.out, "hello\nhello\nhello\nfirst\n");
        assert_has(c.result.err, "Read-only file system");
        /* A private umask: as root this takes a mount that maps the owner. */
        snprintf(command, sizeof(command), "chmod -R go= %s", f.closed);
        must(command);
        sh(&c, "cat /source/README; git -C /source log --format=%s; ls -ln /source/README");
        if (geteuid() == 0 && !c.result.out.n)
                print_message("this file system cannot map owners: " STR_FMT "\n",
                              STR_ARG(c.result.err));
        else
                assert_has(c.result.out, "hello\nfirst\n-rw------- 1 1000 1000 ");
        c.spec.git_source = STR_NONE;
        sh(&c, "ls /source; echo ${GIT_CONFIG_GLOBAL:-unset}");
        assert_str(c.result.out, "unset\n");
        scope_done(&c.scope);
}

static void only_paths_below_the_git_roots_are_allowed(void **state)
{
        static const char *const places[] = {
                "/elsewhere", "/src/sneaky", "/src/../elsewhere", "/src/nothing", "", "/srcs"
        };
        const char *const argv[] = { "true", NULL };
        struct call c = begin();
        char path[256];

        NEEDS_SANDBOX();
        (void)state;
        for (unsigned i = 0; i < LENGTH(places); i++) {
                snprintf(path, sizeof(path), "%s%s", f.home, places[i]);
                c.spec.git_source = str_from(path);
                assert_int_equal(run(&c, argv), ERR_VALIDATION);
                assert_has(c.scope.fault.detail, "git source");
        }
        c.spec.git_source = STR("src");
        assert_int_equal(run(&c, argv), ERR_VALIDATION);
        c.spec.git_source = str_from(f.root);
        run_ok(&c, argv);
        scope_done(&c.scope);
}

static void a_source_is_shown_without_bubblewrap_too(void **state)
{
        struct spawner_options options = { .workspaces = f.workspaces,
                                           .git_roots = f.git_roots,
                                           .sandbox = "landlock" };
        const char *const argv[] = { "git", "ls-remote", "--heads", "file:///source", NULL };
        struct spawner *own;
        struct call c = begin();
        enum err e;

        (void)state;
        assert_int_equal(started(&c.scope, &options, &own), ERR_OK);
        if (str_is(spawner_runtime(own), "none")) {
                spawner_free(own);
                scope_done(&c.scope);
                skip();
        }
        c.spec.git_source = str_from(f.closed);
        c.spec.argv = argv;
        e = spawner_run(&c.scope, own, &c.spec, &c.result);
        if (e)
                print_message("%s: " STR_FMT "\n", err_name(e), STR_ARG(c.scope.fault.detail));
        assert_int_equal(e, ERR_OK);
        /* On a file system that cannot map owners a private one stays closed. */
        if (c.result.exit_code)
                assert_has(c.result.err, "source");
        else
                assert_has(c.result.out, "\trefs/heads/main\n");
        spawner_free(own);
        scope_done(&c.scope);
}

/* ---- life of the spawner ---- */

/* The server may own a directory above; the spawner, perhaps root, must not be led astray. */
static void a_replaced_directory_of_workspaces_is_noticed(void **state)
{
        char place[128], command[1024];
        struct spawner_options options = { .workspaces = place };
        struct scope s;
        struct spawner *own;

        (void)state;
        scope_init(&s, &system_world);
        snprintf(place, sizeof(place), "%s/movable", f.home);
        assert_int_equal(started(&s, &options, &own), ERR_OK);
        assert_int_equal(spawner_workspace(&s, own, W1, uid_of(W1)), ERR_OK);
        snprintf(command, sizeof(command),
                 "mv %s %s.old && mkdir -p %s.evil/victim && ln -s %s.evil %s", place, place, place,
                 place, place);
        must(command);
        assert_int_equal(spawner_workspace(&s, own, STR("victim"), uid_of(W1)), ERR_UNAVAILABLE);
        assert_int_equal(files_mkdir(&s, own, STR("victim"), uid_of(W1), STR("x")),
                         ERR_UNAVAILABLE);
        spawner_free(own);
        scope_done(&s);
}

static void without_bubblewrap_nothing_runs(void **state)
{
        struct spawner_options options = { .workspaces = f.workspaces,
                                           .bwrap = "/no/such/bwrap",
                                           .sandbox = "bwrap" };
        const char *const argv[] = { "true", NULL };
        struct spawner *own;
        struct call c = begin();

        (void)state;
        assert_int_equal(started(&c.scope, &options, &own), ERR_OK);
        assert_str(spawner_runtime(own), "none");
        assert_has(spawner_runtime_problem(own), "not installed");
        c.spec.argv = argv;
        assert_int_equal(spawner_run(&c.scope, own, &c.spec, &c.result), ERR_UNAVAILABLE);
        assert_has(c.scope.fault.detail, "not installed");
        spawner_free(own);
        /* Who asks for whatever is strong enough gets the next one, and is told why. */
        options.sandbox = "auto";
        assert_int_equal(started(&c.scope, &options, &own), ERR_OK);
        assert_has(spawner_runtime_problem(own), "bwrap: bubblewrap (bwrap) is not installed");
        if (str_is(spawner_runtime(own), "landlock")) {
                assert_int_equal(spawner_run(&c.scope, own, &c.spec, &c.result), ERR_OK);
                assert_has(c.result.sandbox, "{\"runtime\":\"landlock\"");
        }
        assert_false(str_is(spawner_runtime(own), "trusted"));
        spawner_free(own);
        options.sandbox = "bwrap";
        options.bwrap = "/bin/false"; /* is there but does not work */
        assert_int_equal(started(&c.scope, &options, &own), ERR_OK);
        assert_str(spawner_runtime(own), "none");
        assert_true(spawner_runtime_problem(own).n > 0);
        spawner_free(own);
        scope_done(&c.scope);
}

/* In a process of its own: fewer and fewer descriptors, until there are too few for a trial. */
static void start_with_few_descriptors(void)
{
        struct spawner_options options = { .workspaces = f.workspaces };
        struct scope s;

        scope_init(&s, &system_world);
        (void)close_range(3, ~0U, 0);
        for (rlim_t most = 20; most > 3; most--) {
                struct rlimit limit = { most, most };
                struct spawner *own;

                if (setrlimit(RLIMIT_NOFILE, &limit) || started(&s, &options, &own))
                        _exit(1);
                if (str_starts(spawner_runtime_problem(own), "bwrap: cannot be tried: Too many"))
                        _exit(str_is(spawner_runtime(own), "none") ? 0 : 2);
                spawner_free(own);
        }
        _exit(3);
}

static void a_trial_that_cannot_begin_says_why(void **state)
{
        pid_t pid = fork();
        int status;

        (void)state;
        if (!pid)
                start_with_few_descriptors();
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
}

/* Runs in a process of its own: a spawner with a long command. */
static void run_for_long(const char *script)
{
        struct spawner_options options = { .workspaces = f.workspaces };
        const char *const argv[] = { "sh", "-c", script, NULL };
        struct spawner *own;
        struct call c = begin();

        if (started(&c.scope, &options, &own))
                _exit(1);
        c.spec.argv = argv;
        _exit(spawner_run(&c.scope, own, &c.spec, &c.result) ? 1 : 0);
}

/* In a process of its own, which does not come back from it. */
static void drop_and_work(void)
{
        struct spawner_options options = { .workspaces = f.workspaces,
                                           .server_uid = 4242,
                                           .server_gid = 4242 };
        const char *const argv[] = { "cat", "dropped", NULL };
        struct spawner *own;
        struct str bytes;
        struct call c = begin();

        if (started(&c.scope, &options, &own) || setgroups(0, NULL) ||
            setresgid(4242, 4242, 4242) || setresuid(4242, 4242, 4242))
                _exit(1);
        c.spec.argv = argv;
        if (!access(f.workspaces, F_OK) ||
            files_write(&c.scope, own, W1, uid_of(W1), STR("dropped"), STR("yes"),
                        1 << 30) ||
            files_read(&c.scope, own, W1, uid_of(W1), STR("dropped"), 9, &bytes,
                       &(int64_t){ 0 }) ||
            !str_is(bytes, "yes"))
                _exit(2);
        if (str_is(spawner_runtime(own), "bwrap") &&
            (spawner_run(&c.scope, own, &c.spec, &c.result) || !str_is(c.result.out, "yes")))
                _exit(3);
        spawner_free(own);
        scope_done(&c.scope);
        _exit(0);
}

static void the_server_may_drop_its_privileges(void **state)
{
        int status = -1;
        pid_t pid;

        (void)state;
        if (geteuid())
                skip();
        pid = fork();
        if (!pid)
                drop_and_work();
        waitpid(pid, &status, 0);
        assert_int_equal(status, 0);
}

/* Until the sandbox is being made, or further, until the command in it runs. */
static pid_t start_for_long(const char *word, int processes)
{
        char script[128];
        int64_t start = now_ms();
        int seen = 0;
        pid_t pid;

        snprintf(script, sizeof(script), "(setsid sleep %s &); trap '' TERM; sleep %s", word, word);
        pid = fork();
        if (!pid)
                run_for_long(script);
        while (seen < processes && now_ms() - start < 5000)
                seen = alive(word);
        assert_true(seen >= processes);
        return pid;
}

static void the_tree_dies_with_the_server(void **state)
{
        NEEDS_SANDBOX();
        (void)state;
        /* 1: bubblewrap has just begun; 5: both of it, the shell and its two commands. */
        for (int processes = 1; processes <= 5; processes++) {
                pid_t pid = start_for_long("987005", processes);

                kill(pid, SIGKILL);
                waitpid(pid, NULL, 0);
                assert_true(dead_within("987005", 2000));
        }
}

static void the_tree_dies_with_the_spawner(void **state)
{
        char path[64];
        FILE *list;
        int status = 0, spawner = 0;
        pid_t pid;

        NEEDS_SANDBOX();
        (void)state;
        pid = start_for_long("987007", 5);
        snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
        list = fopen(path, "r");
        if (list) {
                assert_int_equal(fscanf(list, "%d", &spawner), 1);
                fclose(list);
                kill(spawner, SIGKILL);
                assert_true(dead_within("987007", 2000));
        } else {
                kill(pid, SIGKILL);
        }
        waitpid(pid, &status, 0);
        if (list) /* it was told, and did not wait for ever */
                assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
}

struct threaded {
        struct spawner *spawner;
        struct call c;
        enum err e;
};

static void *run_thread(void *ctx)
{
        struct threaded *t = ctx;

        t->e = spawner_run(&t->c.scope, t->spawner, &t->c.spec, &t->c.result);
        return NULL;
}

static void stopping_the_spawner_ends_a_run(void **state)
{
        struct spawner_options options = { .workspaces = f.workspaces };
        const char *const argv[] = { "sleep", "987006", NULL };
        struct threaded t = { .c = begin() };
        int64_t start = now_ms();
        pthread_t thread;
        int exit_code;
        enum err e;

        NEEDS_SANDBOX();
        (void)state;
        assert_int_equal(started(&t.c.scope, &options, &t.spawner), ERR_OK);
        t.c.spec.argv = argv;
        pthread_create(&thread, NULL, run_thread, &t);
        while (!alive("987006") && now_ms() - start < 5000)
                ;
        spawner_stop(t.spawner);
        pthread_join(thread, NULL);
        e = t.e;
        exit_code = t.c.result.exit_code;
        assert_int_equal(alive("987006"), 0);
        assert_int_equal(spawner_run(&t.c.scope, t.spawner, &t.c.spec, &t.c.result),
                         ERR_UNAVAILABLE);
        spawner_free(t.spawner);
        assert_true(e == ERR_UNAVAILABLE || (!e && exit_code == 137));
        scope_done(&t.c.scope);
}

static void many_threads_at_once(void **state)
{
        enum { THREADS = 20 };
        static struct threaded all[THREADS];
        static char scripts[THREADS][96];
        static const char *argv[THREADS][4];
        pthread_t threads[THREADS];
        struct scope scope;

        NEEDS_SANDBOX();
        (void)state;
        for (int i = 0; i < THREADS; i++) {
                snprintf(scripts[i], sizeof(scripts[i]),
                         "echo out %d; echo err %d >&2; sleep 0.1; exit %d", i, i, i);
                argv[i][0] = "sh";
                argv[i][1] = "-c";
                argv[i][2] = scripts[i];
                all[i] = (struct threaded){ .spawner = f.spawner, .c = begin() };
                all[i].c.spec.argv = argv[i];
                if (i % 2) {
                        all[i].c.spec.workspace_uuid = W2;
                        all[i].c.spec.uid = uid_of(W2);
                }
                assert_int_equal(pthread_create(&threads[i], NULL, run_thread, &all[i]), 0);
        }
        scope_init(&scope, &system_world);
        for (int i = 0; i < 20; i++)
                assert_int_equal(files_mkdir(&scope, f.spawner, W1, uid_of(W1), STR("tasks/a")),
                                 ERR_OK);
        scope_done(&scope);
        for (int i = 0; i < THREADS; i++) {
                char want[32];

                pthread_join(threads[i], NULL);
                assert_int_equal(all[i].e, ERR_OK);
                assert_int_equal(all[i].c.result.exit_code, i);
                snprintf(want, sizeof(want), "out %d\n", i);
                assert_str(all[i].c.result.out, want);
                snprintf(want, sizeof(want), "err %d\n", i);
                assert_str(all[i].c.result.err, want);
                scope_done(&all[i].c.scope);
        }
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

static void a_sandbox_costs_little(void **state)
{
        enum { ROUNDS = 31 };
        const char *const argv[] = { "true", NULL };
        int64_t boxed[ROUNDS], bare[ROUNDS];
        struct call c = begin();

        NEEDS_SANDBOX();
        (void)state;
        for (int i = 0; i < ROUNDS; i++) {
                int64_t start = now_us();
                pid_t pid;

                run_ok(&c, argv);
                boxed[i] = now_us() - start;
                start = now_us();
                pid = fork();
                if (!pid) {
                        execl("/usr/bin/true", "true", (char *)NULL);
                        _exit(127);
                }
                waitpid(pid, NULL, 0);
                bare[i] = now_us() - start;
        }
        qsort(boxed, ROUNDS, sizeof(*boxed), by_value);
        qsort(bare, ROUNDS, sizeof(*bare), by_value);
        print_message("true: sandboxed %lld us, bare %lld us (medians of %d)\n",
                      (long long)boxed[ROUNDS / 2], (long long)bare[ROUNDS / 2], ROUNDS);
        /* Ten milliseconds are promised on a quiet machine; a test machine may be busy. */
        assert_true(boxed[ROUNDS / 2] - bare[ROUNDS / 2] < 100000);
        scope_done(&c.scope);
}

/* ---- files ---- */

static struct scope scope_of_files(void)
{
        struct scope scope;

        scope_init(&scope, &system_world);
        return scope;
}

static enum err put(struct scope *s, const char *path, const char *text)
{
        return files_write(s, f.spawner, W1, uid_of(W1), str_from(path), str_from(text), 1 << 30);
}

static enum err get(struct scope *s, const char *path, struct str *bytes)
{
        return files_read(s, f.spawner, W1, uid_of(W1), str_from(path), 1 << 20, bytes, &(int64_t){ 0 });
}

static void files_are_written_and_read(void **state)
{
        struct scope s = scope_of_files();
        int64_t size;
        struct str bytes;

        (void)state;
        assert_int_equal(put(&s, "a/b/c.txt", "one"), ERR_OK);
        assert_int_equal(get(&s, "a/b/c.txt", &bytes), ERR_OK);
        assert_str(bytes, "one");
        assert_int_equal(put(&s, "a/b/c.txt", ""), ERR_OK);
        assert_int_equal(get(&s, "a/b/c.txt", &bytes), ERR_OK);
        assert_int_equal(bytes.n, 0);
        assert_non_null(bytes.p);
        assert_int_equal(files_write(&s, f.spawner, W1, uid_of(W1), STR("bin"), STR("\0\xff\0"), 1 << 30),
                         ERR_OK);
        assert_int_equal(get(&s, "./bin", &bytes), ERR_OK);
        assert_true(str_eq(bytes, STR("\0\xff\0")));
        assert_int_equal(files_read(&s, f.spawner, W1, uid_of(W1), STR("bin"), 2, &bytes, &size),
                         ERR_OK);
        assert_int_equal(bytes.n, 2);
        assert_int_equal(size, 3);
        assert_int_equal(get(&s, "a/none", &bytes), ERR_NOT_FOUND);
        assert_int_equal(get(&s, "none/none", &bytes), ERR_NOT_FOUND);
        assert_int_equal(get(&s, "a", &bytes), ERR_VALIDATION);
        assert_int_equal(get(&s, "", &bytes), ERR_VALIDATION);
        assert_int_equal(get(&s, "bin/x", &bytes), ERR_VALIDATION);
        assert_int_equal(put(&s, "a", "x"), ERR_VALIDATION);
        assert_int_equal(put(&s, "", "x"), ERR_VALIDATION);
        assert_int_equal(put(&s, "a/", "x"), ERR_VALIDATION);
        assert_int_equal(put(&s, "bin/x", "x"), ERR_VALIDATION);
        assert_int_equal(
                files_read(&s, f.spawner, STR("never-made"), uid_of(W1), STR("x"), 9, &bytes, &(int64_t){ 0 }),
                ERR_NOT_FOUND);
        scope_done(&s);
}

static void paths_that_lead_outside_are_refused(void **state)
{
        static const char *const paths[] = {
                "../x", "..", "a/../../x", "a/../b", "/etc/passwd", "/"
        };
        struct scope s = scope_of_files();
        struct file_entry *entries;
        struct str bytes;
        size_t n;

        (void)state;
        for (unsigned i = 0; i < LENGTH(paths); i++) {
                assert_int_equal(get(&s, paths[i], &bytes), ERR_VALIDATION);
                assert_has(s.fault.detail, paths[i]);
                assert_int_equal(put(&s, paths[i], "x"), ERR_VALIDATION);
                assert_int_equal(files_mkdir(&s, f.spawner, W1, uid_of(W1), str_from(paths[i])),
                                 ERR_VALIDATION);
                assert_int_equal(
                        files_list(&s, f.spawner, W1, uid_of(W1), str_from(paths[i]), &entries, &n),
                        ERR_VALIDATION);
        }
        assert_int_equal(files_read(&s, f.spawner, W1, uid_of(W1), STR("a\0b"), 9, &bytes, &(int64_t){ 0 }),
                         ERR_VALIDATION);
        scope_done(&s);
}

static void symbolic_links_do_not_lead_outside(void **state)
{
        struct scope s = scope_of_files();
        struct call c = begin();
        struct str bytes;

        NEEDS_SANDBOX();
        (void)state;
        sh(&c,
           "mkdir -p links real && cd links && echo in >../real/file && ln -s /etc/passwd abs && "
           "ln -s ../../../../../../../../etc/passwd up && ln -s /proc/self/root/etc/passwd magic "
           "&& "
           "ln -s / dir && ln -s .. out && ln -s ../.. outer && ln -s ../real/file fine && ln -s "
           "loop loop && mkfifo fifo");
        assert_int_equal(get(&s, "links/abs", &bytes), ERR_VALIDATION);
        assert_has(s.fault.detail, "links/abs");
        assert_int_equal(get(&s, "links/up", &bytes), ERR_VALIDATION);
        assert_int_equal(get(&s, "links/magic", &bytes), ERR_VALIDATION);
        assert_int_equal(get(&s, "links/dir/etc/passwd", &bytes), ERR_VALIDATION);
        assert_int_equal(get(&s, "links/outer/x", &bytes), ERR_VALIDATION);
        assert_int_equal(get(&s, "links/loop", &bytes), ERR_VALIDATION);
        assert_int_equal(get(&s, "links/fifo", &bytes), ERR_VALIDATION);
        assert_int_equal(put(&s, "links/dir/tmp/test-spawner-escaped", "x"), ERR_VALIDATION);
        assert_int_equal(put(&s, "links/outer/escaped", "x"), ERR_VALIDATION);
        assert_int_equal(files_mkdir(&s, f.spawner, W1, uid_of(W1), STR("links/dir/tmp/x/y")),
                         ERR_VALIDATION);
        assert_int_equal(get(&s, "links/fine", &bytes), ERR_OK);
        assert_str(bytes, "in\n");
        assert_int_equal(get(&s, "links/out/real/file", &bytes), ERR_OK);
        /* A write replaces a link, it does not go through it. */
        assert_int_equal(put(&s, "links/abs", "own"), ERR_OK);
        assert_int_equal(get(&s, "links/abs", &bytes), ERR_OK);
        assert_str(bytes, "own");
        sh(&c, "rm -rf links real; echo '#!/bin/sh' >tool; chmod 755 tool");
        assert_int_equal(put(&s, "tool", "#!/bin/sh\necho works\n"), ERR_OK);
        sh(&c, "./tool");
        assert_str(c.result.out, "works\n");
        scope_done(&s);
        scope_done(&c.scope);
}

/* What a command in the workspace may do while the server reads and writes: swap a directory for a
 * link to the outside and back. */
static void *swap(void *stop)
{
        char inside[256], link[256];

        snprintf(inside, sizeof(inside), "%s/" STR_FMT "/race/d", f.workspaces, STR_ARG(W1));
        snprintf(link, sizeof(link), "%s/" STR_FMT "/race/l", f.workspaces, STR_ARG(W1));
        while (!*(_Atomic bool *)stop)
                (void)renameat2(AT_FDCWD, inside, AT_FDCWD, link, RENAME_EXCHANGE);
        return NULL;
}

static void a_race_of_links_leads_nowhere(void **state)
{
        enum { TRIES = 1000 };
        struct scope s = scope_of_files();
        char command[800], path[192];
        _Atomic bool stop = false;
        int within = 0, refused = 0, odd = 0;
        pthread_t thread;
        struct str bytes;
        struct stat st;

        (void)state;
        snprintf(command, sizeof(command),
                 "echo secret >%s/file && chmod 777 %s && ln -s %s %s/" STR_FMT "/race/l", f.outside,
                 f.outside, f.outside, f.workspaces, STR_ARG(W1));
        assert_int_equal(put(&s, "race/d/file", "mine"), ERR_OK);
        must(command);
        assert_int_equal(pthread_create(&thread, NULL, swap, &stop), 0);
        for (int i = 0; i < TRIES; i++) {
                enum err e = get(&s, "race/d/file", &bytes);

                if (!e)
                        assert_str(bytes, "mine");
                within += !e;
                refused += e == ERR_VALIDATION;
                e = put(&s, "race/d/new", "mine");
                /* Counting for the quota may have met the link, and may not enter where it leads. */
                odd += e && e != ERR_VALIDATION && e != ERR_PERMISSION_DENIED;
                scope_done(&s);
                s = scope_of_files();
        }
        stop = true;
        pthread_join(thread, NULL);
        print_message("%d inside, %d refused\n", within, refused);
        assert_int_equal(odd, 0);
        assert_int_equal(within + refused, TRIES);
        assert_true(within > 0 && refused > 0); /* there was a race */
        snprintf(path, sizeof(path), "%s/new", f.outside);
        assert_int_equal(stat(path, &st), -1);
        scope_done(&s);
}

static void directories_are_listed_in_order(void **state)
{
        struct scope s = scope_of_files();
        struct file_entry *entries;
        size_t n;

        (void)state;
        assert_int_equal(files_mkdir(&s, f.spawner, W1, uid_of(W1), STR("list/z/y/x")), ERR_OK);
        assert_int_equal(files_mkdir(&s, f.spawner, W1, uid_of(W1), STR("list/z/y/x")), ERR_OK);
        assert_int_equal(put(&s, "list/b", "12345"), ERR_OK);
        assert_int_equal(put(&s, "list/a", ""), ERR_OK);
        assert_int_equal(files_mkdir(&s, f.spawner, W1, uid_of(W1), STR("list/b/c")),
                         ERR_VALIDATION);
        assert_int_equal(files_list(&s, f.spawner, W1, uid_of(W1), STR("list"), &entries, &n),
                         ERR_OK);
        assert_int_equal(n, 3);
        assert_str(entries[0].name, "a");
        assert_str(entries[1].name, "b");
        assert_int_equal(entries[1].size, 5);
        assert_int_equal(entries[1].type, FILE_REGULAR);
        assert_str(entries[2].name, "z");
        assert_int_equal(entries[2].type, FILE_DIRECTORY);
        assert_string_equal(file_type_names[entries[2].type], "directory");
        assert_int_equal(files_list(&s, f.spawner, W1, uid_of(W1), STR("list/z/y/x"), &entries, &n),
                         ERR_OK);
        assert_int_equal(n, 0);
        assert_int_equal(files_list(&s, f.spawner, W1, uid_of(W1), STR(""), &entries, &n), ERR_OK);
        assert_true(n >= 4);
        assert_int_equal(files_list(&s, f.spawner, W1, uid_of(W1), STR("list/b"), &entries, &n),
                         ERR_VALIDATION);
        assert_int_equal(files_list(&s, f.spawner, W1, uid_of(W1), STR("gone"), &entries, &n),
                         ERR_NOT_FOUND);
        scope_done(&s);
}

static void a_workspace_has_a_quota(void **state)
{
        struct spawner_options options = { .workspaces = f.workspaces };
        struct scope s = scope_of_files();
        struct str w = STR("small");
        int64_t bytes, count;
        struct spawner *own;
        char text[1001];

        (void)state;
        memset(text, 'x', sizeof(text));
        assert_int_equal(started(&s, &options, &own), ERR_OK);
        assert_int_equal(spawner_workspace(&s, own, w, SPAWNER_FIRST_UID + 9), ERR_OK);
        assert_int_equal(spawner_workspace(&s, own, w, SPAWNER_FIRST_UID + 9), ERR_OK);
        if (geteuid() == 0)
                assert_int_equal(spawner_workspace(&s, own, w, SPAWNER_FIRST_UID + 8),
                                 ERR_CONFLICT);
#define PUT(path, n) \
        files_write(&s, own, w, SPAWNER_FIRST_UID + 9, STR(path), (struct str){ text, n }, 1000)
        assert_int_equal(PUT("a/one", 1001), ERR_QUOTA_EXCEEDED);
        assert_has(s.fault.detail, "a/one");
        assert_int_equal(PUT("a/one", 600), ERR_OK);
        assert_int_equal(PUT("two", 401), ERR_QUOTA_EXCEEDED);
        assert_int_equal(PUT("two", 400), ERR_OK);
        assert_int_equal(PUT("a/one", 600), ERR_OK); /* replaces its own bytes */
        assert_int_equal(PUT("a/one", 601), ERR_QUOTA_EXCEEDED);
#undef PUT
        assert_int_equal(files_usage(&s, own, w, SPAWNER_FIRST_UID + 9, &bytes, &count), ERR_OK);
        assert_int_equal(bytes, 1000);
        assert_int_equal(count, 6); /* with four directories */
        spawner_free(own);
        scope_done(&s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_command_runs_and_its_output_comes_back),
                cmocka_unit_test(exit_codes_are_exact),
                cmocka_unit_test(bad_requests_are_refused),
                cmocka_unit_test(cwd_is_inside_the_workspace),
                cmocka_unit_test(a_timeout_kills_the_whole_tree),
                cmocka_unit_test(a_cancel_kills_the_whole_tree),
                cmocka_unit_test(output_is_bounded),
                cmocka_unit_test(output_becomes_utf8),
                cmocka_unit_test(bytes_are_made_utf8),
                cmocka_unit_test(the_environment_is_clean),
                cmocka_unit_test(there_is_no_network),
                cmocka_unit_test(nothing_else_of_the_host_is_seen),
                cmocka_unit_test(workspaces_are_apart),
                cmocka_unit_test(hole_1_the_kernel_of_the_host_is_not_writable),
                cmocka_unit_test(hole_2_nothing_leaks_through_process_1),
                cmocka_unit_test(hole_3_no_descriptor_is_inherited),
                cmocka_unit_test(hole_4_every_tmpfs_has_a_size),
                cmocka_unit_test(system_calls_are_filtered),
                cmocka_unit_test(resources_are_bounded),
                cmocka_unit_test(a_checkout_below_a_closed_directory_is_shown_read_only),
                cmocka_unit_test(only_paths_below_the_git_roots_are_allowed),
                cmocka_unit_test(a_source_is_shown_without_bubblewrap_too),
                cmocka_unit_test(a_replaced_directory_of_workspaces_is_noticed),
                cmocka_unit_test(without_bubblewrap_nothing_runs),
                cmocka_unit_test(a_trial_that_cannot_begin_says_why),
                cmocka_unit_test(the_server_may_drop_its_privileges),
                cmocka_unit_test(the_tree_dies_with_the_server),
                cmocka_unit_test(the_tree_dies_with_the_spawner),
                cmocka_unit_test(stopping_the_spawner_ends_a_run),
                cmocka_unit_test(many_threads_at_once),
                cmocka_unit_test(a_sandbox_costs_little),
                cmocka_unit_test(files_are_written_and_read),
                cmocka_unit_test(paths_that_lead_outside_are_refused),
                cmocka_unit_test(symbolic_links_do_not_lead_outside),
                cmocka_unit_test(a_race_of_links_leads_nowhere),
                cmocka_unit_test(directories_are_listed_in_order),
                cmocka_unit_test(a_workspace_has_a_quota),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
