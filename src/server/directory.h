/* The data directory of a server or a worker: who holds it, and the small files in it. */
#ifndef BATON_SERVER_DIRECTORY_H
#define BATON_SERVER_DIRECTORY_H

#include "core/scope.h"

struct directory {
        int lock; /* -1: not held */
        char path[512];
};

/* Makes it when missing and holds it; ERR_UNAVAILABLE when another process does. */
enum err directory_open(struct scope *, struct directory *, const char *path) NODISCARD;
void directory_close(struct directory *);
/* The path of a file in it, in the scope's arena. */
const char *directory_file(struct scope *, const struct directory *, const char *name);
/* Whole or not at all, and durable. */
enum err directory_write(struct scope *, const struct directory *, const char *name, struct str text) NODISCARD;

/*
 * The key under which secrets are sealed, made at the first start.  Whoever can read it and a copy of the
 * database can read the secrets: one that others can read is refused.
 */
enum err directory_vault(struct scope *, const struct directory *, unsigned char *vault, size_t n,
                         bool *made) NODISCARD;
/* A name in hexadecimal digits that the file keeps, made at the first start; in the scope's arena. */
enum err directory_name(struct scope *, const struct directory *, const char *file, struct str *out) NODISCARD;

#endif
