/*
 * A file layer for SQLite that stands between the real engine and the system's files: it lets the
 * n-th call of a kind fail, and keeps a log of everything that changes a file, from which images of
 * what a power cut may leave are built.  Once installed it is SQLite's default, so the engine under
 * test does not know of it.  One thread at a time.
 */
#ifndef BATON_TESTS_FAULTS_VFS_H
#define BATON_TESTS_FAULTS_VFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum vfs_op { VFS_OPEN, VFS_READ, VFS_WRITE, VFS_SYNC, VFS_TRUNCATE, VFS_OPS };
enum vfs_file { VFS_DATABASE, VFS_LOG, VFS_JOURNAL, VFS_FILES };
enum vfs_error { VFS_EIO, VFS_ENOSPC, VFS_SHORT /* half of a write, then no space */, VFS_ERRORS };

struct vfs_fault {
        enum vfs_op op;
        enum vfs_file file;
        int64_t at; /* the n-th such call from now fails, counted from 1; 0 = none */
        bool forever;
        enum vfs_error error;
        const char *while_there; /* fails only as long as this file exists; NULL = always */
};

/* A change of a file, in the order in which the engine asked for it. */
enum vfs_change {
        CHANGE_MADE,
        CHANGE_WRITTEN,     /* n bytes at an offset */
        CHANGE_CUT,         /* to `at` bytes */
        CHANGE_REMOVED,
        CHANGE_SYNCED,      /* what came before is on the disk */
        CHANGE_UNSYNCED,    /* a sync failed: no later one brings what came before to the disk */
        CHANGE_ACKNOWLEDGED /* of no file: somebody was told that the turn is done */
};
struct vfs_entry {
        enum vfs_change change;
        enum vfs_file file;
        int turn; /* what vfs.turn was */
        bool synced; /* removed, synced: and so are the names in the directory */
        int64_t at;
        size_t n;
        unsigned char *bytes;
};

struct vfs {
        struct vfs_fault fault;
        int64_t calls[VFS_OPS][VFS_FILES]; /* since vfs_watch() */
        int64_t failed;                    /* calls that were made to fail, since vfs_watch() */
        /* A commit or a checkpoint may have failed and the file was not yet opened again (2), or its
         * log not yet emptied (1). */
        int doubt;

        bool recording;
        int turn;
        struct vfs_entry *log;
        size_t n, size;
        /* What the disk only pretends: as if synchronous=NORMAL, the log is synced not at a commit
         * but before pages are copied home; or the database is never synced. */
        bool lazy_log, deaf_database;
        bool owed;
};

struct vfs *vfs_install(void);
/* Counts from zero and arms the fault, or none. */
void vfs_watch(struct vfs *, const struct vfs_fault *);
/* What was written since the last vfs_record() is forgotten. */
void vfs_record(struct vfs *, bool on);
void vfs_acknowledged(struct vfs *);

#endif
