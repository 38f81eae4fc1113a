/*
 * Searching for a text in titles and identifiers.
 *
 * The index (task_text) knows which groups of three characters a task has.  It is made by the tick, in
 * the order of ids, so that creating a task costs nothing; up to the id in `searched` it is complete
 * and follows every change.  What it finds are candidates: the pattern decides.
 */
#ifndef BATON_DOMAIN_SEARCH_H
#define BATON_DOMAIN_SEARCH_H

#include "domain/domain.h"
#include "domain/task.h"

enum {
        SEARCH_MAX = 1000,       /* bytes of what is searched for */
        SEARCH_TASKS = 256,      /* that the tick takes in at once; fewer are left to be looked at */
        SEARCH_CANDIDATES = 200, /* of the index, at once */
        SEARCH_GROUPS = 16,      /* of a text that are looked up */
};

extern const struct record searched_record;
/* Where the index is: made anew from the tasks, so that no copy of a database needs them.  NULL at the end. */
extern const char *const search_tables[];

/* The pattern for GLOB that finds it anywhere, its letters in either case (LIKE knows the cases of
 * ASCII alone); absent if it is. */
struct str search_pattern(struct arena *, struct str);
/* The groups of three characters of what the pattern finds, as words for the index, and how many they
 * are: none, if the text has fewer than three characters. */
size_t search_groups(struct arena *, struct str, struct str out[SEARCH_GROUPS]);
/* The rarest of them as an expression for the index, looked at from an id down; absent when there are
 * none. */
enum err search_words(struct tx *, struct str, int64_t below, struct str *words) NODISCARD;

/* Of ids up to this one nothing is missing in the index. */
enum err search_upto(struct tx *, int64_t *id) NODISCARD;
/* The newest tasks below an id that may match, of all workspaces. */
enum err search_candidates(struct tx *, struct str words, int64_t below, int64_t **ids, size_t *n) NODISCARD;

/* The title or identifier was another one (before), or the task is new (NULL) or gone (after NULL). */
enum err search_follow(struct tx *, int64_t id, const struct task *before,
                       const struct task *after) NODISCARD;

enum err search_load(struct tx *) NODISCARD;
/* The next tasks, if there are enough of them. */
enum err search_tick(struct tx *, struct domain *) NODISCARD;

#endif
