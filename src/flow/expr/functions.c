/* The table of functions and operators, and how a call finds its row. */
#include <string.h>

#include "flow/expr/parts.h"

static const struct function functions[] = {
        { "==", STYLE_OPERATOR, "**", run_equal },
        { "!=", STYLE_OPERATOR, "**", run_unequal },
        { "!", STYLE_OPERATOR, "b", run_not },
        { "<", STYLE_OPERATOR, "##", run_less },
        { "<", STYLE_OPERATOR, "ss", run_less },
        { "<", STYLE_OPERATOR, "bb", run_less },
        { "<", STYLE_OPERATOR, "tt", run_less },
        { "<", STYLE_OPERATOR, "uu", run_less },
        { "<=", STYLE_OPERATOR, "##", run_less_equal },
        { "<=", STYLE_OPERATOR, "ss", run_less_equal },
        { "<=", STYLE_OPERATOR, "bb", run_less_equal },
        { "<=", STYLE_OPERATOR, "tt", run_less_equal },
        { "<=", STYLE_OPERATOR, "uu", run_less_equal },
        { ">", STYLE_OPERATOR, "##", run_greater },
        { ">", STYLE_OPERATOR, "ss", run_greater },
        { ">", STYLE_OPERATOR, "bb", run_greater },
        { ">", STYLE_OPERATOR, "tt", run_greater },
        { ">", STYLE_OPERATOR, "uu", run_greater },
        { ">=", STYLE_OPERATOR, "##", run_greater_equal },
        { ">=", STYLE_OPERATOR, "ss", run_greater_equal },
        { ">=", STYLE_OPERATOR, "bb", run_greater_equal },
        { ">=", STYLE_OPERATOR, "tt", run_greater_equal },
        { ">=", STYLE_OPERATOR, "uu", run_greater_equal },
        { "in", STYLE_OPERATOR, "*l", run_in_list },
        { "in", STYLE_OPERATOR, "*m", run_in_map },
        { "+", STYLE_OPERATOR, "ii", run_add },
        { "+", STYLE_OPERATOR, "dd", run_add },
        { "+", STYLE_OPERATOR, "ss", run_join_two },
        { "+", STYLE_OPERATOR, "ll", run_concat },
        { "+", STYLE_OPERATOR, "tu", run_time_add },
        { "+", STYLE_OPERATOR, "ut", run_time_add },
        { "+", STYLE_OPERATOR, "uu", run_time_add },
        { "-", STYLE_OPERATOR, "ii", run_subtract },
        { "-", STYLE_OPERATOR, "dd", run_subtract },
        { "-", STYLE_OPERATOR, "tt", run_time_subtract },
        { "-", STYLE_OPERATOR, "tu", run_time_subtract },
        { "-", STYLE_OPERATOR, "uu", run_time_subtract },
        { "*", STYLE_OPERATOR, "ii", run_multiply },
        { "*", STYLE_OPERATOR, "dd", run_multiply },
        { "/", STYLE_OPERATOR, "ii", run_divide },
        { "/", STYLE_OPERATOR, "dd", run_divide },
        { "%", STYLE_OPERATOR, "ii", run_modulo },
        { "-_", STYLE_OPERATOR, "i", run_negate },
        { "-_", STYLE_OPERATOR, "d", run_negate },
        { "-_", STYLE_OPERATOR, "u", run_time_negate },
        { "[]", STYLE_OPERATOR, "l#", run_at },
        { "[]", STYLE_OPERATOR, "m*", run_at_key },

        { "size", STYLE_EITHER, "s", run_text_size },
        { "size", STYLE_EITHER, "l", run_list_size },
        { "size", STYLE_EITHER, "m", run_map_size },
        { "dyn", STYLE_CALL, "*", run_same },
        { "type", STYLE_CALL, "*", run_type },
        { "int", STYLE_CALL, "#", run_to_int },
        { "int", STYLE_CALL, "s", run_to_int },
        { "int", STYLE_CALL, "t", run_to_int },
        { "double", STYLE_CALL, "#", run_to_double },
        { "double", STYLE_CALL, "s", run_to_double },
        { "bool", STYLE_CALL, "b", run_to_bool },
        { "bool", STYLE_CALL, "s", run_to_bool },
        { "string", STYLE_CALL, "s", run_to_text },
        { "string", STYLE_CALL, "#", run_to_text },
        { "string", STYLE_CALL, "b", run_to_text },
        { "string", STYLE_CALL, "t", run_to_text },
        { "string", STYLE_CALL, "u", run_to_text },
        { "timestamp", STYLE_CALL, "s", run_to_timestamp },
        { "timestamp", STYLE_CALL, "i", run_to_timestamp },
        { "timestamp", STYLE_CALL, "t", run_same },
        { "duration", STYLE_CALL, "s", run_to_duration },
        { "duration", STYLE_CALL, "u", run_same },
        { "now", STYLE_CALL, "", run_now },

        { "contains", STYLE_METHOD, "ss", run_contains },
        { "startsWith", STYLE_METHOD, "ss", run_starts },
        { "endsWith", STYLE_METHOD, "ss", run_ends },
        { "matches", STYLE_EITHER, "ss", run_matches },
        { "charAt", STYLE_METHOD, "si", run_char_at },
        { "indexOf", STYLE_METHOD, "ss", run_index_of },
        { "indexOf", STYLE_METHOD, "ssi", run_index_of },
        { "lastIndexOf", STYLE_METHOD, "ss", run_last_index_of },
        { "lastIndexOf", STYLE_METHOD, "ssi", run_last_index_of },
        { "lowerAscii", STYLE_METHOD, "s", run_lower },
        { "upperAscii", STYLE_METHOD, "s", run_upper },
        { "replace", STYLE_METHOD, "sss", run_replace },
        { "replace", STYLE_METHOD, "sssi", run_replace },
        { "split", STYLE_METHOD, "ss", run_split },
        { "split", STYLE_METHOD, "ssi", run_split },
        { "substring", STYLE_METHOD, "si", run_substring },
        { "substring", STYLE_METHOD, "sii", run_substring },
        { "trim", STYLE_METHOD, "s", run_trim },
        { "strings.quote", STYLE_CALL, "s", run_quote },
        { "join", STYLE_METHOD, "l", run_join },
        { "join", STYLE_METHOD, "ls", run_join },
        { "reverse", STYLE_METHOD, "s", run_reverse_text },
        { "reverse", STYLE_METHOD, "l", run_reverse_list },

        { "slice", STYLE_METHOD, "lii", run_slice },
        { "distinct", STYLE_METHOD, "l", run_distinct },
        { "flatten", STYLE_METHOD, "l", run_flatten },
        { "sort", STYLE_METHOD, "l", run_sort },
        { "lists.range", STYLE_CALL, "i", run_range },

        { "math.abs", STYLE_CALL, "#", run_abs },
        { "math.sign", STYLE_CALL, "#", run_sign },
        { "math.ceil", STYLE_CALL, "d", run_ceil },
        { "math.floor", STYLE_CALL, "d", run_floor },
        { "math.round", STYLE_CALL, "d", run_round },
        { "math.trunc", STYLE_CALL, "d", run_trunc },
        { "math.isNaN", STYLE_CALL, "d", run_is_nan },
        { "math.isInf", STYLE_CALL, "d", run_is_inf },
        { "math.greatest", STYLE_CALL, "l", run_greatest },
        { "math.greatest", STYLE_CALL, "#", run_greatest },
        { "math.greatest", STYLE_CALL, "##", run_greatest },
        { "math.greatest", STYLE_CALL, "###", run_greatest },
        { "math.least", STYLE_CALL, "l", run_least },
        { "math.least", STYLE_CALL, "#", run_least },
        { "math.least", STYLE_CALL, "##", run_least },
        { "math.least", STYLE_CALL, "###", run_least },

        { "getFullYear", STYLE_METHOD, "t", run_full_year },
        { "getFullYear", STYLE_METHOD, "ts", run_full_year },
        { "getMonth", STYLE_METHOD, "t", run_month },
        { "getMonth", STYLE_METHOD, "ts", run_month },
        { "getDate", STYLE_METHOD, "t", run_date },
        { "getDate", STYLE_METHOD, "ts", run_date },
        { "getDayOfMonth", STYLE_METHOD, "t", run_day_of_month },
        { "getDayOfMonth", STYLE_METHOD, "ts", run_day_of_month },
        { "getDayOfWeek", STYLE_METHOD, "t", run_day_of_week },
        { "getDayOfWeek", STYLE_METHOD, "ts", run_day_of_week },
        { "getDayOfYear", STYLE_METHOD, "t", run_day_of_year },
        { "getDayOfYear", STYLE_METHOD, "ts", run_day_of_year },
        { "getHours", STYLE_METHOD, "t", run_hours },
        { "getHours", STYLE_METHOD, "ts", run_hours },
        { "getHours", STYLE_METHOD, "u", run_span_hours },
        { "getMinutes", STYLE_METHOD, "t", run_minutes },
        { "getMinutes", STYLE_METHOD, "ts", run_minutes },
        { "getMinutes", STYLE_METHOD, "u", run_span_minutes },
        { "getSeconds", STYLE_METHOD, "t", run_seconds },
        { "getSeconds", STYLE_METHOD, "ts", run_seconds },
        { "getSeconds", STYLE_METHOD, "u", run_span_seconds },
        { "getMilliseconds", STYLE_METHOD, "t", run_milliseconds },
        { "getMilliseconds", STYLE_METHOD, "ts", run_milliseconds },
        { "getMilliseconds", STYLE_METHOD, "u", run_span_milliseconds },
};

static bool style_fits(enum call_style style, bool method, bool operator_)
{
        return operator_ ? style == STYLE_OPERATOR :
               method    ? style == STYLE_METHOD || style == STYLE_EITHER :
                           style == STYLE_CALL || style == STYLE_EITHER;
}

const struct function *function_find(struct str name, bool method, bool operator_)
{
        for (size_t i = 0; i < LENGTH(functions); i++)
                if (style_fits(functions[i].style, method, operator_) &&
                    str_is(name, functions[i].name))
                        return &functions[i];
        return NULL;
}

/* The next overload of the same name, or NULL. */
static const struct function *next(const struct function *f)
{
        const struct function *after = f + 1;

        return after < functions + LENGTH(functions) && strcmp(after->name, f->name) == 0 ? after :
                                                                                           NULL;
}

bool function_takes(const struct function *f, size_t n)
{
        for (; f; f = next(f))
                if (strlen(f->takes) == n)
                        return true;
        return false;
}

static const struct {
        enum value_kind kind;
        char letter;
} letters[] = {
        { VALUE_NULL, 'n' },   { VALUE_BOOL, 'b' }, { VALUE_INT, 'i' },
        { VALUE_DOUBLE, 'd' }, { VALUE_STRING, 's' }, { VALUE_LIST, 'l' },
        { VALUE_MAP, 'm' },    { VALUE_TIMESTAMP, 't' }, { VALUE_DURATION, 'u' },
        { VALUE_TYPE, 'T' },
};

static bool kind_fits(enum value_kind kind, char letter)
{
        if (letter == '*')
                return true;
        if (letter == '#')
                return kind == VALUE_INT || kind == VALUE_DOUBLE;
        for (size_t i = 0; i < LENGTH(letters); i++)
                if (letters[i].kind == kind)
                        return letters[i].letter == letter;
        return false;
}

static bool fits(const struct function *f, const struct value *args, size_t n)
{
        if (strlen(f->takes) != n)
                return false;
        for (size_t i = 0; i < n; i++)
                if (!kind_fits(args[i].kind, f->takes[i]))
                        return false;
        return true;
}

static struct str letter_name(char letter)
{
        for (size_t i = 0; i < LENGTH(letters); i++)
                if (letters[i].letter == letter) {
                        struct str name = type_of((struct value){ .kind = letters[i].kind });

                        return letter == 't' ? STR("timestamp") : letter == 'u' ? STR("duration") : name;
                }
        return letter == '#' ? STR("number") : STR("any");
}

static void put_letters(struct buf *out, const char *takes)
{
        buf_char(out, '(');
        for (size_t i = 0; takes[i]; i++) {
                buf_text(out, i ? ", " : "");
                buf_str(out, letter_name(takes[i]));
        }
        buf_char(out, ')');
}

static enum err no_overload(struct eval *ev, const struct node *node, const struct value *args)
{
        struct buf text = BUF_INIT(600);
        char given[8] = "";
        enum err e;

        for (size_t i = 0; i < node->n && i < sizeof(given) - 1; i++)
                for (size_t k = 0; k < LENGTH(letters); k++)
                        if (letters[k].kind == args[i].kind)
                                given[i] = letters[k].letter;
        put_letters(&text, given);
        buf_text(&text, "; it takes ");
        for (const struct function *f = node->function; f; f = next(f)) {
                buf_text(&text, f == node->function ? "" : ", ");
                put_letters(&text, f->takes);
        }
        e = eval_fail(ev, "no overload of %s for %s",
                      strcmp(node->function->name, "-_") == 0 ? "-" : node->function->name,
                      text.p ? text.p : "");
        buf_done(&text);
        return e;
}

enum err function_call(struct eval *ev, const struct node *node, const struct value *args,
                       struct value *out)
{
        for (const struct function *f = node->function; f; f = next(f)) {
                if (fits(f, args, node->n)) {
                        ev->given = node->n;
                        return f->run(ev, args, out);
                }
        }
        return no_overload(ev, node, args);
}
