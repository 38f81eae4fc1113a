#include "cli/connect.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/reply.h"

enum {
        READY_SECONDS = 10,
        RESTART_PAUSE_MS = 200,
        SMALL_FILE = 4096,
        OTHER_SECONDS = 120, /* for the server of another run to end */
        WORDS_MAX = 1024,
};

static int64_t boot(const struct cli *cli)
{
        return cli->scope.world->clock->boot(cli->scope.world->clock->ctx);
}

static void pause_ms(long ms)
{
        const struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

        nanosleep(&t, NULL);
}

/* ---- files of the data directory ---- */

static const char *in_data(struct cli *cli, const char *name)
{
        return arena_printf(&cli->scope.arena, "%s/%s", cli->connection.data, name).p;
}

/* The trimmed text of a small file, or NULL. */
static const char *small_file(struct cli *cli, const char *path)
{
        char text[SMALL_FILE];
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text));

        if (fd >= 0)
                close(fd);
        if (n <= 0)
                return NULL;
        return str_c(&cli->scope.arena, str_trim((struct str){ text, (size_t)n }));
}

enum err find_data(struct cli *cli, bool make)
{
        const char *data = cli_setting(cli, "data", "BATON_DATA"), *home = getenv("HOME");
        char *text, whole[PATH_MAX];

        if (!data)
                data = arena_printf(&cli->scope.arena, "%s/.local/share/baton",
                                    home ? home : "/root")
                               .p;
        text = str_c(&cli->scope.arena, str_from(data));
        for (char *c = text + 1; make && *text; c++) {
                char was = *c;

                if (was && was != '/')
                        continue;
                *c = '\0';
                if (mkdir(text, 0700) && errno != EEXIST)
                        return fail(&cli->scope, ERR_UNAVAILABLE, "cannot make %s: %s", text,
                                    strerror(errno));
                *c = was;
                if (!was)
                        break;
        }
        if (realpath(text, whole))
                text = str_c(&cli->scope.arena, str_from(whole));
        cli->connection.data = text;
        cli->connection.socket = in_data(cli, "baton.sock");
        return ERR_OK;
}

/* Is somebody there, and which process? */
static bool socket_answers(const char *path, pid_t *process)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        struct ucred peer = { 0 };
        socklen_t size = sizeof(peer);
        bool ok;
        int fd;

        if (strlen(path) >= sizeof(address.sun_path))
                return false;
        memcpy(address.sun_path, path, strlen(path) + 1);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        ok = fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
        if (ok && process)
                *process = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) ? 0 : peer.pid;
        if (fd >= 0)
                close(fd);
        return ok;
}

bool data_is_served(struct cli *cli)
{
        return socket_answers(cli->connection.socket, NULL);
}

/* ---- starting a server ---- */

static void become_server(struct cli *cli, const char *log)
{
        int null = open("/dev/null", O_RDONLY),
            out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
        sigset_t none;

        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        setsid(); /* Ctrl-C at the terminal is not meant for it */
        if (null < 0 || out < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
                _exit(6);
        closefrom(3);
        execv("/proc/self/exe", (char *const *)(uintptr_t)cli->connection.server_argv);
        _exit(6);
}

static void start_server(struct cli *cli)
{
        const char *log = in_data(cli, "server.log");
        pid_t child = fork();

        if (child == 0)
                become_server(cli, log);
        cli->connection.child = child > 0 ? child : 0;
        cli->connection.started_at = boot(cli);
}

static bool child_lives(struct cli *cli)
{
        struct connection *c = &cli->connection;

        if (c->child > 0 && waitpid(c->child, NULL, WNOHANG) != 0)
                c->child = 0;
        return c->child > 0;
}

/* Somebody lost the connection: a server that was started here, or by another `baton run`, is
 * started again when it died. */
static void revive(void *ctx)
{
        struct cli *cli = ctx;
        struct connection *c = &cli->connection;

        if (!c->started_at || child_lives(cli) || socket_answers(c->socket, NULL))
                return;
        if (boot(cli) - c->started_at > RESTART_PAUSE_MS * US_PER_MS)
                start_server(cli);
}

static const char *last_line(struct cli *cli, const char *path)
{
        char text[SMALL_FILE + 1];
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        struct str s;
        ssize_t n;
        off_t size;

        if (fd < 0)
                return "";
        size = lseek(fd, 0, SEEK_END);
        n = pread(fd, text, SMALL_FILE, size > SMALL_FILE ? size - SMALL_FILE : 0);
        close(fd);
        s = str_trim((struct str){ text, n > 0 ? (size_t)n : 0 });
        for (size_t i = s.n; i > 0; i--)
                if (s.p[i - 1] == '\n') {
                        s = str_slice(s, i, s.n);
                        break;
                }
        return str_c(&cli->scope.arena, s);
}

static bool is_ready(struct cli *cli)
{
        const struct http_call call = { .method = "GET", .path = "/readyz" };
        struct http_response response;

        return socket_answers(cli->connection.socket, NULL) &&
               !http_call(&cli->scope, cli->connection.client, &call, &response) &&
               response.status == 200;
}

/* Two commands may start one at the same time: the loser's child dies, and the winner answers. */
static enum err wait_until_ready(struct cli *cli)
{
        int64_t until = cli->connection.started_at + READY_SECONDS * US_PER_S;
        int64_t gone = 0;

        while (boot(cli) < until && (!gone || boot(cli) < gone)) {
                if (is_ready(cli))
                        return ERR_OK;
                if (!gone && !child_lives(cli))
                        gone = boot(cli) + 2 * US_PER_S;
                pause_ms(10);
        }
        return fail(&cli->scope, ERR_UNAVAILABLE, "the server did not start: %s; see %s",
                    last_line(cli, in_data(cli, "server.log")), in_data(cli, "server.log"));
}

static void prepare_server(struct cli *cli, const char *const *roots, size_t n)
{
        const char **argv = arena_array(&cli->scope.arena, const char *, 2 * n + 8);
        size_t i = 0;

        argv[i++] = "baton";
        argv[i++] = "serve";
        argv[i++] = "--data";
        argv[i++] = cli->connection.data;
        argv[i++] = "--listen";
        argv[i++] = "127.0.0.1:0";
        argv[i++] = "--exit-when-idle";
        for (size_t k = 0; k < n; k++) {
                argv[i++] = "--git-local-root";
                argv[i++] = roots[k];
        }
        cli->connection.server_argv = argv;
}

/* ---- a server that another `baton run` started ---- */

static bool is_below(const char *path, struct str root)
{
        size_t n = root.n;

        while (n > 1 && root.p[n - 1] == '/')
                n--;
        return n && strncmp(path, root.p, n) == 0 && (n == 1 || path[n] == '/' || path[n] == '\0');
}

static bool is_covered(struct str *words, size_t n, const char *path)
{
        for (size_t i = 1; i < n; i++)
                if (str_is(words[i - 1], "--git-local-root") && is_below(path, words[i]))
                        return true;
        return false;
}

static size_t command_line(struct cli *cli, pid_t process, struct str *words, size_t max)
{
        const char *path = arena_printf(&cli->scope.arena, "/proc/%d/cmdline", (int)process).p;
        struct buf text = BUF_INIT(1 << 20);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        struct str rest;
        size_t n = 0;
        ssize_t got;

        while (fd >= 0 && buf_reserve(&text, 4096) && (got = read(fd, text.p + text.n, 4096)) > 0)
                text.n += (size_t)got;
        if (fd >= 0)
                close(fd);
        rest = str_dup(&cli->scope.arena, buf_view(&text));
        while (rest.n && n < max)
                words[n++] = str_cut(rest, '\0', &rest);
        buf_done(&text);
        return n;
}

enum found { FOUND_OPERATORS, FOUND_PASSING, FOUND_TOO_NARROW };

/* Whose server answers there?  One that ends when it is idle is treated as if it had been started
 * here, unless it may not read a directory that is needed. */
static enum found look_at(struct cli *cli, pid_t process, const char *const *roots, size_t n)
{
        struct str words[WORDS_MAX];
        size_t n_words = process > 0 ? command_line(cli, process, words, WORDS_MAX) : 0;
        const char **argv = arena_array(&cli->scope.arena, const char *, n_words + 1);
        bool passing = false;

        for (size_t i = 0; i < n_words; i++) {
                argv[i] = str_c(&cli->scope.arena, words[i]);
                passing |= strcmp(argv[i], "--exit-when-idle") == 0;
        }
        if (!passing || n_words == WORDS_MAX)
                return FOUND_OPERATORS;
        for (size_t i = 0; i < n; i++)
                if (!is_covered(words, n_words, roots[i]))
                        return FOUND_TOO_NARROW;
        cli->connection.server_argv = argv;
        return FOUND_PASSING;
}

/* Without connecting, which would keep it from being idle. */
static void wait_for_end(struct cli *cli, pid_t process)
{
        int64_t until = boot(cli) + OTHER_SECONDS * US_PER_S;

        fprintf(cli->err.to, "waiting for another run's server to end, which may not read what this"
                             " run needs\n");
        while (boot(cli) < until && kill(process, 0) == 0)
                pause_ms(50);
}

/* ---- the client ---- */

static enum err key_of(struct cli *cli, const char **out)
{
        const char *file = cli_option(cli, "key-file"), *key = cli_setting(cli, "key", "BATON_KEY");

        *out = key;
        if (cli_option(cli, "key") || !file)
                return ERR_OK;
        *out = small_file(cli, file);
        return *out ? ERR_OK :
                      fail_field(&cli->scope, "key-file", ERR_VALIDATION,
                                 "cannot read a key from %s: %s", file,
                                 errno ? strerror(errno) : "it is empty");
}

static void make_client(struct cli *cli, const char *base, const char *socket, const char *key)
{
        const struct http_client_options options = {
                .base = base,
                .unix_socket = socket,
                .key = key,
                .workspace = cli_setting(cli, "workspace", "BATON_WORKSPACE"),
                .revive = cli->connection.started_at ? revive : NULL,
                .revive_ctx = cli,
        };

        http_client_free(cli->connection.client);
        cli->connection.client = http_client_new(&options);
}

/* The address as typed: scheme added, slash at the end removed. */
static enum err named_server(struct cli *cli, const char *server, const char *key)
{
        struct str text = str_from(server);
        const char *base, *listen;

        if (str_starts(text, "unix:")) {
                make_client(cli, "http://localhost", server + 5, key);
                return ERR_OK;
        }
        while (text.n && text.p[text.n - 1] == '/')
                text.n--;
        if (!str_starts(text, "http://") && !str_starts(text, "https://"))
                text = arena_printf(&cli->scope.arena, "http://" STR_FMT, STR_ARG(text));
        base = str_c(&cli->scope.arena, text);
        /* The local server by its address: its key lies beside it. */
        if (!key && !find_data(cli, false)) {
                listen = small_file(cli, in_data(cli, "listen"));
                if (listen && str_is(text, arena_printf(&cli->scope.arena, "http://%s", listen).p))
                        key = small_file(cli, in_data(cli, "admin.key"));
        }
        make_client(cli, base, NULL, key);
        return ERR_OK;
}

enum err connect_server(struct cli *cli)
{
        const char *server = cli_setting(cli, "server", "BATON_SERVER"), *key;
        enum err e = key_of(cli, &key);

        if (e)
                return e;
        if (server)
                return named_server(cli, server, key);
        e = find_data(cli, false);
        if (e)
                return e;
        if (!socket_answers(cli->connection.socket, NULL))
                return fail(&cli->scope, ERR_UNAVAILABLE,
                            "no server runs in %s; start one with `baton serve`, or name one with"
                            " --server or --data",
                            cli->connection.data);
        make_client(cli, "http://localhost", cli->connection.socket, key);
        return ERR_OK;
}

bool connection_may_start(const struct cli *cli)
{
        return !cli_setting(cli, "server", "BATON_SERVER");
}

/* True when the server that runs there serves. */
static bool use_running(struct cli *cli, const char *const *roots, size_t n, const char *key)
{
        pid_t process = 0;
        enum found found;

        if (!socket_answers(cli->connection.socket, &process) || !is_ready(cli))
                return false;
        found = look_at(cli, process, roots, n);
        http_client_free(cli->connection.client); /* whose open connection would count as work */
        cli->connection.client = NULL;
        if (found == FOUND_TOO_NARROW)
                wait_for_end(cli, process);
        if (found == FOUND_PASSING)
                cli->connection.started_at = boot(cli);
        make_client(cli, "http://localhost", cli->connection.socket, key);
        return found != FOUND_TOO_NARROW || is_ready(cli);
}

enum err connect_or_start(struct cli *cli, const char *const *git_roots, size_t n)
{
        const char *key;
        enum err e;

        if (!connection_may_start(cli))
                return connect_server(cli);
        e = key_of(cli, &key);
        if (!e)
                e = find_data(cli, true);
        if (e)
                return e;
        make_client(cli, "http://localhost", cli->connection.socket, key);
        if (use_running(cli, git_roots, n, key))
                return ERR_OK;
        prepare_server(cli, git_roots, n);
        start_server(cli);
        e = wait_until_ready(cli);
        if (!e)
                make_client(cli, "http://localhost", cli->connection.socket, key);
        return e;
}

bool server_is_there(struct cli *cli)
{
        const struct http_call call = { .method = "GET", .path = "/livez" };
        struct http_response response;
        enum err e = connect_server(cli);

        if (!e)
                e = http_call(&cli->scope, cli->connection.client, &call, &response);
        return !e;
}

void connection_done(struct cli *cli)
{
        http_client_free(cli->connection.client);
}
