/* What a disk may hold after a power cut, made from the log of what was written and synced. */
#ifndef BATON_TESTS_FAULTS_DISK_H
#define BATON_TESTS_FAULTS_DISK_H

#include "vfs.h"

/*
 * Writes the files as a cut in front of entry `cut` may leave them: what was synced is there; of
 * what was not, each 512-byte sector, each truncation and each new name is there or not, whatever
 * came before or after it, and a sector may be torn.
 */
void disk_after_cut(const struct vfs *, size_t cut, uint64_t *dice, const char *path);

#endif
