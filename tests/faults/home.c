#include "home.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/arena.h"

void home_make(struct home *home)
{
        strcpy(home->path, "/dev/shm/baton-faults-XXXXXX");
        BUG_ON(!mkdtemp(home->path));
        snprintf(home->database, sizeof(home->database), "%s/db", home->path);
}

static int drop(const char *path, const struct stat *st, int kind, struct FTW *at)
{
        (void)st;
        (void)kind;
        return at->level ? remove(path) : 0;
}

void home_empty(const struct home *home)
{
        BUG_ON(nftw(home->path, drop, 8, FTW_DEPTH | FTW_PHYS));
}

void home_remove(const struct home *home)
{
        home_empty(home);
        BUG_ON(rmdir(home->path));
}
