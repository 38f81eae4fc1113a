#include "disk.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/attr.h"
#include "rig.h"

enum { SECTOR = 512, CERTAIN = 256 /* of 256 */ };

/* What is on the disk of one file. */
struct platter {
        bool there;
        unsigned char *bytes;
        size_t n, size;
        const struct vfs_entry **pending; /* since the last sync */
        size_t n_pending, size_pending;
};

static void resize(struct platter *p, size_t n)
{
        if (n > p->size) {
                p->size = n * 2;
                p->bytes = xrealloc(p->bytes, p->size);
        }
        if (n > p->n)
                memset(p->bytes + p->n, 0, n - p->n);
        p->n = n;
}

static void put(struct platter *p, const struct vfs_entry *e, size_t from, size_t n)
{
        size_t end = (size_t)e->at + from + n;

        if (end > p->n)
                resize(p, end);
        memcpy(p->bytes + (size_t)e->at + from, e->bytes + from, n);
}

/* Each sector that the write touches, with a chance of `odds` in 256; some only in part. */
static void write_some(struct platter *p, const struct vfs_entry *e, unsigned odds, uint64_t *dice)
{
        for (size_t from = 0, n; from < e->n; from += n) {
                size_t room = SECTOR - ((size_t)e->at + from) % SECTOR;
                uint64_t roll = dice_roll(dice);

                n = e->n - from < room ? e->n - from : room;
                if ((roll & 255) < odds)
                        put(p, e, from, n);
                else if (odds && (roll >> 8 & 15) == 0)
                        put(p, e, from, (roll >> 12) % n);
        }
}

static void change_some(struct platter *p, const struct vfs_entry *e, unsigned odds, uint64_t *dice)
{
        bool happens = (dice_roll(dice) & 255) < odds;

        if (e->change == CHANGE_WRITTEN && p->there)
                write_some(p, e, odds, dice);
        else if (e->change == CHANGE_MADE && happens)
                p->there = true;
        else if (e->change == CHANGE_CUT && p->there && happens)
                resize(p, (size_t)e->at);
        else if (e->change == CHANGE_REMOVED && happens)
                *p = (struct platter){ .bytes = p->bytes, .size = p->size, .pending = p->pending,
                                       .n_pending = p->n_pending, .size_pending = p->size_pending };
}

/* Decides what becomes of the first n changes that wait. */
static void settle(struct platter *p, size_t n, unsigned odds, uint64_t *dice)
{
        for (size_t i = 0; i < n; i++)
                change_some(p, p->pending[i], odds, dice);
        p->n_pending -= n;
        if (p->n_pending)
                memmove(p->pending, p->pending + n, p->n_pending * sizeof(*p->pending));
}

/* The directory is synced: a file that was made is there, one that was removed is gone. */
static void settle_name(struct platter *p, uint64_t *dice)
{
        size_t n = p->n_pending;

        while (n && p->pending[n - 1]->change != CHANGE_MADE &&
               p->pending[n - 1]->change != CHANGE_REMOVED)
                n--;
        settle(p, n, CERTAIN, dice);
}

static void wait_for_sync(struct platter *p, const struct vfs_entry *e)
{
        if (p->n_pending == p->size_pending) {
                p->size_pending = p->size_pending ? 2 * p->size_pending : 256;
                p->pending = xrealloc(p->pending, p->size_pending * sizeof(struct vfs_entry *));
        }
        p->pending[p->n_pending++] = e;
}

/* Everything, nothing, or as it happens. */
static unsigned odds_of(uint64_t *dice)
{
        uint64_t roll = dice_roll(dice);

        return roll % 5 == 0 ? 0 : roll % 5 == 1 ? CERTAIN : (unsigned)(roll >> 8 & 255);
}

static void turn_to(struct platter *platters, const struct vfs_entry *e, uint64_t *dice)
{
        struct platter *p = &platters[e->file];

        if (e->change == CHANGE_SYNCED)
                settle(p, p->n_pending, CERTAIN, dice);
        else if (e->change == CHANGE_UNSYNCED)
                settle(p, p->n_pending, odds_of(dice), dice);
        else if (e->change != CHANGE_ACKNOWLEDGED)
                wait_for_sync(p, e);
        if (e->synced)
                for (int i = 0; i < VFS_FILES; i++)
                        settle_name(&platters[i], dice);
}

static void save(const struct platter *p, const char *path)
{
        int fd;

        unlink(path);
        if (!p->there)
                return;
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        BUG_ON(fd < 0 || write(fd, p->bytes, p->n) != (ssize_t)p->n);
        close(fd);
}

void disk_after_cut(const struct vfs *vfs, size_t cut, uint64_t *dice, const char *path)
{
        static const char *const tails[VFS_FILES] = { "", "-wal", "-journal" };
        struct platter platters[VFS_FILES] = { 0 };
        char name[256];

        for (size_t i = 0; i < cut; i++)
                turn_to(platters, &vfs->log[i], dice);
        snprintf(name, sizeof(name), "%s-shm", path);
        unlink(name);
        for (int i = 0; i < VFS_FILES; i++) {
                settle(&platters[i], platters[i].n_pending, odds_of(dice), dice);
                snprintf(name, sizeof(name), "%s%s", path, tails[i]);
                save(&platters[i], name);
                free(platters[i].bytes);
                free(platters[i].pending);
        }
}
