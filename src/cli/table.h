/*
 * What a person sees: tables, one object, texts.  Everything that came from outside passes
 * text_clean(): control characters never reach a terminal.
 */
#ifndef BATON_CLI_TABLE_H
#define BATON_CLI_TABLE_H

#include <jansson.h>
#include <stdio.h>

#include "core/scope.h"

struct screen {
        FILE *to;
        bool terminal, colour;
        struct scope *scope;
};

void screen_init(struct screen *, struct scope *, FILE *, bool colour);
/* Columns of the terminal; a wide page when it is none. */
int screen_width(const struct screen *);
int screen_height(const struct screen *);

enum show { SHOW_TEXT, SHOW_STATUS, SHOW_AGE, SHOW_TIME, SHOW_NUMBER, SHOW_FREE };

/* SHOW_FREE: a sentence, cut where the terminal ends; everything else is shown whole. */
struct column {
        const char *title;
        const char *path; /* of the member: "usage.steps" */
        enum show show;
};

void table_print(const struct screen *, const struct column *, size_t n, const json_t *items);
/* Every member of an object, a line each. */
void object_print(const struct screen *, const json_t *object);

/* One line: control characters, line ends among them, become visible replacements. */
struct str text_clean(struct scope *, struct str);
/* The same, but line ends and tabs stay. */
struct str text_clean_lines(struct scope *, struct str);
/* Columns that a clean text takes. */
int text_width(struct str);
/* The longest beginning of at most `width` columns, with an ellipsis when something is missing. */
struct str text_cut(struct scope *, struct str, int width);

/* The escape that starts the colour of a status word, or "". */
const char *status_colour(const struct screen *, struct str status);
const char *colour_dim(const struct screen *);
const char *colour_bold(const struct screen *);
const char *colour_off(const struct screen *);

/* "0.8s", "2m 05s", "3h 10m". */
struct str duration_text(struct scope *, int64_t us);

#endif
