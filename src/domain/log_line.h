/* A run's log: the output of its commands in order, addressed by byte offset. */
#ifndef BATON_DOMAIN_LOG_LINE_H
#define BATON_DOMAIN_LOG_LINE_H

#include "domain/run.h"

struct log_line {
        int64_t position, step, stream, at;
        struct str text;
};
extern const struct record log_line_record;

/* Appends a piece; fenced by the run's token. */
enum err log_append(struct tx *, const struct fence *, int64_t run, int64_t step, int stream,
                    struct str text) NODISCARD;
/* Bytes that a run's log has. */
enum err log_end(struct tx *, int64_t run, int64_t *out) NODISCARD;
/* Pieces from a byte offset on, the first one cut to begin there. */
enum err log_read(struct tx *, int64_t run, int64_t from, int limit, struct list *) NODISCARD;

#endif
