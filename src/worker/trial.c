#include "worker/trial.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "worker/spawner.h"
#include "worker/spawner_child.h"

/* What a command that is tried gets, our end of each first. */
enum { OUT, TOLD, CONTROL, CHANNELS };

static void close_ends(int channels[CHANNELS][2], int which)
{
        for (int i = 0; i < CHANNELS; i++) {
                if (channels[i][which] >= 0)
                        close(channels[i][which]);
                channels[i][which] = -1;
        }
}

static bool open_channels(int channels[CHANNELS][2])
{
        for (int i = 0; i < CHANNELS; i++)
                channels[i][0] = channels[i][1] = -1;
        return !pipe2(channels[OUT], O_CLOEXEC) && !pipe2(channels[TOLD], O_CLOEXEC) &&
               !socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channels[CONTROL]);
}

static void read_to_end(int fd, char *text, size_t size)
{
        size_t n = 0;
        ssize_t got;

        while (n < size - 1 && (got = read(fd, text + n, size - 1 - n)) > 0)
                n += (size_t)got;
        text[n] = 0;
}

static void run_true(const struct sandbox *box, int channels[CHANNELS][2], pid_t parent) NORETURN;
static void run_true(const struct sandbox *box, int channels[CHANNELS][2], pid_t parent)
{
        static char name[] = "true";
        char *const argv[] = { name, NULL };
        struct sandbox_run run = { .uid = box->first_uid,
                                   .cwd = SANDBOX_WORKSPACE,
                                   .argv = argv,
                                   .file_size_cap = INT64_C(1) << 30,
                                   .process_cap = SPAWN_PROCESSES,
                                   .control = channels[CONTROL][1],
                                   .out = channels[OUT][1],
                                   .err = channels[OUT][1],
                                   .status = channels[TOLD][1],
                                   .parent = parent };

        spawner_child_reset_signals();
        sandbox_exec(box, &run);
}

/* Runs `true` in a sandbox of this very kind; the sentence says what failed. */
static bool try_kind(const struct sandbox *box, char *why, size_t size)
{
        int channels[CHANNELS][2], status = 0;
        struct wire_reply fault = { 0 };
        pid_t parent = getpid(), pid = open_channels(channels) ? fork() : -1;
        char words[1024];
        bool works = false;

        if (!pid)
                run_true(box, channels, parent);
        if (pid < 0)
                snprintf(why, size, "cannot be tried: %s", strerror(errno));
        close_ends(channels, 1);
        if (pid > 0) {
                read_to_end(channels[OUT][0], why, size);
                why[strcspn(why, "\n")] = 0;
                (void)waitpid(pid, &status, 0);
                read_to_end(channels[TOLD][0], words, sizeof(words));
                if (wire_receive(channels[CONTROL][0], &fault, sizeof(fault), MSG_DONTWAIT, NULL,
                                 NULL) == 1)
                        snprintf(why, size, "%.*s", (int)size - 1, fault.text);
                works = WIFEXITED(status) && !WEXITSTATUS(status) &&
                        strstr(words, "\"exit-code\": 0");
                if (!works && !*why)
                        snprintf(why, size, "it ended with status %d", status);
        }
        close_ends(channels, 0);
        return works;
}

void trial_choose(struct sandbox *box, const char *asked, struct wire_reply *hello)
{
        struct buf text = BUF_INIT(sizeof(hello->text) - 1);
        bool works = false;
        char why[400];

        for (unsigned i = 0; !works && sandbox_kind(box, asked, i); i++) {
                works = try_kind(box, why, sizeof(why));
                if (!works)
                        buf_printf(&text, "%s%s%s: %s", text.n ? "; " : "",
                                   runtime_names[box->runtime],
                                   box->namespaces ? "" : " without namespaces", why);
        }
        if (!works)
                box->runtime = RUNTIME_NONE;
        hello->hello.runtime = box->runtime;
        hello->hello.landlock = (uint32_t)box->landlock;
        hello->hello.namespaces = box->namespaces;
        if (text.n)
                memcpy(hello->text, text.p, text.n);
        buf_done(&text);
}
