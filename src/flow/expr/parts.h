/* The parts of the expression language among themselves; everybody else includes expr.h. */
#ifndef BATON_FLOW_EXPR_PARTS_H
#define BATON_FLOW_EXPR_PARTS_H

#include "flow/expr/expr.h"

/* ---- words ---- */

enum token_kind { TOKEN_END, TOKEN_NAME, TOKEN_QUOTED, TOKEN_INT, TOKEN_DOUBLE, TOKEN_TEXT, TOKEN_SIGN };

struct token {
        enum token_kind kind;
        size_t at;          /* offset in the source */
        struct str text;    /* as written; of TEXT and QUOTED what it stands for */
        uint64_t magnitude; /* of INT: a sign is not part of it */
        double real;
};

struct lexer {
        struct scope *scope;
        struct str source;
        size_t at;
};

enum err lex(struct lexer *, struct token *out) NODISCARD;
/* A word with a meaning of its own: false, true, null, in. */
bool lex_is_keyword(struct str);
/* A word kept free for other languages of the family; a field may be called so, a name may not. */
bool lex_is_reserved(struct str);

/* ERR_INVALID_CONDITION with "line:column: " before the text. */
enum err expr_refuse(struct scope *, struct str source, size_t at, const char *fmt, ...)
        PRINTF(4, 5) NODISCARD;

/* The beginning, in whole characters, as far as a message may quote it. */
struct str expr_clip(struct str);

/* ---- the tree ---- */

enum node_kind {
        NODE_LITERAL,
        NODE_NAME,
        NODE_SELECT,
        NODE_HAS,
        NODE_CALL, /* operators too */
        NODE_LIST,
        NODE_MAP, /* key, value, key, value */
        NODE_AND,
        NODE_OR,
        NODE_CHOICE,
        NODE_FOLD,
};

enum fold { FOLD_ALL, FOLD_EXISTS, FOLD_EXISTS_ONE, FOLD_MAP, FOLD_MAP_IF, FOLD_FILTER };

struct node {
        enum node_kind kind;
        enum fold fold;
        size_t at;
        size_t depth;     /* 1 for a leaf */
        struct str name;  /* of NAME, SELECT, HAS, CALL; of FOLD the variable */
        bool absolute;    /* NAME with a leading dot: never a variable of a macro */
        bool method;      /* CALL: args[0] stands before the dot */
        struct value literal;
        const struct function *function; /* the first row of this name; NULL = unknown */
        struct node **args;
        size_t n;
};

struct expr {
        struct str source;
        struct node *root;
};

/* The name of the macro, NULL if it is none; *fold of its form with this many arguments. */
const char *fold_name(enum fold);
/* What a bare name means when the environment does not know it. */
bool type_by_name(struct str, struct value *out);
struct str type_of(struct value);

/* ---- evaluation ---- */

struct binding {
        struct str name;
        struct value value;
        const struct binding *up;
};

struct eval {
        struct scope *scope;
        const struct expr *expr;
        const struct expr_env *env;
        const struct binding *bindings;
        size_t at;     /* of the sub-expression at work, for messages */
        int64_t cost;
        size_t given;  /* number of arguments of the function at work */
        bool over;     /* a bound was passed: no && or || absorbs that */
        struct str known;
        struct regex *regex; /* the last one, for patterns within macros */
};

enum err eval_fail(struct eval *, const char *fmt, ...) PRINTF(2, 3) NODISCARD;
/* Every step, element copied and 16 bytes made is charged before it is done. */
enum err eval_charge(struct eval *, uint64_t cost) NODISCARD;
enum err eval_charge_bytes(struct eval *, uint64_t bytes) NODISCARD;
/* Room for a text of n bytes, refused when no result could be that long. */
enum err eval_bytes(struct eval *, size_t n, char **out) NODISCARD;
enum err eval_items(struct eval *, size_t n, struct value **out) NODISCARD;
enum err eval_equal(struct eval *, struct value, struct value, bool *out) NODISCARD;
/* The entry with an equal key, NULL when there is none. */
enum err eval_lookup(struct eval *, struct value map, struct value key,
                     const struct value **out) NODISCARD;

/* ---- functions ---- */

enum call_style { STYLE_OPERATOR, STYLE_CALL, STYLE_METHOD, STYLE_EITHER };

typedef enum err function_run(struct eval *, const struct value *args, struct value *out);

/*
 * One overload.  `takes` has a letter for each argument: b bool, i int, d double, # int or double,
 * s string, l list, m map, t timestamp, u duration, n null, T type, * any.  The overloads of one
 * name stand together.
 */
struct function {
        const char *name;
        enum call_style style;
        const char *takes;
        function_run *run;
};

const struct function *function_find(struct str name, bool method, bool operator_);
/* Whether some overload takes this many arguments, a value before the dot among them. */
bool function_takes(const struct function *, size_t n);
enum err function_call(struct eval *, const struct node *, const struct value *args,
                       struct value *out) NODISCARD;

/* Numbers and what belongs to no kind. */
function_run run_equal, run_unequal, run_not, run_less, run_less_equal, run_greater,
        run_greater_equal, run_add, run_subtract, run_multiply, run_divide, run_modulo,
        run_negate, run_same, run_type, run_to_int, run_to_double, run_to_bool, run_to_text;
function_run run_abs, run_sign, run_ceil, run_floor, run_round, run_trunc, run_is_nan, run_is_inf,
        run_greatest, run_least;
/* Texts. */
function_run run_text_size, run_contains, run_starts, run_ends, run_matches, run_join_two,
        run_char_at, run_index_of, run_last_index_of, run_lower, run_upper, run_replace, run_split,
        run_substring, run_trim, run_reverse_text, run_quote;
/* Lists and maps. */
function_run run_list_size, run_map_size, run_concat, run_at, run_at_key, run_in_list, run_in_map,
        run_join, run_slice, run_distinct, run_flatten, run_reverse_list, run_sort, run_range;
/* Instants and durations. */
function_run run_to_timestamp, run_to_duration, run_now, run_full_year, run_month, run_date,
        run_day_of_month, run_day_of_week, run_day_of_year, run_hours, run_minutes, run_seconds,
        run_milliseconds, run_span_hours, run_span_minutes, run_span_seconds,
        run_span_milliseconds, run_time_add, run_time_subtract, run_time_negate;

/* -1, 0 or 1 for two values of kinds that compare; UNORDERED when one is NaN. */
enum { UNORDERED = 2 };
int value_order(struct value, struct value);
struct str number_text(struct scope *, double);
enum err regex_match(struct eval *, struct str text, struct str pattern, bool *out) NODISCARD;
void regex_done(struct eval *);

#endif
