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

static bool has_null(const struct field *f)
{
        return f->kind != FIELD_INT && f->kind != FIELD_BOOL && f->kind != FIELD_LIST &&
               f->kind != FIELD_CAPS;
}

void json_members(struct json_out *j, const struct record *record, const void *base)
{
        bool written = false;

        for (size_t i = 0; i < record->n; i++) {
                const struct field *f = &record->fields[i];
                bool empty = field_is_empty(f, base);

                written = (f->flags & (FIELD_WIRE | FIELD_FIXED)) == FIELD_WIRE &&
                          (!empty || (f->flags & FIELD_ALWAYS) ||
                           (written && (f->flags & FIELD_FOLLOWS)));
                if (!written)
                        continue;
                json_key(j, f->name);
                if (empty && has_null(f))
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

void json_problem(struct json_out *j, const struct fault *fault, struct str instance)
{
        json_begin_object(j);
        json_key(j, "type");
        buf_printf(j->out, "\"urn:baton:error:%s\"", err_name(fault->code));
        j->comma = true;
        json_key(j, "title");
        json_put_text(j, err_name(fault->code));
        json_key(j, "status");
        json_put_int(j, err_http_status(fault->code));
        json_key(j, "code");
        json_put_text(j, err_name(fault->code));
        json_key(j, "detail");
        json_put_str(j, fault->detail);
        if (instance.n) {
                json_key(j, "instance");
                json_put_str(j, instance);
        }
        if (fault->diagnostic) {
                json_key(j, "diagnostic");
                json_put_text(j, fault->diagnostic);
        }
        if (fault->resource.n) {
                json_key(j, "resource");
                json_put_str(j, fault->resource);
        }
        if (fault->field.n) {
                json_key(j, "field");
                json_put_str(j, fault->field);
        }
        if (fault->has_limit) {
                json_key(j, "limit");
                json_put_int(j, fault->limit);
                json_key(j, "actual");
                json_put_int(j, fault->actual);
        }
        json_end_object(j);
}
