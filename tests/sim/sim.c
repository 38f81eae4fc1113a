/*
 * sim --seeds 1..200 --ops 5000 [--tell] [--counts] [--log]
 *
 * --tell: of a violation, the whole history around it; --counts: how often each state was met; --log:
 * what the server logs.
 * One line `seed N hash HEX` each; the hash is over all rows, events and answers: the first seed is
 * run twice and must give the same one.  Ends with `N passed, N failed` and the line of the ledger.  A run of
 * 500,000 operations or more that has not met everything in reach.def has failed: the rarest of it is
 * met once in 20 seeds of 5,000.
 */
#include <fcntl.h>
#include <getopt.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "sim.h"

enum { ALL_EVERY = 100, REACH_OPS = 500000 };

static const char *const sentences[REACH_COUNT] = {
#define REACH(name, sentence) sentence,
#include "reach.def"
#undef REACH
};

/* ---- one seed ---- */

static void turn(struct sim *s)
{
        server_turn(s);
        model_turn(s);
}

/* Until nothing is queued: what waits then waits rightly. */
static void settle(struct sim *s)
{
        for (int i = 0; i < 50 && !s->failed; i++) {
                turn(s);
                if (!s->n_served)
                        break;
        }
        if (!s->failed)
                model_all(s);
}

static void restart(struct sim *s)
{
        if (one_in(&s->w, 2))
                turn(s); /* the calls were carried out, and their answers are on their way */
        server_stop(s);
        s->w.boot += roll(&s->w, 20 * US_PER_S);
        s->w.wall += roll(&s->w, 20 * US_PER_S);
        s->restarts++;
        if (!s->failed)
                server_start(s, false);
}

static void set_wall(struct sim *s)
{
        static const int64_t jumps[] = { 1, 60, 3600, 86400 };
        int64_t jump = jumps[roll(&s->w, LENGTH(jumps))] * US_PER_S;

        if (one_in(&s->w, 2)) {
                s->w.wall += jump;
                reached(s, CLOCK_AHEAD);
        } else {
                s->w.wall -= jump;
                s->wall_epoch++;
                if (s->tick_wall > s->w.wall)
                        s->tick_wall = s->w.wall;
                reached(s, CLOCK_BACK);
        }
}

static void mischief(struct sim *s)
{
        int64_t dice = roll(&s->w, 1000);

        if (dice < 1)
                restart(s);
        else if (dice < 7)
                set_wall(s);
        else if (dice < 9)
                s->w.boot += 3 * US_PER_S + roll(&s->w, 40 * US_PER_S);
        else if (dice < 12)
                s->fail_commit = true;
        else if (dice < 22 && s->waiters) /* a client that waits leaves */
                s->waiters->claim.gone = s->waiters->kind == OP_CLAIM;
}

static void step(struct sim *s)
{
        int64_t passed = roll(&s->w, one_in(&s->w, 10) ? 800 : 120) * US_PER_MS;
        int burst = one_in(&s->w, 3) ? 1 + (int)roll(&s->w, BATCH) : 1;

        s->w.wall += passed;
        s->w.boot += passed;
        for (int i = 0; i < burst; i++) {
                if (one_in(&s->w, 2))
                        worker_act(&s->workers[roll(&s->w, WORKERS)]);
                else
                        op_client(s);
        }
        if (burst > BATCH / 2) /* branches of one step end together */
                for (int i = 0; i < WORKERS; i++)
                        worker_act(&s->workers[i]);
        for (int i = 0; i < FOLLOWERS; i++)
                if (s->followers[i].tree && s->followers[i].woken && !s->followers[i].reading)
                        follower_read(s, &s->followers[i]);
        turn(s);
}

static void free_all(struct sim *s)
{
        struct map *const owned[] = { &s->tasks, &s->runs, &s->trees, &s->reviews };
        struct map *const maps[] = { &s->tasks, &s->runs, &s->trees, &s->reviews, &s->tokens, &s->open_approvals };

        for (size_t i = 0; i < s->tasks.size; i++)
                if (s->tasks.slots[i].value)
                        graph_free(s->tasks.slots[i].value);
        for (size_t m = 0; m < LENGTH(owned); m++)
                for (size_t i = 0; i < owned[m]->size; i++)
                        free(owned[m]->slots[i].value);
        for (size_t m = 0; m < LENGTH(maps); m++)
                free(maps[m]->slots);
        for (int i = 0; i < WORKERS; i++)
                scope_done(&s->workers[i].scope);
        rows_close(s->rows);
        free(s->statements);
        free(s);
}

static bool run_seed(uint64_t seed, int64_t ops, bool tell, int64_t *reached, int64_t *done,
                     uint64_t *hash)
{
        struct sim *s = xcalloc(1, sizeof(*s));
        int64_t all_at = ALL_EVERY;
        bool passed;

        world_init(&s->w, seed);
        s->seed = seed;
        s->reached = reached;
        s->hash = HASH_START;
        snprintf(s->path, sizeof(s->path), "file:/sim-%llu?vfs=memdb", (unsigned long long)seed);
        s->rows = rows_open(s->path);
        for (int i = 0; i < WORKERS; i++) {
                s->workers[i].sim = s;
                scope_init(&s->workers[i].scope, &s->w.world);
        }
        server_start(s, true);
        while (s->ops < ops && !s->failed) {
                mischief(s);
                if (!s->failed)
                        step(s);
                if (s->ops >= all_at && !s->failed) {
                        settle(s);
                        all_at = s->ops + ALL_EVERY;
                }
        }
        if (!s->failed)
                settle(s);
        server_stop(s);
        if (!s->failed)
                model_end(s);
        *hash = s->hash;
        if (!s->failed)
                printf("seed %llu hash %016llx\n", (unsigned long long)seed,
                       (unsigned long long)s->hash);
        else if (tell)
                rows_tell(s->rows, s->suspect);
        fflush(stdout);
        *done += s->ops;
        passed = !s->failed;
        free_all(s);
        return passed;
}

/* ---- all seeds ---- */

static int64_t cpu_us(void)
{
        struct rusage used;

        getrusage(RUSAGE_SELF, &used);
        return (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * US_PER_S + used.ru_utime.tv_usec +
               used.ru_stime.tv_usec;
}

static int unmet(const int64_t *reached)
{
        int n = 0;

        for (int i = 0; i < REACH_COUNT; i++) {
                if (reached[i])
                        continue;
                printf("not met: %s\n", sentences[i]);
                n++;
        }
        return n;
}

int main(int argc, char **argv)
{
        static const struct option options[] = { { "seeds", required_argument, NULL, 's' },
                                                 { "ops", required_argument, NULL, 'o' },
                                                 { "tell", no_argument, NULL, 't' },
                                                 { "log", no_argument, NULL, 'l' },
                                                 { "counts", no_argument, NULL, 'c' },
                                                 { 0 } };
        unsigned long long first = 1, last = 1;
        int64_t reached[REACH_COUNT] = { 0 }, ops = 5000, done = 0;
        int passed = 0, failed = 0, option;
        uint64_t hash[2] = { 0 };
        bool log = false, counts = false, tell = false;

        while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
                if (option == 's' && sscanf(optarg, "%llu..%llu", &first, &last) == 1)
                        last = first;
                else if (option == 'o')
                        ops = strtoll(optarg, NULL, 10);
                else if (option == 'l')
                        log = true;
                else if (option == 't')
                        tell = true;
                else if (option == 'c')
                        counts = true;
                else if (option == '?')
                        return 2;
        }
        if (!log) { /* failing commits and late ticks are logged, and they are on purpose */
                stderr = fdopen(dup(STDERR_FILENO), "w");
                dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
        }
        sqlite3_config(SQLITE_CONFIG_URI, 1);
        sqlite3_config(SQLITE_CONFIG_SINGLETHREAD);
        sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
        for (unsigned long long seed = first; seed <= last; seed++)
                run_seed(seed, ops, tell, reached, &done, &hash[seed > first]) ? passed++ : failed++;
        if (last > first) {
                run_seed(first, ops, tell, reached, &done, &hash[1]);
                if (hash[0] != hash[1])
                        printf("seed %llu is not the same the second time\n", first);
                hash[0] == hash[1] ? passed++ : failed++;
        }
        for (int i = 0; counts && i < REACH_COUNT; i++)
                printf("%8lld  %s\n", (long long)reached[i], sentences[i]);
        if (!failed && done >= REACH_OPS && unmet(reached))
                failed++;
        printf("%lld operations, %.0f a second of one core\n", (long long)done,
               (double)done * 1e6 / (double)cpu_us());
        printf("%d passed, %d failed\n", passed, failed);
        printf("ledger {\"suite\": \"sim\", \"seed\": %llu, \"cycles\": %llu, \"operations\": %lld,"
               " \"failures\": %d}\n",
               first, last - first + 1, (long long)done, failed);
        return failed != 0;
}
