/*
 * The reserve: disk space that is taken beforehand, so that on a full disk what frees leases and
 * cancels work can still be written.  A file that holds nothing; removing it gives the space back.
 * Used by the writing thread.  Private to this folder.
 */
#ifndef BATON_STORE_RESERVE_H
#define BATON_STORE_RESERVE_H

#include <stdbool.h>

/* Twice what the log holds when it is copied home, or a quarter of a small file system. */
enum { RESERVE_BYTES = 16 << 20 };

/* True when the space is held.  It is not taken unless a quarter as much stays free beside it, so
 * that what comes next does not find the disk full again. */
bool reserve_take(const char *path);
void reserve_give(const char *path);

#endif
