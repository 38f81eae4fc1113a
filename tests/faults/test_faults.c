/*
 * Every n-th write, sync, truncation, opening and reading of the database and its log fails, once or
 * for ever, under the production store and domain.  Whatever fails: nothing acknowledged is lost,
 * nothing refused has an effect, nothing is acknowledged after a failed commit before the file was
 * opened again and its log emptied, the file is sound, rows are what their events add up to, and the
 * program serves again by itself.
 *
 *     test_faults [all]    all: each position with each error, once and for ever; minutes
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#undef fail /* ours has arguments */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/log.h"
#include "home.h"
#include "rig.h"
#include "store/reserve.h"
#include "workers.h"

static const enum deed script[] = {
        DEED_CREATE,    DEED_GROUP,    DEED_CLAIM,    DEED_START,  DEED_HEARTBEAT,
        DEED_CLAIM,     DEED_STALE,    DEED_COMPLETE, DEED_CLAIM,  DEED_FAIL,
        DEED_PATCH,     DEED_IDLE,     DEED_CREATE,   DEED_CLAIM,  DEED_RELEASE,
        DEED_RESTART,   DEED_CREATE,   DEED_CLAIM,    DEED_COMPLETE, DEED_CANCEL,
        DEED_RETRY,     DEED_IDLE,
};

static const char *const op_names[] = { "opening", "read", "write", "sync", "truncation" };
static const char *const file_names[] = { "the database", "the log", "the journal" };
static const char *const error_names[] = { "EIO", "ENOSPC", "a short write" };

/* Errors that each call can have. */
static const int errors_of[VFS_OPS] = {
        [VFS_OPEN] = 1, [VFS_READ] = 1, [VFS_WRITE] = 3, [VFS_SYNC] = 2, [VFS_TRUNCATE] = 2,
};

struct matrix {
        struct vfs *vfs;
        struct rig reference; /* nothing failed */
        struct rig rig;
        int64_t calls[VFS_OPS][VFS_FILES];
        enum vfs_op op;
        bool all;
        struct home home;
};

static void matrix_begin(void *context)
{
        home_make(&((struct matrix *)context)->home);
}

static void matrix_end(void *context)
{
        home_remove(&((struct matrix *)context)->home);
}

/* ---- one fault ---- */

static void begin(struct matrix *m, const struct vfs_fault *fault)
{
        home_empty(&m->home);
        rig_init(&m->rig, m->vfs, m->home.database, 1);
        m->rig.watching = fault ? RIG_FAULT : RIG_ALL;
        vfs_watch(m->vfs, fault);
}

/* As an operator does, a program that does not start is started again. */
static void keep_up(struct rig *rig)
{
        for (int i = 0; i < 3 && !rig->store; i++)
                if (!rig_open(rig))
                        return;
}

static void play(struct rig *rig)
{
        keep_up(rig);
        for (size_t i = 0; i < LENGTH(script); i++) {
                if (!rig->store)
                        keep_up(rig);
                if (rig->store && rig_do(rig, script[i]) && !rig->store)
                        keep_up(rig);
        }
}

/* The turn in which it failed did all of what the same turn does otherwise, or nothing. */
static const char *judge_turn(const struct matrix *m)
{
        const struct rig *rig = &m->rig;
        int t = rig->fault_turn;
        const struct digest *before = &m->reference.states[t - 1], *after = &m->reference.states[t];

        if (t < 2)
                return NULL; /* still being made */
        if (!digest_eq(&rig->remains[t], before) && !digest_eq(&rig->remains[t], after))
                return "a kill would leave a part of what was done";
        if (rig->fault_told && rig->store && !digest_eq(&rig->states[t], before))
                return "what was answered with an error had an effect";
        if (!rig->fault_told && !digest_eq(&rig->states[t], before) &&
            !digest_eq(&rig->states[t], after))
                return "a part of what was done is there";
        if (rig->refusals[t] > m->reference.refusals[t])
                return "refused for a reason that was not there";
        return NULL;
}

/* What a kill leaves now: opened by the production store, it is what readers see. */
static const char *judge_kill(const struct matrix *m, char *why, size_t n)
{
        struct digest seen = m->rig.store ? image_digest(m->home.database) : (struct digest){ 0 }, found;
        struct rig after;
        char copy[128];

        snprintf(copy, sizeof(copy), "%s/killed", m->home.path);
        image_copy(m->home.database, copy);
        found = image_digest(copy);
        if (m->rig.store && !digest_eq(&seen, &found) &&
            !digest_eq(&found, &m->rig.remains[m->rig.fault_turn]))
                return "after a kill the file differs from what readers saw";
        rig_init(&after, m->vfs, copy, 1);
        if (rig_open(&after))
                return "after a kill the program does not start";
        rig_close(&after);
        return image_holds(copy, why, n) ? NULL : why;
}

static const char *judge_healed(struct matrix *m, char *why, size_t n)
{
        struct rig *rig = &m->rig;
        struct digest seen, found;

        if (!rig->store && rig_open(rig))
                return "the disk works again, the program does not start";
        rig_do(rig, DEED_IDLE);
        if (rig_do(rig, DEED_CREATE))
                return "the disk works again, the program does not serve";
        if (rig->early)
                return "acknowledged before the file was opened again and its log emptied";
        if (image_count(m->home.database, "task") != rig->created)
                return "tasks that were acknowledged, and only these, should be there";
        seen = image_digest(m->home.database);
        rig_close(rig);
        found = image_digest(m->home.database);
        if (!digest_eq(&seen, &found))
                return "closing changed what is there";
        return image_holds(m->home.database, why, n) ? NULL : why;
}

/* 1 if something is wrong. */
static int64_t survive(struct matrix *m, const struct vfs_fault *fault)
{
        char text[512];
        const char *why = NULL;

        begin(m, fault);
        play(&m->rig);
        if (m->rig.fault_turn) {
                why = judge_turn(m);
                vfs_watch(m->vfs, NULL);
                if (!why)
                        why = judge_kill(m, text, sizeof(text));
                if (!why)
                        why = judge_healed(m, text, sizeof(text));
        }
        vfs_watch(m->vfs, NULL);
        rig_close(&m->rig);
        if (why)
                print_message("%s %lld of %s, %s, %s (turn %d): %s\n", op_names[fault->op],
                              (long long)fault->at, file_names[fault->file],
                              error_names[fault->error], fault->forever ? "for ever" : "once",
                              m->rig.fault_turn, why);
        return why != NULL;
}

/* ---- all of them ---- */

static int64_t survive_position(int64_t i, void *context)
{
        struct matrix *m = context;
        int variants = 2 * errors_of[m->op];
        int64_t found = 0, at = i;
        enum vfs_file file = VFS_DATABASE;

        while (at >= m->calls[m->op][file])
                at -= m->calls[m->op][file++];
        for (int v = 0; v < variants; v++) {
                const struct vfs_fault fault = { .op = m->op,
                                                 .file = file,
                                                 .at = at + 1,
                                                 .error = (enum vfs_error)(v / 2),
                                                 .forever = v & 1 };

                /* In a short run the positions take turns with the variants. */
                if (m->all || m->op == VFS_OPEN || m->op == VFS_TRUNCATE || at % variants == v)
                        found += survive(m, &fault);
        }
        return found;
}

static void anything_may_fail(struct matrix *m, enum vfs_op op)
{
        int64_t n = 0;

        m->op = op;
        for (int file = 0; file < VFS_FILES; file++)
                n += m->calls[op][file];
        assert_true(n > 0);
        print_message("positions: %lld\n", (long long)n);
        assert_int_equal(workers_share(n, matrix_begin, survive_position, matrix_end, m), 0);
}

static void without_a_fault_everything_is_done(void **state)
{
        struct matrix *m = *state;
        char why[512];

        begin(m, NULL);
        play(&m->rig);
        memcpy(m->calls, m->vfs->calls, sizeof(m->calls));
        assert_int_equal(m->rig.unknown, 0);
        assert_int_equal(m->rig.refused, 2); /* the stale token, and the one of the group */
        assert_int_equal(image_count(m->home.database, "task"), m->rig.created);
        for (int i = 2; i <= m->rig.turn; i++)
                assert_true(digest_eq(&m->rig.states[i], &m->rig.remains[i]));
        if (!image_holds(m->home.database, why, sizeof(why)))
                assert_string_equal(why, "");
        m->reference = m->rig;
        rig_close(&m->rig);
}

static void every_opening_may_fail(void **state)
{
        anything_may_fail(*state, VFS_OPEN);
}

static void every_read_may_fail(void **state)
{
        anything_may_fail(*state, VFS_READ);
}

static void every_write_may_fail(void **state)
{
        anything_may_fail(*state, VFS_WRITE);
}

static void every_sync_may_fail(void **state)
{
        anything_may_fail(*state, VFS_SYNC);
}

static void every_truncation_may_fail(void **state)
{
        anything_may_fail(*state, VFS_TRUNCATE);
}

/* A lane that a call has made in the same commit as another call that was undone. */
static void what_a_commit_made_is_known_although_a_call_of_it_was_undone(void **state)
{
        struct matrix *m = *state;

        begin(m, NULL);
        assert_int_equal(rig_open(&m->rig), ERR_OK);
        assert_int_equal(rig_do(&m->rig, DEED_GROUP), ERR_OK);
        assert_int_equal(m->rig.refused, 1);
        assert_int_equal(rig_do(&m->rig, DEED_CREATE), ERR_OK);
        assert_int_equal(rig_do(&m->rig, DEED_CLAIM), ERR_OK);
        rig_close(&m->rig);
}

/* A server with a reserve, whose path it writes, and some tasks. */
static void begin_with_reserve(struct matrix *m, char *reserve, size_t n)
{
        begin(m, NULL);
        snprintf(reserve, n, "%s/reserve", m->home.path);
        m->rig.reserve = reserve;
        assert_int_equal(rig_open(&m->rig), ERR_OK);
        rig_do(&m->rig, DEED_GROUP);
}

static void a_full_disk_gives_up_the_reserve_to_what_ends_work(void **state)
{
        struct matrix *m = *state;
        char reserve[128];
        const struct vfs_fault full = { .op = VFS_WRITE,
                                        .file = VFS_LOG,
                                        .at = 1,
                                        .forever = true,
                                        .error = VFS_ENOSPC,
                                        .while_there = reserve };

        begin_with_reserve(m, reserve, sizeof(reserve));
        rig_do(&m->rig, DEED_CLAIM);
        assert_true(reserve_take(reserve));
        vfs_watch(m->vfs, &full);
        assert_int_equal(rig_do(&m->rig, DEED_CANCEL), ERR_OK);
        assert_true(m->vfs->failed > 0);
        assert_int_equal(access(reserve, F_OK), -1);
        assert_int_equal(rig_do(&m->rig, DEED_CREATE), ERR_STORAGE_FULL);
        assert_int_equal(rig_do(&m->rig, DEED_HEARTBEAT), ERR_OK);
        vfs_watch(m->vfs, NULL);
        rig_do(&m->rig, DEED_IDLE);
        assert_int_equal(access(reserve, F_OK), 0);
        assert_int_equal(rig_do(&m->rig, DEED_CREATE), ERR_OK);
        assert_int_equal(m->rig.early, 0);
        rig_close(&m->rig);
}

/* A disk that says it is full whatever is given back: an answer comes all the same. */
static void what_was_tried_again_is_refused_if_that_fails_too(void **state)
{
        struct matrix *m = *state;
        char reserve[128];
        const struct vfs_fault full = { .op = VFS_WRITE,
                                        .file = VFS_LOG,
                                        .at = 1,
                                        .forever = true,
                                        .error = VFS_ENOSPC };

        begin_with_reserve(m, reserve, sizeof(reserve));
        assert_true(reserve_take(reserve));
        vfs_watch(m->vfs, &full);
        assert_int_equal(rig_do(&m->rig, DEED_CANCEL), ERR_STORAGE_FULL);
        vfs_watch(m->vfs, NULL);
        rig_do(&m->rig, DEED_IDLE);
        assert_int_equal(rig_do(&m->rig, DEED_CANCEL), ERR_OK);
        rig_close(&m->rig);
}

int main(int argc, char **argv)
{
        static struct matrix matrix;
        const struct CMUnitTest tests[] = {
#define ROW(test) cmocka_unit_test_prestate(test, &matrix)
                ROW(without_a_fault_everything_is_done),
                ROW(every_opening_may_fail),
                ROW(every_read_may_fail),
                ROW(every_write_may_fail),
                ROW(every_sync_may_fail),
                ROW(every_truncation_may_fail),
                ROW(what_a_commit_made_is_known_although_a_call_of_it_was_undone),
                ROW(a_full_disk_gives_up_the_reserve_to_what_ends_work),
                ROW(what_was_tried_again_is_refused_if_that_fails_too),
        };
        int failed;

        log_configure(LOG_ERROR, false);
        matrix.vfs = vfs_install();
        matrix.all = argc > 1 && strcmp(argv[1], "all") == 0;
        matrix_begin(&matrix);
        failed = cmocka_run_group_tests(tests, NULL, NULL);
        matrix_end(&matrix);
        return failed;
}
