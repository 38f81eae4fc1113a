/*
 * A part: a file in the making.  It is written as PATH.part, one writer at a time, and gets its name when
 * it is whole and on the disk; a process that dies before leaves at most the part, which the next one
 * overwrites.  Private to this folder.
 */
#ifndef BATON_STORE_PART_H
#define BATON_STORE_PART_H

#include "core/scope.h"

struct part {
        const char *path, *temporary; /* in the scope's arena */
        int fd;                       /* of the temporary; holds its lock */
};

/* ERR_CONFLICT when something has the name already, unless it may be replaced, or somebody else writes it. */
enum err part_begin(struct scope *, const char *path, bool replace, struct part *) NODISCARD;
/* Whole from here on: synced, renamed, and the name synced too. */
enum err part_finish(struct scope *, struct part *) NODISCARD;
void part_drop(struct scope *, struct part *);

#endif
