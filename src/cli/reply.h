/* Calls to the server and printing of what it answers. */
#ifndef BATON_CLI_REPLY_H
#define BATON_CLI_REPLY_H

#include "cli/command.h"
#include "core/json_out.h"

/* A path being put together, in the arena; values are encoded. */
struct path {
        struct cli *cli;
        struct str text;
        bool query;
};

#define PATH_INIT(of) ((struct path){ .cli = (of), .text = STR("") })

void path_add(struct path *, const char *text);                      /* as it is */
void path_query(struct path *, const char *name, const char *value); /* NULL value: nothing */
const char *path_end(const struct path *);
/* path_of(cli, "/v1/runs/", id, "/cancel"): the middle is encoded; suffix may be NULL. */
const char *path_of(struct cli *, const char *prefix, const char *part, const char *suffix);

/* A body under construction: {"reason":…}. */
struct body {
        struct buf text;
        struct json_out j;
};

void body_begin(struct body *);
void body_text(struct body *, const char *name, const char *value); /* NULL value: nothing */
enum err body_int(struct cli *, struct body *, const char *name, const char *option);
void body_words(struct body *, const char *name, const char *comma_separated);
struct str body_end(struct cli *, struct body *);

/* Any answer of 2xx; everything else is its problem. */
enum err send_call(struct cli *, const struct http_call *, struct http_response *) NODISCARD;
/* The parsed answer is kept by the command; NULL for an empty one. */
enum err send_json(struct cli *, const struct http_call *, struct http_response *,
                   json_t **out) NODISCARD;
enum err get_json(struct cli *, const char *path, json_t **out) NODISCARD;
/* A POST that may be sent again: with an Idempotency-Key. */
enum err post_json(struct cli *, const char *path, struct str body, struct http_response *,
                   json_t **out) NODISCARD;
const char *new_idempotency_key(struct cli *);

/* A list: GET path with --limit and --cursor, as a table, JSON or lines. */
enum err show_list(struct cli *, struct path *, const struct column *, size_t n) NODISCARD;
/* One object: GET path. */
enum err show_get(struct cli *, const char *path) NODISCARD;
/* POST path; table: the object, or its member named here when it has one, with the id of the run that was
 * made. */
enum err show_post(struct cli *, const char *path, struct str body, const char *member) NODISCARD;
/* The same with what --reason says. */
enum err show_post_reason(struct cli *, const char *path, const char *member) NODISCARD;
enum err show_patch(struct cli *, const char *path, struct str body) NODISCARD;
/* DELETE path; table: a word. */
enum err show_delete(struct cli *, const char *path) NODISCARD;
/* A list that came with an answer. */
void show_rows(struct cli *, const struct http_response *, const json_t *rows, const struct column *,
               size_t n);
void show_object(struct cli *, const struct http_response *, const json_t *);
void print_line(struct cli *, const json_t *value);

/* Members of a reply; absent texts are empty. */
struct str member_text(const json_t *, const char *name);
const char *member_c(struct cli *, const json_t *, const char *name);
const json_t *member_items(const json_t *reply); /* "items", or the list itself */

#endif
