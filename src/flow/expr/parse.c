#include <string.h>

#include "flow/expr/parts.h"

struct parser {
        struct scope *scope;
        struct lexer lexer;
        struct token token; /* the next one */
        size_t depth;       /* of the parser's own recursion */
};

static enum err parse_whole(struct parser *, struct node **out);

static enum err refuse_depth(struct parser *p, size_t at)
{
        return expr_refuse(p->scope, p->lexer.source, at,
                           "nested deeper than %d levels; split the expression", EXPR_MAX_DEPTH);
}

static enum err advance(struct parser *p)
{
        return lex(&p->lexer, &p->token);
}

static bool is_sign(const struct parser *p, const char *sign)
{
        return p->token.kind == TOKEN_SIGN && str_is(p->token.text, sign);
}

static enum err unexpected(struct parser *p, const char *wanted)
{
        struct str found = str_slice(p->lexer.source, p->token.at, p->lexer.at);

        if (p->token.kind == TOKEN_END)
                return expr_refuse(p->scope, p->lexer.source, p->token.at,
                                   "expected %s, but the expression ends here", wanted);
        return expr_refuse(p->scope, p->lexer.source, p->token.at, "expected %s, found " STR_FMT,
                           wanted, STR_ARG(expr_clip(found)));
}

static enum err expect(struct parser *p, const char *sign)
{
        char wanted[16] = { '"' };

        if (is_sign(p, sign))
                return advance(p);
        strcat(strcat(wanted, sign), "\"");
        return unexpected(p, wanted);
}

/* ---- nodes ---- */

/* A growing list of nodes; its room is always a power of two. */
static void push(struct parser *p, struct node *node, struct node *arg)
{
        size_t n = node->n;

        if ((n & (n - 1)) == 0) {
                struct node **grown = arena_array(&p->scope->arena, struct node *, n ? 2 * n : 1);

                if (n)
                        memcpy(grown, node->args, n * sizeof(*grown));
                node->args = grown;
        }
        node->args[node->n++] = arg;
        if (node->depth < arg->depth + 1)
                node->depth = arg->depth + 1;
}

static struct node *make(struct parser *p, enum node_kind kind, size_t at, struct str name)
{
        struct node *node = arena_new(&p->scope->arena, struct node);

        *node = (struct node){ .kind = kind, .at = at, .name = name, .depth = 1 };
        return node;
}

static enum err done(struct parser *p, struct node *node, struct node **out)
{
        if (node->depth > EXPR_MAX_DEPTH)
                return refuse_depth(p, node->at);
        *out = node;
        return ERR_OK;
}

static struct node *operator_(struct parser *p, const struct token *t)
{
        struct node *node = make(p, NODE_CALL, t->at, t->text);

        node->function = function_find(node->name, false, true);
        return node;
}

static struct node *literal(struct parser *p, size_t at, struct value v)
{
        struct node *node = make(p, NODE_LITERAL, at, STR_NONE);

        node->literal = v;
        return node;
}

/* ---- macros ---- */

static const struct {
        const char *name;
        size_t n;
        enum fold fold;
} macros[] = {
        { "all", 2, FOLD_ALL },       { "exists", 2, FOLD_EXISTS },
        { "exists_one", 2, FOLD_EXISTS_ONE }, { "map", 2, FOLD_MAP },
        { "map", 3, FOLD_MAP_IF },    { "filter", 2, FOLD_FILTER },
};

const char *fold_name(enum fold fold)
{
        for (size_t i = 0; i < LENGTH(macros); i++)
                if (macros[i].fold == fold)
                        return macros[i].name;
        return NULL;
}

static bool is_macro(struct str name)
{
        for (size_t i = 0; i < LENGTH(macros); i++)
                if (str_is(name, macros[i].name))
                        return true;
        return false;
}

/* call is range.name(variable, body...). */
static enum err make_fold(struct parser *p, struct node *call, struct node **out)
{
        for (size_t i = 0; i < LENGTH(macros); i++) {
                const struct node *variable = call->n > 1 ? call->args[1] : NULL;

                if (!variable || !str_is(call->name, macros[i].name) || call->n - 1 != macros[i].n)
                        continue;
                if (variable->kind != NODE_NAME || variable->absolute ||
                    str_find(variable->name, '.', 0) < variable->name.n)
                        return expr_refuse(p->scope, p->lexer.source, variable->at,
                                           "the first argument of %s() is the name of a variable",
                                           macros[i].name);
                call->kind = NODE_FOLD;
                call->fold = macros[i].fold;
                call->name = variable->name;
                memmove(call->args + 1, call->args + 2, (call->n - 2) * sizeof(*call->args));
                call->n--;
                *out = call;
                return ERR_OK;
        }
        return expr_refuse(p->scope, p->lexer.source, call->at,
                           STR_FMT "() takes a variable and %s", STR_ARG(call->name),
                           str_is(call->name, "map") ? "one or two expressions" : "a condition");
}

static enum err make_has(struct parser *p, struct node *call, struct node **out)
{
        if (call->n != 1 || call->args[0]->kind != NODE_SELECT)
                return expr_refuse(p->scope, p->lexer.source, call->at,
                                   "has() takes one field selection, as has(input.note)");
        *out = call->args[0];
        (*out)->kind = NODE_HAS;
        return ERR_OK;
}

/* ---- what is written without operators ---- */

/* Expressions up to the closing sign, which is taken. */
static enum err parse_arguments(struct parser *p, struct node *node, const char *close,
                                bool trailing_comma)
{
        while (!is_sign(p, close)) {
                struct node *arg;
                enum err e = parse_whole(p, &arg);

                if (e)
                        return e;
                push(p, node, arg);
                if (!is_sign(p, ","))
                        break;
                e = advance(p);
                if (e)
                        return e;
                if (is_sign(p, close) && !trailing_comma)
                        return unexpected(p, "an argument");
        }
        if (!is_sign(p, close))
                return unexpected(p, str_is(str_from(close), ")") ? "\",\" or \")\"" :
                                                                    "\",\" or \"]\"");
        return advance(p);
}

static enum err parse_entries(struct parser *p, struct node *map)
{
        while (!is_sign(p, "}")) {
                struct node *key, *value;
                enum err e = parse_whole(p, &key);

                if (!e)
                        e = expect(p, ":");
                if (!e)
                        e = parse_whole(p, &value);
                if (e)
                        return e;
                push(p, map, key);
                push(p, map, value);
                if (!is_sign(p, ","))
                        break;
                e = advance(p);
                if (e)
                        return e;
        }
        return is_sign(p, "}") ? advance(p) : unexpected(p, "\",\" or \"}\"");
}

static enum err parse_call(struct parser *p, struct node *call, struct node **out)
{
        enum err e = advance(p); /* the parenthesis */

        if (!e)
                e = parse_arguments(p, call, ")", false);
        if (e)
                return e;
        if (call->method && is_macro(call->name))
                e = make_fold(p, call, &call);
        else if (!call->method && str_is(call->name, "has"))
                e = make_has(p, call, &call);
        else
                call->function = function_find(call->name, call->method, false);
        return e ? e : done(p, call, out);
}

static enum err parse_name(struct parser *p, bool absolute, struct node **out)
{
        struct token name = p->token;
        enum err e;

        if (name.kind != TOKEN_NAME || lex_is_keyword(name.text))
                return unexpected(p, "a name");
        if (lex_is_reserved(name.text))
                return expr_refuse(p->scope, p->lexer.source, name.at,
                                   "\"" STR_FMT "\" is a reserved word and cannot be a name by "
                                   "itself; select it, as input." STR_FMT,
                                   STR_ARG(name.text), STR_ARG(name.text));
        e = advance(p);
        if (e)
                return e;
        if (is_sign(p, "("))
                return parse_call(p, make(p, NODE_CALL, name.at, name.text), out);
        *out = make(p, NODE_NAME, name.at, name.text);
        (*out)->absolute = absolute;
        return ERR_OK;
}

static enum err parse_number(struct parser *p, bool negative, size_t at, struct node **out)
{
        struct token t = p->token;
        struct value v = { .kind = VALUE_DOUBLE, .real = negative ? -t.real : t.real };

        if (t.kind == TOKEN_INT) {
                if (t.magnitude > (uint64_t)INT64_MAX + negative)
                        return expr_refuse(p->scope, p->lexer.source, at,
                                           "the integer does not fit in 64 bits");
                v.kind = VALUE_INT;
                v.number = (int64_t)(negative ? 0 - t.magnitude : t.magnitude);
        }
        *out = literal(p, at, v);
        return advance(p);
}

static bool constant(struct str word, struct value *out)
{
        *out = (struct value){ .kind = str_is(word, "null") ? VALUE_NULL : VALUE_BOOL,
                               .truth = str_is(word, "true") };
        return lex_is_keyword(word) && !str_is(word, "in");
}

static enum err parse_word(struct parser *p, struct node **out)
{
        struct value v;

        if (constant(p->token.text, &v)) {
                *out = literal(p, p->token.at, v);
                return advance(p);
        }
        return str_is(p->token.text, "in") ? unexpected(p, "a value") : parse_name(p, false, out);
}

/* A parenthesis, list, map or name behind a dot. */
static enum err parse_bracket(struct parser *p, struct node **out)
{
        size_t at = p->token.at;
        char sign = p->token.text.p[0];
        struct node *node;
        enum err e;

        if (p->token.text.n != 1 || !strchr("([{.", sign))
                return unexpected(p, "a value");
        e = advance(p);
        if (e)
                return e;
        if (sign == '.')
                return parse_name(p, true, out);
        if (sign == '(') {
                e = parse_whole(p, out);
                return e ? e : expect(p, ")");
        }
        node = make(p, sign == '[' ? NODE_LIST : NODE_MAP, at, STR_NONE);
        e = sign == '[' ? parse_arguments(p, node, "]", true) : parse_entries(p, node);
        return e ? e : done(p, node, out);
}

static enum err parse_primary(struct parser *p, struct node **out)
{
        struct token t = p->token;

        switch (t.kind) {
        case TOKEN_INT:
        case TOKEN_DOUBLE:
                return parse_number(p, false, t.at, out);
        case TOKEN_TEXT:
                *out = literal(p, t.at, (struct value){ .kind = VALUE_STRING, .text = t.text });
                return advance(p);
        case TOKEN_NAME:
                return parse_word(p, out);
        case TOKEN_SIGN:
                return parse_bracket(p, out);
        case TOKEN_QUOTED:
        case TOKEN_END:
                break;
        }
        return unexpected(p, "a value");
}

/* a.b as one name where the language defines it so: a type, or a function in a family. */
static struct str joined(struct parser *p, const struct node *left, struct str right)
{
        if (left->kind == NODE_NAME)
                return arena_printf(&p->scope->arena, STR_FMT "." STR_FMT, STR_ARG(left->name),
                                    STR_ARG(right));
        if (left->kind == NODE_SELECT && left->args[0]->kind == NODE_NAME)
                return arena_printf(&p->scope->arena, STR_FMT "." STR_FMT "." STR_FMT,
                                    STR_ARG(left->args[0]->name), STR_ARG(left->name),
                                    STR_ARG(right));
        return STR_NONE;
}

static enum err parse_method(struct parser *p, struct node *target, const struct token *name,
                             struct node **out)
{
        struct str family = joined(p, target, name->text);
        struct node *call = make(p, NODE_CALL, name->at, name->text);

        if (family.n && function_find(family, false, false)) {
                call->at = target->at;
                call->name = family;
        } else {
                call->method = true;
                push(p, call, target);
        }
        return parse_call(p, call, out);
}

static enum err parse_select(struct parser *p, struct node *target, struct node **out)
{
        struct token name;
        struct value type;
        struct node *node;
        struct str whole;
        enum err e = advance(p); /* the dot */

        name = p->token;
        if (e)
                return e;
        if (name.kind != TOKEN_QUOTED && (name.kind != TOKEN_NAME || lex_is_keyword(name.text)))
                return unexpected(p, "the name of a field or function");
        e = advance(p);
        if (e)
                return e;
        if (name.kind == TOKEN_NAME && is_sign(p, "("))
                return parse_method(p, target, &name, out);
        whole = joined(p, target, name.text);
        if (whole.n && type_by_name(whole, &type)) {
                *out = make(p, NODE_NAME, target->at, whole);
                return ERR_OK;
        }
        node = make(p, NODE_SELECT, name.at, name.text);
        push(p, node, target);
        return done(p, node, out);
}

static enum err parse_index(struct parser *p, struct node *target, struct node **out)
{
        struct token bracket = p->token;
        struct node *node, *index;
        enum err e = advance(p);

        if (!e)
                e = parse_whole(p, &index);
        if (!e)
                e = expect(p, "]");
        if (e)
                return e;
        bracket.text = STR("[]");
        node = operator_(p, &bracket);
        push(p, node, target);
        push(p, node, index);
        return done(p, node, out);
}

static enum err parse_members(struct parser *p, struct node *node, struct node **out)
{
        enum err e = ERR_OK;

        while (!e) {
                if (is_sign(p, "."))
                        e = parse_select(p, node, &node);
                else if (is_sign(p, "["))
                        e = parse_index(p, node, &node);
                else
                        break;
        }
        if (e)
                return e;
        if (is_sign(p, "{") && (node->kind == NODE_NAME || node->kind == NODE_SELECT))
                return unexpected(p, "an operator (there are no messages here, only maps)");
        *out = node;
        return ERR_OK;
}

/* ---- operators ---- */

static enum err parse_unary(struct parser *p, struct node **out)
{
        struct token sign = p->token;
        struct node *node, *arg;
        enum err e;

        if (!is_sign(p, "!") && !is_sign(p, "-")) {
                e = parse_primary(p, &node);
                return e ? e : parse_members(p, node, out);
        }
        if (++p->depth > EXPR_MAX_DEPTH)
                return refuse_depth(p, sign.at);
        e = advance(p);
        if (e)
                return e;
        if (str_is(sign.text, "-") &&
            (p->token.kind == TOKEN_INT || p->token.kind == TOKEN_DOUBLE)) {
                e = parse_number(p, true, sign.at, &node);
                p->depth--;
                return e ? e : parse_members(p, node, out);
        }
        e = parse_unary(p, &arg);
        p->depth--;
        if (e)
                return e;
        if (str_is(sign.text, "-"))
                sign.text = STR("-_"); /* so that it differs from the one between two values */
        node = operator_(p, &sign);
        push(p, node, arg);
        return done(p, node, out);
}

enum { LEVEL_OR = 1, LEVEL_AND, LEVEL_RELATION, LEVEL_SUM, LEVEL_PRODUCT };

/* How tightly the next token binds two values; 0 when it is no such operator. */
static int level_of(const struct token *t)
{
        static const struct {
                const char *sign;
                int level;
        } levels[] = {
                { "||", LEVEL_OR },       { "&&", LEVEL_AND },      { "==", LEVEL_RELATION },
                { "!=", LEVEL_RELATION }, { "<", LEVEL_RELATION },  { "<=", LEVEL_RELATION },
                { ">", LEVEL_RELATION },  { ">=", LEVEL_RELATION }, { "in", LEVEL_RELATION },
                { "+", LEVEL_SUM },       { "-", LEVEL_SUM },       { "*", LEVEL_PRODUCT },
                { "/", LEVEL_PRODUCT },   { "%", LEVEL_PRODUCT },
        };

        if (t->kind == TOKEN_SIGN || t->kind == TOKEN_NAME)
                for (size_t i = 0; i < LENGTH(levels); i++)
                        if (str_is(t->text, levels[i].sign))
                                return levels[i].level;
        return 0;
}

static struct node *binary(struct parser *p, const struct token *sign, int level, struct node *left,
                           struct node *right)
{
        struct node *node = level == LEVEL_OR  ? make(p, NODE_OR, sign->at, STR_NONE) :
                            level == LEVEL_AND ? make(p, NODE_AND, sign->at, STR_NONE) :
                                                 operator_(p, sign);

        push(p, node, left);
        push(p, node, right);
        return node;
}

/* Operators of at least this level.  A row of && or || becomes one node, however long it is. */
static enum err parse_binary(struct parser *p, int least, struct node **out)
{
        struct node *left, *right, *row = NULL;
        enum err e = parse_unary(p, &left);

        while (!e) {
                struct token sign = p->token;
                int level = level_of(&sign);

                if (!level || level < least)
                        break;
                e = advance(p);
                if (!e)
                        e = parse_binary(p, level + 1, &right);
                if (e)
                        return e;
                if (left == row && left->kind == (level == LEVEL_OR ? NODE_OR : NODE_AND) &&
                    level <= LEVEL_AND)
                        push(p, left, right);
                else
                        left = row = binary(p, &sign, level, left, right);
                e = done(p, left, &left);
        }
        if (!e)
                *out = left;
        return e;
}

static enum err parse_choice(struct parser *p, struct node **out)
{
        struct node *node, *part;
        enum err e = parse_binary(p, LEVEL_OR, &part);

        if (e || !is_sign(p, "?")) {
                if (!e)
                        *out = part;
                return e;
        }
        node = make(p, NODE_CHOICE, p->token.at, STR_NONE);
        push(p, node, part);
        e = advance(p);
        if (!e)
                e = parse_binary(p, LEVEL_OR, &part);
        if (e)
                return e;
        push(p, node, part);
        e = expect(p, ":");
        if (!e)
                e = parse_whole(p, &part);
        if (e)
                return e;
        push(p, node, part);
        return done(p, node, out);
}

static enum err parse_whole(struct parser *p, struct node **out)
{
        enum err e;

        if (++p->depth > EXPR_MAX_DEPTH)
                return refuse_depth(p, p->token.at);
        e = parse_choice(p, out);
        p->depth--;
        return e;
}

enum err expr_compile(struct scope *scope, struct str source, struct expr **out)
{
        struct parser p = { .scope = scope };
        struct node *root;
        enum err e;

        if (source.n > EXPR_MAX_SOURCE)
                return fail_limit(scope, "", ERR_INVALID_CONDITION, EXPR_MAX_SOURCE,
                                  (int64_t)source.n, "1:1: an expression in bytes");
        if (!str_is_utf8(source))
                return fail(scope, ERR_INVALID_CONDITION, "1:1: the expression is not UTF-8 text");
        p.lexer = (struct lexer){ .scope = scope, .source = str_dup(&scope->arena, source) };
        e = advance(&p);
        if (!e)
                e = parse_whole(&p, &root);
        if (!e && p.token.kind != TOKEN_END)
                e = unexpected(&p, "an operator or the end");
        if (e)
                return e;
        *out = arena_new(&scope->arena, struct expr);
        **out = (struct expr){ .source = p.lexer.source, .root = root };
        return ERR_OK;
}
