/* What a database file says, read past the engine under test and with SQL of this folder's own. */
#ifndef BATON_TESTS_FAULTS_IMAGE_H
#define BATON_TESTS_FAULTS_IMAGE_H

#include <stdbool.h>
#include <stddef.h>

struct digest {
        unsigned char bytes[32];
};

/* One number over every row of every table. */
struct digest image_digest(const char *path);
int image_count(const char *path, const char *table);
bool digest_eq(const struct digest *, const struct digest *);

/* I5: the file is sound.  I27: events are 1, 2, 3, … in each tree.  I8: rows are what their events
 * add up to.  False: why says what is wrong. */
bool image_holds(const char *path, char *why, size_t n);
/* The same for a copy of database and log as a dead process leaves them. */
void image_copy(const char *path, const char *to);

#endif
