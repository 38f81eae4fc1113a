/*
 * Power cuts: the production store works on a recorded disk; images of what the disk may hold after
 * a cut at any moment are opened by the production store.  Each must hold every acknowledged turn,
 * the one that was under way wholly or not at all, be sound, and serve.
 *
 *     test_powercut [N [SEED]]
 *
 * Image SEED + i is made from the seed SEED + i alone, N = 1 makes it again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#undef fail /* ours has arguments */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/log.h"
#include "disk.h"
#include "home.h"
#include "rig.h"
#include "workers.h"

enum { IMAGES = 2000, DEEDS_DONE = 40, IMAGES_OF_A_RECORDING = 100, WEAK_IMAGES = 200 };

enum verdict { GOOD, LOST /* an acknowledged turn */, WRONG /* neither a turn nor none */, UNSOUND };
/* How often each came, in one number for workers_share(). */
static int64_t tally_of(enum verdict verdict)
{
        return verdict ? INT64_C(1) << 20 * (verdict - 1) : 0;
}

static int tally_count(int64_t tally, enum verdict verdict)
{
        return (int)(tally >> 20 * (verdict - 1) & 0xfffff);
}

struct cuts {
        struct vfs *vfs;
        int64_t n, seed;
        bool quiet;
        struct home home;
        struct rig rig;
        char image[96];
};

static void cuts_begin(void *context)
{
        struct cuts *c = context;

        home_make(&c->home);
        snprintf(c->image, sizeof(c->image), "%s/image", c->home.path);
}

static void cuts_end(void *context)
{
        struct cuts *c = context;

        vfs_record(c->vfs, false);
        home_remove(&c->home);
}

/* ---- recordings ---- */

/* In every second recording one call fails, so that reopening is cut too. */
static struct vfs_fault some_fault(uint64_t *dice)
{
        uint64_t roll = dice_roll(dice);

        return (struct vfs_fault){ .op = VFS_WRITE + (roll >> 8) % 3,
                                   .file = roll >> 16 & 1 ? VFS_DATABASE : VFS_LOG,
                                   .at = roll & 1 ? (int64_t)((roll >> 24) % 100) + 1 : 0,
                                   .error = (enum vfs_error)((roll >> 40) % VFS_ERRORS) };
}

static enum deed some_deed(uint64_t *dice)
{
        static const int weights[DEEDS] = {
                [DEED_CREATE] = 4,  [DEED_GROUP] = 2,   [DEED_CLAIM] = 6,  [DEED_START] = 2,
                [DEED_HEARTBEAT] = 2, [DEED_COMPLETE] = 3, [DEED_FAIL] = 2, [DEED_RELEASE] = 1,
                [DEED_CANCEL] = 1,  [DEED_PATCH] = 2,   [DEED_RETRY] = 2,  [DEED_STALE] = 1,
                [DEED_IDLE] = 2,    [DEED_RESTART] = 1,
        };
        int sum = 0, roll;

        for (int i = 0; i < DEEDS; i++)
                sum += weights[i];
        roll = (int)(dice_roll(dice) % (uint64_t)sum);
        for (int i = 0;; i++)
                if ((roll -= weights[i]) < 0)
                        return (enum deed)i;
}

static void record(struct cuts *c, uint64_t seed)
{
        uint64_t dice = seed * 0x9e3779b97f4a7c15u + 1;
        struct vfs_fault fault = some_fault(&dice);
        struct rig *rig = &c->rig;

        home_empty(&c->home);
        rig_init(rig, c->vfs, c->home.database, seed);
        rig->watching = RIG_STATES;
        vfs_record(c->vfs, true);
        vfs_watch(c->vfs, NULL);
        BUG_ON(rig_open(rig));
        vfs_watch(c->vfs, &fault);
        for (int done = 0; done < DEEDS_DONE;) {
                done += rig_do(rig, some_deed(&dice)) != ERR_EMPTY;
                while (!rig->store && rig_open(rig))
                        ; /* started again, as after any crash */
        }
        rig_close(rig);
        vfs_watch(c->vfs, NULL);
        c->vfs->recording = false;
}

/* ---- images ---- */

/* Anywhere; but half of the cuts come right after an acknowledgement or right before a sync. */
static size_t choose_cut(const struct vfs *vfs, uint64_t *dice)
{
        size_t cut = dice_roll(dice) % vfs->n + 1;
        uint64_t roll = dice_roll(dice);

        if (roll & 1)
                return cut;
        while (cut < vfs->n && !(roll & 2 ? vfs->log[cut - 1].change == CHANGE_ACKNOWLEDGED :
                                            vfs->log[cut].change == CHANGE_SYNCED))
                cut++;
        return cut;
}

static int acknowledged_before(const struct vfs *vfs, size_t cut)
{
        while (cut-- > 0)
                if (vfs->log[cut].change == CHANGE_ACKNOWLEDGED)
                        return vfs->log[cut].turn;
        return 0;
}

static bool is_state(const struct rig *rig, const struct digest *found, int from, int to)
{
        for (int i = from; i <= to; i++)
                if (digest_eq(found, &rig->states[i]) || digest_eq(found, &rig->remains[i]))
                        return true;
        return false;
}

/* What recovery makes of the image: a turn between the last acknowledged and the one under way. */
static enum verdict judge_state(const struct cuts *c, size_t cut)
{
        int acknowledged = acknowledged_before(c->vfs, cut), under_way = c->vfs->log[cut - 1].turn;
        struct digest found;
        char copy[128];

        if (!acknowledged) /* the file is still being made */
                return GOOD;
        snprintf(copy, sizeof(copy), "%s.copy", c->image);
        image_copy(c->image, copy);
        found = image_digest(copy);
        return is_state(&c->rig, &found, acknowledged, under_way)    ? GOOD :
               is_state(&c->rig, &found, 1, acknowledged - 1)        ? LOST :
                                                                       WRONG;
}

static enum verdict judge_service(const struct cuts *c, char *why, size_t n)
{
        struct rig after;
        enum err e;

        rig_init(&after, c->vfs, c->image, 1);
        after.now = c->rig.now + US_PER_S;
        e = rig_open(&after);
        if (!e)
                e = rig_do(&after, DEED_CREATE);
        rig_close(&after);
        snprintf(why, n, "the program does not serve");
        return !e && image_holds(c->image, why, n) ? GOOD : UNSOUND;
}

static enum verdict cut_once(struct cuts *c, int64_t seed)
{
        static const char *const words[] = { [LOST] = "an acknowledged turn is lost",
                                             [WRONG] = "a part of a turn is there" };
        uint64_t dice = (uint64_t)seed * 0xd1342543de82ef95u + 1;
        size_t cut = choose_cut(c->vfs, &dice);
        char why[512];
        enum verdict verdict;

        disk_after_cut(c->vfs, cut, &dice, c->image);
        verdict = judge_state(c, cut);
        if (verdict)
                snprintf(why, sizeof(why), "%s", words[verdict]);
        else
                verdict = judge_service(c, why, sizeof(why));
        if (verdict && !c->quiet)
                print_message("seed %lld, cut before change %zu of %zu: %s;"
                              " again: make powercut N=1 SEED=%lld\n",
                              (long long)seed, cut, c->vfs->n, why, (long long)seed);
        return verdict;
}

static int64_t cut_recording(int64_t i, void *context)
{
        struct cuts *c = context;
        int64_t group = c->seed / IMAGES_OF_A_RECORDING + i, tally = 0;

        record(c, (uint64_t)group);
        if (c->rig.early) {
                print_message("seed %lld: acknowledged before the file was opened again\n",
                              (long long)(group * IMAGES_OF_A_RECORDING));
                tally += tally_of(WRONG);
        }
        for (int64_t k = 0; k < IMAGES_OF_A_RECORDING; k++) {
                int64_t seed = group * IMAGES_OF_A_RECORDING + k;

                if (seed >= c->seed && seed < c->seed + c->n)
                        tally += tally_of(cut_once(c, seed));
        }
        return tally;
}

static int64_t cut_all(struct cuts *c)
{
        int64_t first = c->seed / IMAGES_OF_A_RECORDING;
        int64_t last = (c->seed + c->n - 1) / IMAGES_OF_A_RECORDING;

        return workers_share(last - first + 1, cuts_begin, cut_recording, cuts_end, c);
}

/* ---- tests ---- */

static void no_cut_loses_or_breaks_anything(void **state)
{
        struct cuts *c = *state;

        print_message("%lld images, seed %lld\n", (long long)c->n, (long long)c->seed);
        assert_int_equal(cut_all(c), 0);
}

/* The checker's own test: disks on which acknowledged turns must get lost. */
static int64_t cut_weak_disk(struct cuts *c)
{
        struct cuts weak = { .vfs = c->vfs, .n = WEAK_IMAGES, .seed = c->seed, .quiet = true };

        return cut_all(&weak);
}

static void with_synchronous_normal_the_losses_are_found(void **state)
{
        struct cuts *c = *state;
        int64_t tally;

        c->vfs->lazy_log = true;
        tally = cut_weak_disk(c);
        c->vfs->lazy_log = false;
        print_message("lost: %d of %d\n", tally_count(tally, LOST), WEAK_IMAGES);
        assert_true(tally_count(tally, LOST) > WEAK_IMAGES / 20);
        assert_int_equal(tally_count(tally, UNSOUND), 0);
}

static void with_pages_that_are_never_synced_the_damage_is_found(void **state)
{
        struct cuts *c = *state;
        int64_t tally;

        c->vfs->deaf_database = true;
        tally = cut_weak_disk(c);
        c->vfs->deaf_database = false;
        print_message("damaged: %d of %d\n", tally_count(tally, UNSOUND) + tally_count(tally, WRONG),
                      WEAK_IMAGES);
        assert_true(tally_count(tally, UNSOUND) + tally_count(tally, WRONG) > 0);
}

int main(int argc, char **argv)
{
        static struct cuts cuts;
        int failed;
        const struct CMUnitTest tests[] = {
#define ROW(test) cmocka_unit_test_prestate(test, &cuts)
                ROW(no_cut_loses_or_breaks_anything),
                ROW(with_synchronous_normal_the_losses_are_found),
                ROW(with_pages_that_are_never_synced_the_damage_is_found),
        };

        log_configure(LOG_ERROR, false);
        cuts.vfs = vfs_install();
        cuts.n = argc > 1 ? strtoll(argv[1], NULL, 10) : IMAGES;
        cuts.seed = argc > 2 ? strtoll(argv[2], NULL, 10) : 1;
        failed = cmocka_run_group_tests(tests, NULL, NULL);
        printf("ledger {\"suite\": \"powercut\", \"seed\": %lld, \"cycles\": %lld, \"failures\": %d}\n",
               (long long)cuts.seed, (long long)cuts.n, failed);
        return failed;
}
