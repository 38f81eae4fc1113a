/*
 * JSON writer: a stream of tokens into a buf, commas and nesting kept by the writer.  Compact text,
 * no trailing newline.  Strings must be UTF-8 already; control characters are escaped.
 */
#ifndef BATON_CORE_JSON_OUT_H
#define BATON_CORE_JSON_OUT_H

#include "core/buf.h"
#include "core/err.h"
#include "core/record.h"

struct json_out {
        struct buf *out;
        bool comma; /* a value already stands at this level */
};

void json_begin_object(struct json_out *);
void json_end_object(struct json_out *);
void json_begin_list(struct json_out *);
void json_end_list(struct json_out *);
void json_key(struct json_out *, const char *name); /* of ours: nothing in it needs an escape */
void json_key_str(struct json_out *, struct str name);

void json_put_int(struct json_out *, int64_t);
void json_put_double(struct json_out *, double); /* shortest text that reads back the same */
void json_put_bool(struct json_out *, bool);
void json_put_null(struct json_out *);
void json_put_str(struct json_out *, struct str);
void json_put_text(struct json_out *, const char *);
void json_put_time(struct json_out *, int64_t us);
void json_put_id(struct json_out *, const char *prefix, int64_t id);
void json_put_raw(struct json_out *, struct str json); /* already valid JSON */

/* One wire member after the other, without the braces; empty ones are left out. */
void json_members(struct json_out *, const struct record *, const void *);
void json_record(struct json_out *, const struct record *, const void *);
/* An object of the members that are stored, empty ones left out. */
void json_stored(struct json_out *, const struct record *, const void *);
/* An RFC 9457 problem document. */
extern const struct record problem_record;
void json_problem(struct json_out *, const struct fault *, struct str instance);

#endif
