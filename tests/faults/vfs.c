#include "vfs.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/attr.h"

struct file {
        sqlite3_file base;
        struct vfs *vfs;
        enum vfs_file kind;
        bool real_is_open;
        bool named; /* its directory was synced since it was opened */
        sqlite3_file real[]; /* as large as the system's layer says */
};

static struct file *file_of(sqlite3_file *f)
{
        return (struct file *)(void *)f;
}

/* ---- the log ---- */

static struct vfs_entry *note(struct vfs *vfs, enum vfs_change change, enum vfs_file file)
{
        static struct vfs_entry ignored;

        if (!vfs->recording)
                return &ignored;
        if (vfs->n == vfs->size) {
                vfs->size = vfs->size ? 2 * vfs->size : 1024;
                vfs->log = xrealloc(vfs->log, vfs->size * sizeof(*vfs->log));
        }
        vfs->log[vfs->n] = (struct vfs_entry){ .change = change, .file = file, .turn = vfs->turn };
        return &vfs->log[vfs->n++];
}

static void note_write(struct vfs *vfs, enum vfs_file file, const void *bytes, size_t n, int64_t at)
{
        struct vfs_entry *entry = note(vfs, CHANGE_WRITTEN, file);

        if (!vfs->recording)
                return;
        entry->at = at;
        entry->n = n;
        entry->bytes = xrealloc(NULL, n);
        memcpy(entry->bytes, bytes, n);
}

static void note_sync(struct file *file)
{
        struct vfs *vfs = file->vfs;

        if (file->kind == VFS_LOG && vfs->lazy_log)
                vfs->owed = true;
        else if (file->kind != VFS_DATABASE || !vfs->deaf_database)
                note(vfs, CHANGE_SYNCED, file->kind)->synced = !file->named;
        file->named = true;
}

/* Pages are about to be copied home: now even synchronous=NORMAL syncs the log. */
static void settle(struct vfs *vfs, enum vfs_file file)
{
        if (file == VFS_DATABASE && vfs->owed) {
                vfs->owed = false;
                note(vfs, CHANGE_SYNCED, VFS_LOG);
        }
}

void vfs_record(struct vfs *vfs, bool on)
{
        for (size_t i = 0; i < vfs->n; i++)
                free(vfs->log[i].bytes);
        vfs->n = 0;
        vfs->turn = 0;
        vfs->owed = false;
        vfs->recording = on;
}

void vfs_acknowledged(struct vfs *vfs)
{
        note(vfs, CHANGE_ACKNOWLEDGED, VFS_DATABASE);
}

/* ---- faults ---- */

void vfs_watch(struct vfs *vfs, const struct vfs_fault *fault)
{
        memset(vfs->calls, 0, sizeof(vfs->calls));
        vfs->failed = 0;
        vfs->fault = fault ? *fault : (struct vfs_fault){ 0 };
}

static bool fails(struct vfs *vfs, enum vfs_op op, enum vfs_file file)
{
        const struct vfs_fault *f = &vfs->fault;
        int64_t n = ++vfs->calls[op][file];

        if (!f->at || f->op != op || f->file != file || (f->forever ? n < f->at : n != f->at) ||
            (f->while_there && access(f->while_there, F_OK)))
                return false;
        vfs->failed++;
        if (op != VFS_OPEN && op != VFS_READ)
                vfs->doubt = 2;
        errno = f->error == VFS_EIO ? EIO : ENOSPC;
        return true;
}

static int code(const struct vfs *vfs, int eio)
{
        return vfs->fault.error == VFS_EIO ? eio : SQLITE_FULL;
}

/* ---- a file ---- */

static int file_close(sqlite3_file *f)
{
        struct file *file = file_of(f);

        return file->real_is_open ? file->real->pMethods->xClose(file->real) : SQLITE_OK;
}

static int file_read(sqlite3_file *f, void *bytes, int n, sqlite3_int64 at)
{
        struct file *file = file_of(f);

        if (fails(file->vfs, VFS_READ, file->kind))
                return SQLITE_IOERR_READ;
        return file->real->pMethods->xRead(file->real, bytes, n, at);
}

static int file_write(sqlite3_file *f, const void *bytes, int n, sqlite3_int64 at)
{
        struct file *file = file_of(f);
        bool failing = fails(file->vfs, VFS_WRITE, file->kind);
        int result;

        if (failing && file->vfs->fault.error != VFS_SHORT)
                return code(file->vfs, SQLITE_IOERR_WRITE);
        n = failing ? n / 2 : n;
        settle(file->vfs, file->kind);
        result = file->real->pMethods->xWrite(file->real, bytes, n, at);
        if (result == SQLITE_OK)
                note_write(file->vfs, file->kind, bytes, (size_t)n, at);
        return failing ? SQLITE_FULL : result;
}

static int file_truncate(sqlite3_file *f, sqlite3_int64 size)
{
        struct file *file = file_of(f);
        int result;

        if (fails(file->vfs, VFS_TRUNCATE, file->kind))
                return code(file->vfs, SQLITE_IOERR_TRUNCATE);
        settle(file->vfs, file->kind);
        result = file->real->pMethods->xTruncate(file->real, size);
        if (result == SQLITE_OK) {
                note(file->vfs, CHANGE_CUT, file->kind)->at = size;
                if (file->kind == VFS_LOG && size == 0 && file->vfs->doubt == 1)
                        file->vfs->doubt = 0;
        }
        return result;
}

static int file_sync(sqlite3_file *f, int flags)
{
        struct file *file = file_of(f);
        int result;

        if (fails(file->vfs, VFS_SYNC, file->kind)) {
                note(file->vfs, CHANGE_UNSYNCED, file->kind);
                return code(file->vfs, SQLITE_IOERR_FSYNC);
        }
        result = file->real->pMethods->xSync(file->real, flags);
        if (result == SQLITE_OK)
                note_sync(file);
        return result;
}

static int file_size(sqlite3_file *f, sqlite3_int64 *size)
{
        return file_of(f)->real->pMethods->xFileSize(file_of(f)->real, size);
}

static int file_lock(sqlite3_file *f, int level)
{
        return file_of(f)->real->pMethods->xLock(file_of(f)->real, level);
}

static int file_unlock(sqlite3_file *f, int level)
{
        return file_of(f)->real->pMethods->xUnlock(file_of(f)->real, level);
}

static int file_check_lock(sqlite3_file *f, int *held)
{
        return file_of(f)->real->pMethods->xCheckReservedLock(file_of(f)->real, held);
}

static int file_control(sqlite3_file *f, int op, void *arg)
{
        return file_of(f)->real->pMethods->xFileControl(file_of(f)->real, op, arg);
}

static int file_sector(sqlite3_file *f)
{
        return file_of(f)->real->pMethods->xSectorSize(file_of(f)->real);
}

static int file_device(sqlite3_file *f)
{
        return file_of(f)->real->pMethods->xDeviceCharacteristics(file_of(f)->real);
}

static int shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **out)
{
        return file_of(f)->real->pMethods->xShmMap(file_of(f)->real, page, size, extend, out);
}

static int shm_lock(sqlite3_file *f, int offset, int n, int flags)
{
        return file_of(f)->real->pMethods->xShmLock(file_of(f)->real, offset, n, flags);
}

static void shm_barrier(sqlite3_file *f)
{
        file_of(f)->real->pMethods->xShmBarrier(file_of(f)->real);
}

static int shm_unmap(sqlite3_file *f, int remove)
{
        return file_of(f)->real->pMethods->xShmUnmap(file_of(f)->real, remove);
}

static const sqlite3_io_methods methods = {
        .iVersion = 2,
        .xClose = file_close,
        .xRead = file_read,
        .xWrite = file_write,
        .xTruncate = file_truncate,
        .xSync = file_sync,
        .xFileSize = file_size,
        .xLock = file_lock,
        .xUnlock = file_unlock,
        .xCheckReservedLock = file_check_lock,
        .xFileControl = file_control,
        .xSectorSize = file_sector,
        .xDeviceCharacteristics = file_device,
        .xShmMap = shm_map,
        .xShmLock = shm_lock,
        .xShmBarrier = shm_barrier,
        .xShmUnmap = shm_unmap,
};

/* ---- the layer ---- */

struct layer {
        sqlite3_vfs base;
        sqlite3_vfs *real;
        struct vfs vfs;
};

static struct layer *layer_of(sqlite3_vfs *v)
{
        return v->pAppData;
}

static enum vfs_file kind_of(const char *name)
{
        size_t n = strlen(name);

        return n > 4 && strcmp(name + n - 4, "-wal") == 0     ? VFS_LOG :
               n > 8 && strcmp(name + n - 8, "-journal") == 0 ? VFS_JOURNAL :
                                                                VFS_DATABASE;
}

static int layer_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out)
{
        struct layer *layer = layer_of(v);
        struct file *file = file_of(f);
        int there = 0, result;

        *file = (struct file){ .vfs = &layer->vfs, .kind = name ? kind_of(name) : VFS_JOURNAL };
        if (fails(&layer->vfs, VFS_OPEN, file->kind))
                return SQLITE_CANTOPEN;
        if (name)
                layer->real->xAccess(layer->real, name, SQLITE_ACCESS_EXISTS, &there);
        result = layer->real->xOpen(layer->real, name, file->real, flags, out);
        if (result != SQLITE_OK)
                return result;
        file->real_is_open = true;
        file->base.pMethods = &methods;
        file->named = file->kind == VFS_DATABASE; /* SQLite syncs directories for the others */
        if (!there)
                note(&layer->vfs, CHANGE_MADE, file->kind);
        if (file->kind == VFS_DATABASE && layer->vfs.doubt == 2)
                layer->vfs.doubt = 1;
        return SQLITE_OK;
}

static int layer_delete(sqlite3_vfs *v, const char *name, int sync_directory)
{
        struct layer *layer = layer_of(v);
        int result = layer->real->xDelete(layer->real, name, sync_directory);

        if (result == SQLITE_OK)
                note(&layer->vfs, CHANGE_REMOVED, kind_of(name))->synced = sync_directory;
        return result;
}

static int layer_access(sqlite3_vfs *v, const char *name, int flags, int *out)
{
        return layer_of(v)->real->xAccess(layer_of(v)->real, name, flags, out);
}

static int layer_full_name(sqlite3_vfs *v, const char *name, int n, char *out)
{
        return layer_of(v)->real->xFullPathname(layer_of(v)->real, name, n, out);
}

/* The same for every process, so that the same seed writes the same bytes. */
static int layer_randomness(sqlite3_vfs *v, int n, char *out)
{
        (void)v;
        memset(out, 0x5a, (size_t)n);
        return n;
}

static int layer_sleep(sqlite3_vfs *v, int us)
{
        return layer_of(v)->real->xSleep(layer_of(v)->real, us);
}

static int layer_time(sqlite3_vfs *v, sqlite3_int64 *out)
{
        return layer_of(v)->real->xCurrentTimeInt64(layer_of(v)->real, out);
}

static int layer_error(sqlite3_vfs *v, int n, char *out)
{
        (void)v;
        (void)n;
        (void)out;
        return errno;
}

struct vfs *vfs_install(void)
{
        static struct layer layer;

        if (layer.real)
                return &layer.vfs;
        layer.real = sqlite3_vfs_find("unix");
        layer.base = (sqlite3_vfs){
                .iVersion = 2,
                .szOsFile = (int)sizeof(struct file) + layer.real->szOsFile,
                .mxPathname = layer.real->mxPathname,
                .zName = "faults",
                .pAppData = &layer,
                .xOpen = layer_open,
                .xDelete = layer_delete,
                .xAccess = layer_access,
                .xFullPathname = layer_full_name,
                .xRandomness = layer_randomness,
                .xSleep = layer_sleep,
                .xGetLastError = layer_error,
                .xCurrentTimeInt64 = layer_time,
        };
        BUG_ON(sqlite3_vfs_register(&layer.base, 1) != SQLITE_OK);
        return &layer.vfs;
}
