/*
 * The table of names: texts that recur in many rows (actors, agents, channels, capability sets) are
 * stored once and referred to by number.  Append-only.  Numbers are published to other threads only
 * after the COMMIT that made them durable.
 */
#ifndef BATON_STORE_NAMES_H
#define BATON_STORE_NAMES_H

#include "core/arena.h"
#include "core/str.h"

struct names_table;

struct names_table *names_new(void);
void names_free(struct names_table *);

/* Writing thread: 0 when unknown. */
int64_t names_lookup(const struct names_table *, struct str);
/* Writing thread: remember a pair; pending until names_publish(), forgotten by names_forget(). */
void names_add(struct names_table *, int64_t id, struct str);
size_t names_pending(const struct names_table *);
void names_forget(struct names_table *, size_t down_to);
void names_publish(struct names_table *);

/* The largest number that was published. */
int64_t names_newest(const struct names_table *);

/* Any thread: the published number of a text, 0 when it is not known here. */
int64_t names_number(struct names_table *, struct str);
/* Any thread: the text of a published number, absent when it is not known here. */
struct str names_get(const struct names_table *, int64_t id);

#endif
