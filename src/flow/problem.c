#include "flow/problem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define AT(member) offsetof(struct problem, member)
enum { GIVEN = FIELD_WIRE | FIELD_REQUIRED };
static const struct field problem_fields[] = {
        { "path", FIELD_STR, GIVEN, AT(path) },
        { "code", FIELD_STR, GIVEN, AT(code) },
        { "message", FIELD_STR, GIVEN, AT(message) },
        { "hint", FIELD_STR, FIELD_WIRE, AT(hint) },
};
const struct record definition_problem_record = { "DefinitionProblem", problem_fields,
                                                  LENGTH(problem_fields), sizeof(struct problem),
                                                  -1 };

/* What to do about a problem whose place says nothing better. */
static const struct {
        const char *code, *hint;
} remedies[] = {
        { "required", "add it" },
        { "type", "give a value of that kind" },
        { "limit", "stay within the bounds" },
        { "duplicate", "choose another one" },
        { "target", "name a later step of the same list by its id or index" },
        { "unknown_field", "leave it out" },
        { "invalid_condition", "expressions are CEL: see docs/DEFINITIONS.md" },
        { "invalid_yaml", "check indentation, quotes and colons at that place" },
        { "invalid_json", "check commas, quotes and braces at that place" },
        { "subtask_cycle", "let the inner definition end without starting the outer one" },
};

static const char *remedy(const char *code)
{
        for (size_t i = 0; i < LENGTH(remedies); i++)
                if (strcmp(remedies[i].code, code) == 0)
                        return remedies[i].hint;
        return NULL;
}

void problem_add(struct problems *problems, struct str path, const char *code, const char *hint,
                 const char *fmt, ...)
{
        struct arena *arena = &problems->scope->arena;
        char text[512];
        va_list args;

        if (problems->n == PROBLEMS_MAX)
                return;
        if (!problems->items)
                problems->items = arena_array(arena, struct problem, PROBLEMS_MAX);
        va_start(args, fmt);
        vsnprintf(text, sizeof(text), fmt, args);
        va_end(args);
        problems->items[problems->n++] = (struct problem){
                .path = path.p ? path : STR(""), /* of the whole document */
                .code = str_from(code),
                .message = str_dup(arena, str_whole(str_from(text))),
                .hint = str_dup(arena, str_from(hint ? hint : remedy(code))),
        };
}

struct str path_member(struct scope *scope, struct str path, struct str name)
{
        return arena_printf(&scope->arena, STR_FMT "%s" STR_FMT, STR_ARG(path), path.n ? "." : "",
                            STR_ARG(name));
}

struct str path_item(struct scope *scope, struct str path, size_t i)
{
        return arena_printf(&scope->arena, STR_FMT "[%zu]", STR_ARG(path), i);
}

/* Levenshtein distance, for names up to 31 bytes. */
static size_t distance(struct str a, const char *b)
{
        size_t row[32], n = strlen(b);

        if (a.n > 31 || n > 31)
                return 32;
        for (size_t j = 0; j <= n; j++)
                row[j] = j;
        for (size_t i = 1; i <= a.n; i++) {
                size_t diagonal = row[0];

                row[0] = i;
                for (size_t j = 1; j <= n; j++) {
                        size_t change = diagonal + (a.p[i - 1] != b[j - 1]);

                        diagonal = row[j];
                        if (row[j - 1] + 1 < change)
                                change = row[j - 1] + 1;
                        if (row[j] + 1 < change)
                                change = row[j] + 1;
                        row[j] = change;
                }
        }
        return row[n];
}

const char *nearest_hint(struct scope *scope, struct str given, const char *const *names)
{
        struct buf list = BUF_INIT(1024);
        const char *nearest = NULL;
        size_t best = 3;
        struct str said;

        for (size_t i = 0; names[i]; i++) {
                size_t d = distance(given, names[i]);

                if (d < best) {
                        best = d;
                        nearest = names[i];
                }
                buf_printf(&list, "%s%s", i ? ", " : "", names[i]);
        }
        said = nearest ? arena_printf(&scope->arena, "did you mean \"%s\"?", nearest) :
                         arena_printf(&scope->arena, "known are: %.*s", (int)list.n, list.p);
        buf_done(&list);
        return str_c(&scope->arena, said);
}
