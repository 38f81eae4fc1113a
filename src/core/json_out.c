#include "core/json_out.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/id.h"
#include "core/time.h"

static void before_value(struct json_out *j)
{
        if (j->comma)
                buf_char(j->out, ',');
        j->comma = true;
}

void json_begin_object(struct json_out *j)
{
        before_value(j);
        buf_char(j->out, '{');
        j->comma = false;
}

void json_end_object(struct json_out *j)
{
        buf_char(j->out, '}');
        j->comma = true;
}

void json_begin_list(struct json_out *j)
{
        before_value(j);
        buf_char(j->out, '[');
        j->comma = false;
}

void json_end_list(struct json_out *j)
{
        buf_char(j->out, ']');
        j->comma = true;
}

static const char hex_digits[] = "0123456789abcdef";

static void quoted(struct buf *out, struct str s)
{
        size_t from = 0;

        buf_char(out, '"');
        for (size_t i = 0; i < s.n; i++) {
                unsigned char c = (unsigned char)s.p[i];
                const char *known;

                if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f)
                        continue;
                buf_bytes(out, s.p + from, i - from);
                from = i + 1;
                known = c ? strchr("\"\\\bb\ff\nn\rr\tt", c) : NULL;
                buf_char(out, '\\');
                if (c == '"' || c == '\\') {
                        buf_char(out, (char)c);
                } else if (known) {
                        buf_char(out, known[1]);
                } else {
                        buf_text(out, "u00");
                        buf_char(out, hex_digits[c >> 4]);
                        buf_char(out, hex_digits[c & 15]);
                }
        }
        buf_bytes(out, s.p ? s.p + from : "", s.n - from);
        buf_char(out, '"');
}

void json_key_str(struct json_out *j, struct str name)
{
        before_value(j);
        quoted(j->out, name);
        buf_char(j->out, ':');
        j->comma = false;
}

void json_key(struct json_out *j, const char *name)
{
        size_t n = strlen(name);
        char *at;

        before_value(j);
        at = buf_reserve(j->out, n + 3);
        if (at) {
                at[0] = '"';
                memcpy(at + 1, name, n);
                memcpy(at + 1 + n, "\":", 3); /* and its NUL */
                j->out->n += n + 3;
        }
        j->comma = false;
}

void json_put_int(struct json_out *j, int64_t value)
{
        before_value(j);
        buf_int(j->out, value);
}

void json_put_double(struct json_out *j, double value)
{
        char text[40];

        before_value(j);
        if (!isfinite(value)) {
                buf_text(j->out, "null");
                return;
        }
        for (int precision = 15; precision <= 17; precision++) {
                snprintf(text, sizeof(text), "%.*g", precision, value);
                if (strtod(text, NULL) == value)
                        break;
        }
        buf_text(j->out, text);
        if (!strpbrk(text, ".e"))
                buf_text(j->out, ".0");
}

void json_put_bool(struct json_out *j, bool value)
{
        before_value(j);
        buf_text(j->out, value ? "true" : "false");
}

void json_put_null(struct json_out *j)
{
        before_value(j);
        buf_text(j->out, "null");
}

void json_put_str(struct json_out *j, struct str value)
{
        before_value(j);
        quoted(j->out, value);
}

void json_put_text(struct json_out *j, const char *value)
{
        json_put_str(j, str_from(value));
}

void json_put_time(struct json_out *j, int64_t us)
{
        char text[TIME_TEXT_SIZE];

        time_print(us, text);
        before_value(j);
        buf_char(j->out, '"');
        buf_bytes(j->out, text, TIME_TEXT_SIZE - 1);
        buf_char(j->out, '"');
}

void json_put_id(struct json_out *j, const char *prefix, int64_t id)
{
        char text[ID_TEXT_SIZE];
        size_t n = id_print(prefix, id, text);

        before_value(j);
        buf_char(j->out, '"');
        buf_bytes(j->out, text, n);
        buf_char(j->out, '"');
}

void json_put_raw(struct json_out *j, struct str json)
{
        before_value(j);
        buf_str(j->out, json);
}

static void actor(struct json_out *j, struct str s)
{
        struct str ref, kind = str_cut(s, ':', &ref);

        json_begin_object(j);
        json_key(j, "kind");
        json_put_str(j, kind);
        json_key(j, "ref");
        json_put_str(j, ref);
        json_end_object(j);
}

static void caps(struct json_out *j, struct str s)
{
        json_begin_list(j);
        while (s.n)
                json_put_str(j, str_cut(s, ',', &s));
        json_end_list(j);
}

static void set(struct json_out *j, const struct names *names, int64_t bits)
{
        json_begin_list(j);
        for (int i = 0; names->text[i]; i++)
                if (bits >> i & 1)
                        json_put_text(j, names->text[i]);
        json_end_list(j);
}

static void hex(struct json_out *j, struct str bytes)
{
        before_value(j);
        buf_char(j->out, '"');
        for (size_t i = 0; i < bytes.n; i++) {
                unsigned char c = (unsigned char)bytes.p[i];

                buf_char(j->out, hex_digits[c >> 4]);
                buf_char(j->out, hex_digits[c & 15]);
        }
        buf_char(j->out, '"');
}

static void value(struct json_out *j, const struct field *f, const void *base)
{
        const struct str *text = FIELD_IN(base, f, struct str);

        switch (f->kind) {
        case FIELD_INT:
                json_put_int(j, *FIELD_IN(base, f, int64_t));
                break;
        case FIELD_BOOL:
                json_put_bool(j, *FIELD_IN(base, f, bool));
                break;
        case FIELD_TIME:
                json_put_time(j, *FIELD_IN(base, f, int64_t));
                break;
        case FIELD_ID:
                json_put_id(j, f->type, *FIELD_IN(base, f, int64_t));
                break;
        case FIELD_ENUM:
                json_put_text(j, names_text(f->type, *FIELD_IN(base, f, int)));
                break;
        case FIELD_SET:
                set(j, f->type, *FIELD_IN(base, f, int64_t));
                break;
        case FIELD_STR:
        case FIELD_NAME:
                json_put_str(j, *text);
                break;
        case FIELD_JSON:
                json_put_raw(j, *text);
                break;
        case FIELD_ACTOR:
                actor(j, *text);
                break;
        case FIELD_CAPS:
                caps(j, *text);
                break;
        case FIELD_BYTES:
                hex(j, *text);
                break;
        case FIELD_RECORD:
                json_record(j, f->type, *FIELD_IN(base, f, void *const));
                break;
        case FIELD_LIST: {
                const struct list *list = FIELD_IN(base, f, struct list);
                const struct record *type = f->type;

                json_begin_list(j);
                for (size_t i = 0; i < list->n; i++)
                        json_record(j, type, (const char *)list->items + i * type->size);
                json_end_list(j);
                break;
        }
        }
}

void json_members(struct json_out *j, const struct record *record, const void *base)
{
        bool written = false;

        if (record->base)
                json_members(j, record->base, base);
        for (size_t i = 0; i < record->n; i++) {
                const struct field *f = &record->fields[i];
                bool empty = field_is_empty(f, base);

                written = (f->flags & (FIELD_WIRE | FIELD_FIXED)) == FIELD_WIRE &&
                          (!empty || (f->flags & FIELD_ALWAYS) ||
                           (written && (f->flags & FIELD_FOLLOWS)));
                if (!written)
                        continue;
                json_key(j, f->name);
                if (empty && field_has_null(f))
                        json_put_null(j);
                else
                        value(j, f, base);
        }
}

void json_record(struct json_out *j, const struct record *record, const void *base)
{
        json_begin_object(j);
        json_members(j, record, base);
        json_end_object(j);
}

void json_stored(struct json_out *j, const struct record *record, const void *base)
{
        json_begin_object(j);
        for (size_t i = 0; i < record->n; i++) {
                const struct field *f = &record->fields[i];

                if (!(f->flags & FIELD_COLUMN) || field_is_empty(f, base))
                        continue;
                json_key(j, f->name);
                value(j, f, base);
        }
        json_end_object(j);
}

/* A problem document.  `limit` may be 0, so it is a text when it is there. */
struct problem_view {
        struct str type, title, detail, instance, diagnostic, resource, field, limit, actual;
        int64_t status;
        int code;
};

#define AT(member) offsetof(struct problem_view, member)
enum { GIVEN = FIELD_WIRE | FIELD_REQUIRED };
static const struct field problem_fields[] = {
        { "type", FIELD_STR, GIVEN, AT(type) },
        { "title", FIELD_STR, GIVEN, AT(title) },
        { "status", FIELD_INT, GIVEN, AT(status) },
        { "code", FIELD_ENUM, GIVEN, AT(code), &err_names },
        { "detail", FIELD_STR, GIVEN, AT(detail), .doc = "what is wrong and what would be right" },
        { "instance", FIELD_STR, FIELD_WIRE, AT(instance) },
        { "diagnostic", FIELD_STR, FIELD_WIRE, AT(diagnostic), .doc = "finer than the code" },
        { "resource", FIELD_STR, FIELD_WIRE, AT(resource), .doc = "what was not found" },
        { "field", FIELD_STR, FIELD_WIRE, AT(field), .doc = "as a path: steps[2].action" },
        { "limit", FIELD_JSON, FIELD_WIRE, AT(limit), "integer" },
        { "actual", FIELD_JSON, FIELD_WIRE, AT(actual), "integer" },
};
const struct record problem_record = { "Problem", problem_fields, LENGTH(problem_fields),
                                       sizeof(struct problem_view), -1 };

void json_problem(struct json_out *j, const struct fault *fault, struct str instance)
{
        char type[64], limit[24], actual[24];
        struct problem_view view = {
                .title = str_from(err_name(fault->code)),
                .status = err_http_status(fault->code),
                .code = (int)fault->code,
                .detail = fault->detail.p ? fault->detail : STR(""),
                .instance = instance.n ? instance : STR_NONE,
                .diagnostic = fault->diagnostic ? str_from(fault->diagnostic) : STR_NONE,
                .resource = fault->resource.n ? fault->resource : STR_NONE,
                .field = fault->field.n ? fault->field : STR_NONE,
        };

        snprintf(type, sizeof(type), "urn:baton:error:%s", err_name(fault->code));
        view.type = str_from(type);
        if (fault->has_limit) {
                snprintf(limit, sizeof(limit), "%lld", (long long)fault->limit);
                snprintf(actual, sizeof(actual), "%lld", (long long)fault->actual);
                view.limit = str_from(limit);
                view.actual = str_from(actual);
        }
        json_record(j, &problem_record, &view);
}
