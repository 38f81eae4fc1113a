#include "flow/yaml.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

struct anchor {
        struct str name;
        struct value value;
        size_t nodes; /* when expanded */
        int height;   /* of its nesting */
        struct anchor *next;
};

struct reader {
        struct scope *scope;
        yaml_parser_t parser;
        struct anchor *anchors;
        size_t nodes; /* so far, aliases expanded */
};

struct node {
        struct value value;
        size_t nodes; /* what it weighs when expanded: one, and one more for each 64 bytes of text */
        int height;   /* 0 for a scalar */
};

static enum err refuse(struct reader *r, const yaml_mark_t *mark, const char *what)
{
        return fail(r->scope, ERR_INVALID_YAML, "line %zu, column %zu: %s", mark->line + 1,
                    mark->column + 1, what);
}

static enum err next_event(struct reader *r, yaml_event_t *event)
{
        if (yaml_parser_parse(&r->parser, event))
                return ERR_OK;
        return refuse(r, &r->parser.problem_mark,
                      r->parser.problem ? r->parser.problem : "not readable");
}

static enum err count(struct reader *r, const yaml_mark_t *mark, size_t nodes)
{
        r->nodes += nodes;
        return r->nodes <= YAML_MAX_NODES ?
                       ERR_OK :
                       refuse(r, mark, "more than 50000 values once its aliases are expanded");
}

/* ---- scalars ---- */

static const struct word {
        const char *text;
        struct value value;
} words[] = {
        { "", { .kind = VALUE_NULL } },
        { "~", { .kind = VALUE_NULL } },
        { "null", { .kind = VALUE_NULL } },
        { "Null", { .kind = VALUE_NULL } },
        { "NULL", { .kind = VALUE_NULL } },
        { "true", { .kind = VALUE_BOOL, .truth = true } },
        { "True", { .kind = VALUE_BOOL, .truth = true } },
        { "TRUE", { .kind = VALUE_BOOL, .truth = true } },
        { "false", { .kind = VALUE_BOOL } },
        { "False", { .kind = VALUE_BOOL } },
        { "FALSE", { .kind = VALUE_BOOL } },
};

static bool looks_like_number(struct str s)
{
        size_t i = s.n && (s.p[0] == '-' || s.p[0] == '+'), digits = 0;

        for (; i < s.n; i++) {
                if (s.p[i] >= '0' && s.p[i] <= '9')
                        digits++;
                else if (!strchr(".eE+-", s.p[i]))
                        return false;
        }
        return digits > 0;
}

static bool read_integer(struct scope *scope, struct str s, struct value *out)
{
        int base = s.n > 2 && s.p[0] == '0' && s.p[1] == 'x' ? 16 :
                   s.n > 2 && s.p[0] == '0' && s.p[1] == 'o' ? 8 :
                                                               10;
        const char *text = str_c(&scope->arena, s) + (base == 10 ? 0 : 2);
        char *end;
        long long number;

        errno = 0;
        number = strtoll(text, &end, base);
        if (errno || *end || end == text)
                return false;
        *out = (struct value){ .kind = VALUE_INT, .number = number };
        return true;
}

static bool read_real(struct scope *scope, struct str s, struct value *out)
{
        char *end;
        double real = strtod(str_c(&scope->arena, s), &end);

        if (*end || !isfinite(real))
                return false;
        *out = (struct value){ .kind = VALUE_DOUBLE, .real = real };
        return true;
}

static struct value plain(struct scope *scope, struct str text)
{
        struct value out = { .kind = VALUE_STRING, .text = text };

        for (size_t i = 0; i < LENGTH(words); i++)
                if (str_is(text, words[i].text))
                        return words[i].value;
        if (str_starts(text, "0x") || str_starts(text, "0o"))
                (void)read_integer(scope, text, &out);
        else if (looks_like_number(text) && !read_integer(scope, text, &out))
                (void)read_real(scope, text, &out);
        return out;
}

static enum err read_scalar(struct reader *r, const yaml_event_t *event, struct node *out)
{
        struct scope *scope = r->scope;
        const char *tag = (const char *)event->data.scalar.tag;
        struct str text = { (const char *)event->data.scalar.value, event->data.scalar.length };

        if (tag && strcmp(tag, YAML_STR_TAG) != 0 && strcmp(tag, "!") != 0)
                return refuse(r, &event->start_mark, "tags are not supported; leave the tag out");
        if (!str_is_utf8(text))
                return refuse(r, &event->start_mark, "a text is not UTF-8 or contains NUL");
        text = str_dup(&scope->arena, text);
        *out = (struct node){ .nodes = 1 + text.n / 64 };
        if (!tag && event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
                out->value = plain(scope, text);
        else
                out->value = (struct value){ .kind = VALUE_STRING, .text = text };
        return count(r, &event->start_mark, out->nodes);
}

/* ---- aliases ---- */

static void remember(struct reader *r, const yaml_char_t *name, const struct node *node)
{
        struct anchor *anchor;

        if (!name)
                return;
        anchor = arena_new(&r->scope->arena, struct anchor);
        *anchor = (struct anchor){ str_dup(&r->scope->arena, str_from((const char *)name)),
                                   node->value, node->nodes, node->height, r->anchors };
        r->anchors = anchor;
}

static enum err read_alias(struct reader *r, const yaml_event_t *event, int depth, struct node *out)
{
        for (const struct anchor *a = r->anchors; a; a = a->next)
                if (str_is(a->name, (const char *)event->data.alias.anchor)) {
                        *out = (struct node){ a->value, a->nodes, a->height };
                        if (depth + a->height > YAML_MAX_DEPTH)
                                return refuse(r, &event->start_mark, "nested deeper than 64");
                        return count(r, &event->start_mark, a->nodes);
                }
        return refuse(r, &event->start_mark, "an alias without a finished anchor");
}

/* ---- collections ---- */

static enum err read_node(struct reader *, const yaml_event_t *, int depth, struct node *);

/* A collection weighs and nests as what it holds. */
static void add_below(struct node *out, const struct node *item, size_t keys)
{
        out->nodes += item->nodes + keys;
        if (out->height < item->height + 1)
                out->height = item->height + 1;
}

static enum err read_list(struct reader *r, int depth, struct node *out)
{
        struct value_list *list = arena_new(&r->scope->arena, struct value_list);
        size_t size = 0;

        for (;;) {
                yaml_event_t event;
                struct node item;
                enum err e = next_event(r, &event);

                if (e)
                        return e;
                if (event.type == YAML_SEQUENCE_END_EVENT) {
                        yaml_event_delete(&event);
                        out->value = (struct value){ .kind = VALUE_LIST, .list = list };
                        return ERR_OK;
                }
                e = read_node(r, &event, depth + 1, &item);
                yaml_event_delete(&event);
                if (e)
                        return e;
                if (list->n == size) {
                        struct value *old = list->items;

                        size = size ? 2 * size : 8;
                        list->items = arena_array(&r->scope->arena, struct value, size);
                        if (old)
                                memcpy(list->items, old, list->n * sizeof(*old));
                }
                list->items[list->n++] = item.value;
                add_below(out, &item, 0);
        }
}

/* Keys are texts, as in JSON: 1 and true are read as "1" and "true". */
static enum err read_key(struct reader *r, const yaml_event_t *event, const struct value_map *map,
                         struct value *out)
{
        struct str text;

        if (event->type != YAML_SCALAR_EVENT)
                return refuse(r, &event->start_mark, "a key must be a plain text");
        text = str_dup(&r->scope->arena, (struct str){ (const char *)event->data.scalar.value,
                                                       event->data.scalar.length });
        if (!str_is_utf8(text))
                return refuse(r, &event->start_mark, "a key is not UTF-8 or contains NUL");
        if (str_is(text, "<<") && event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
                return refuse(r, &event->start_mark, "merge keys (<<) are not supported");
        if (map->n == YAML_MAX_KEYS)
                return refuse(r, &event->start_mark, "more than 4096 keys in one map");
        for (size_t i = 0; i < map->n; i++)
                if (str_eq(map->entries[i].key.text, text))
                        return refuse(r, &event->start_mark, "this key is given twice");
        *out = (struct value){ .kind = VALUE_STRING, .text = text };
        return count(r, &event->start_mark, 1);
}

static enum err read_entry(struct reader *r, const yaml_event_t *key, int depth,
                           const struct value_map *map, struct value_entry *entry, struct node *out)
{
        yaml_event_t event;
        struct node value;
        enum err e = read_key(r, key, map, &entry->key);

        if (!e)
                e = next_event(r, &event);
        if (e)
                return e;
        e = read_node(r, &event, depth + 1, &value);
        yaml_event_delete(&event);
        if (e)
                return e;
        entry->value = value.value;
        add_below(out, &value, 1);
        return ERR_OK;
}

static enum err read_map(struct reader *r, int depth, struct node *out)
{
        struct value_map *map = arena_new(&r->scope->arena, struct value_map);
        size_t size = 0;

        for (;;) {
                yaml_event_t event;
                struct value_entry entry;
                enum err e = next_event(r, &event);

                if (e)
                        return e;
                if (event.type == YAML_MAPPING_END_EVENT) {
                        yaml_event_delete(&event);
                        out->value = (struct value){ .kind = VALUE_MAP, .map = map };
                        return ERR_OK;
                }
                e = read_entry(r, &event, depth, map, &entry, out);
                yaml_event_delete(&event);
                if (e)
                        return e;
                if (map->n == size) {
                        struct value_entry *old = map->entries;

                        size = size ? 2 * size : 8;
                        map->entries = arena_array(&r->scope->arena, struct value_entry, size);
                        if (old)
                                memcpy(map->entries, old, map->n * sizeof(*old));
                }
                map->entries[map->n++] = entry;
        }
}

static enum err read_collection(struct reader *r, const yaml_event_t *event, const yaml_char_t *tag,
                                const yaml_char_t *anchor, int depth, struct node *out)
{
        enum err e;

        if (tag)
                return refuse(r, &event->start_mark, "tags are not supported; leave the tag out");
        if (depth >= YAML_MAX_DEPTH)
                return refuse(r, &event->start_mark, "nested deeper than 64");
        e = count(r, &event->start_mark, 1);
        *out = (struct node){ .nodes = 1, .height = 1 };
        if (!e)
                e = event->type == YAML_MAPPING_START_EVENT ? read_map(r, depth, out) :
                                                              read_list(r, depth, out);
        if (!e)
                remember(r, anchor, out);
        return e;
}

static enum err read_node(struct reader *r, const yaml_event_t *event, int depth, struct node *out)
{
        enum err e;

        if (event->type == YAML_ALIAS_EVENT)
                return read_alias(r, event, depth, out);
        if (event->type == YAML_MAPPING_START_EVENT)
                return read_collection(r, event, event->data.mapping_start.tag,
                                       event->data.mapping_start.anchor, depth, out);
        if (event->type == YAML_SEQUENCE_START_EVENT)
                return read_collection(r, event, event->data.sequence_start.tag,
                                       event->data.sequence_start.anchor, depth, out);
        if (event->type != YAML_SCALAR_EVENT)
                return refuse(r, &event->start_mark, "a value is missing");
        e = read_scalar(r, event, out);
        if (!e)
                remember(r, event->data.scalar.anchor, out);
        return e;
}

/* ---- the document ---- */

static enum err expect(struct reader *r, yaml_event_type_t type, const char *otherwise)
{
        yaml_event_t event;
        enum err e = next_event(r, &event);

        if (e)
                return e;
        if (event.type != type)
                e = refuse(r, &event.start_mark, otherwise);
        yaml_event_delete(&event);
        return e;
}

static enum err read_root(struct reader *r, struct value *out)
{
        struct node node = { 0 };
        yaml_event_t event;
        enum err e = next_event(r, &event);

        if (e)
                return e;
        e = read_node(r, &event, 0, &node);
        yaml_event_delete(&event);
        if (!e)
                *out = node.value;
        return e;
}

enum err yaml_read(struct scope *scope, struct str text, struct value *out)
{
        struct reader r = { .scope = scope };
        enum err e;

        if (!yaml_parser_initialize(&r.parser))
                return fail(scope, ERR_INTERNAL, "out of memory");
        yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
        yaml_parser_set_input_string(&r.parser, (const unsigned char *)text.p, text.n);
        e = expect(&r, YAML_STREAM_START_EVENT, "not a YAML stream");
        if (!e)
                e = expect(&r, YAML_DOCUMENT_START_EVENT, "the document is empty");
        if (!e)
                e = read_root(&r, out);
        if (!e)
                e = expect(&r, YAML_DOCUMENT_END_EVENT, "more than one value");
        if (!e)
                e = expect(&r, YAML_STREAM_END_EVENT, "more than one document; send one");
        yaml_parser_delete(&r.parser);
        return e;
}
