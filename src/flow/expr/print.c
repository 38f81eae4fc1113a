/* The tree as source again, and the names that it uses. */
#include <string.h>

#include "flow/expr/parts.h"

enum tightness { LOOSE, TERNARY, OR, AND, RELATION, SUM, PRODUCT, UNARY, MEMBER };

static void print(struct buf *, const struct node *, enum tightness least);

static char escape_of(char c)
{
        static const char escapes[] = "\"\"\\\\\nn\rr\tt";

        for (size_t i = 0; escapes[i]; i += 2)
                if (escapes[i] == c)
                        return escapes[i + 1];
        return '\0';
}

static void print_text(struct buf *out, struct str s)
{
        buf_char(out, '"');
        for (size_t i = 0; i < s.n; i++) {
                char escape = escape_of(s.p[i]);

                if (escape)
                        buf_printf(out, "\\%c", escape);
                else if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
                        buf_printf(out, "\\x%02x", s.p[i]);
                else
                        buf_char(out, s.p[i]);
        }
        buf_char(out, '"');
}

static void print_literal(struct buf *out, struct value v)
{
        struct json_out j = { .out = out };

        if (v.kind == VALUE_STRING)
                print_text(out, v.text);
        else if (v.kind == VALUE_INT)
                buf_int(out, v.number);
        else if (v.kind == VALUE_DOUBLE)
                json_put_double(&j, v.real);
        else if (v.kind == VALUE_BOOL)
                buf_text(out, v.truth ? "true" : "false");
        else
                buf_text(out, "null");
}

static bool is_plain_name(struct str s)
{
        static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";

        for (size_t i = 0; i < s.n; i++)
                if (!strchr(letters, s.p[i]) && (!i || s.p[i] < '0' || s.p[i] > '9'))
                        return false;
        return s.n && !lex_is_keyword(s);
}

static void print_select(struct buf *out, const struct node *node)
{
        print(out, node->args[0], MEMBER);
        buf_char(out, '.');
        if (!is_plain_name(node->name))
                buf_char(out, '`');
        buf_str(out, node->name);
        if (!is_plain_name(node->name))
                buf_char(out, '`');
}

static void print_arguments(struct buf *out, const struct node *node, size_t from)
{
        for (size_t i = from; i < node->n; i++) {
                if (i > from)
                        buf_text(out, ", ");
                print(out, node->args[i], LOOSE);
        }
}

static void print_fold(struct buf *out, const struct node *node)
{
        print(out, node->args[0], MEMBER);
        buf_printf(out, ".%s(" STR_FMT ", ", fold_name(node->fold), STR_ARG(node->name));
        print_arguments(out, node, 1);
        buf_char(out, ')');
}

static enum tightness operator_tightness(const struct node *node)
{
        return !node->function || node->function->style != STYLE_OPERATOR ? MEMBER :
               str_is(node->name, "[]")                                  ? MEMBER :
               node->n == 1                                              ? UNARY :
               strchr("+-", node->name.p[0])                             ? SUM :
               strchr("*/%", node->name.p[0])                            ? PRODUCT :
                                                                           RELATION;
}

/* After a minus these would read as a negative literal: -(5) and -(5.x) are operator and operand. */
static bool begins_with_number(const struct node *node)
{
        while (node->kind == NODE_SELECT || node->kind == NODE_FOLD ||
               (node->kind == NODE_CALL && (node->method || str_is(node->name, "[]"))))
                node = node->args[0];
        return node->kind == NODE_LITERAL &&
               (node->literal.kind == VALUE_INT || node->literal.kind == VALUE_DOUBLE);
}

static void print_call(struct buf *out, const struct node *node)
{
        enum tightness level = operator_tightness(node);

        if (level == UNARY) {
                bool number = node->name.p[0] == '-' && begins_with_number(node->args[0]);

                buf_char(out, node->name.p[0]);
                buf_text(out, number ? "(" : "");
                print(out, node->args[0], UNARY);
                buf_text(out, number ? ")" : "");
        } else if (level != MEMBER) {
                print(out, node->args[0], level);
                buf_printf(out, " " STR_FMT " ", STR_ARG(node->name));
                print(out, node->args[1], (enum tightness)(level + 1));
        } else if (str_is(node->name, "[]")) {
                print(out, node->args[0], MEMBER);
                buf_char(out, '[');
                print(out, node->args[1], LOOSE);
                buf_char(out, ']');
        } else {
                if (node->method) {
                        print(out, node->args[0], MEMBER);
                        buf_char(out, '.');
                }
                buf_str(out, node->name);
                buf_char(out, '(');
                print_arguments(out, node, node->method);
                buf_char(out, ')');
        }
}

static void print_row(struct buf *out, const struct node *node, const char *sign, enum tightness level)
{
        for (size_t i = 0; i < node->n; i++) {
                if (i)
                        buf_text(out, sign);
                print(out, node->args[i], (enum tightness)(level + 1));
        }
}

static void print_choice(struct buf *out, const struct node *node)
{
        print(out, node->args[0], OR);
        buf_text(out, " ? ");
        print(out, node->args[1], OR);
        buf_text(out, " : ");
        print(out, node->args[2], TERNARY);
}

static void print_map(struct buf *out, const struct node *node)
{
        buf_char(out, '{');
        for (size_t i = 0; i < node->n; i++) {
                print(out, node->args[i], LOOSE);
                buf_text(out, i % 2 == 0 ? ": " : i + 1 < node->n ? ", " : "");
        }
        buf_char(out, '}');
}

static void print_bare(struct buf *out, const struct node *node)
{
        switch (node->kind) {
        case NODE_LITERAL:
                print_literal(out, node->literal);
                break;
        case NODE_NAME:
                buf_text(out, node->absolute ? "." : "");
                buf_str(out, node->name);
                break;
        case NODE_SELECT:
                print_select(out, node);
                break;
        case NODE_HAS:
                buf_text(out, "has(");
                print_select(out, node);
                buf_char(out, ')');
                break;
        case NODE_CALL:
                print_call(out, node);
                break;
        case NODE_LIST:
                buf_char(out, '[');
                print_arguments(out, node, 0);
                buf_char(out, ']');
                break;
        case NODE_MAP:
                print_map(out, node);
                break;
        case NODE_AND:
                print_row(out, node, " && ", AND);
                break;
        case NODE_OR:
                print_row(out, node, " || ", OR);
                break;
        case NODE_CHOICE:
                print_choice(out, node);
                break;
        case NODE_FOLD:
                print_fold(out, node);
                break;
        }
}

static bool is_negative(struct value v)
{
        return (v.kind == VALUE_INT && v.number < 0) ||
               (v.kind == VALUE_DOUBLE && __builtin_signbit(v.real));
}

static enum tightness tightness_of(const struct node *node)
{
        switch (node->kind) {
        case NODE_CHOICE:
                return TERNARY;
        case NODE_OR:
                return OR;
        case NODE_AND:
                return AND;
        case NODE_CALL:
                return operator_tightness(node);
        case NODE_LITERAL:
                return is_negative(node->literal) ? UNARY : MEMBER;
        case NODE_NAME:
        case NODE_SELECT:
        case NODE_HAS:
        case NODE_LIST:
        case NODE_MAP:
        case NODE_FOLD:
                break;
        }
        return MEMBER;
}

static void print(struct buf *out, const struct node *node, enum tightness least)
{
        bool closed = tightness_of(node) < least;

        if (closed)
                buf_char(out, '(');
        print_bare(out, node);
        if (closed)
                buf_char(out, ')');
}

struct str expr_print(struct scope *scope, const struct expr *expr)
{
        /* Parentheses and escapes make a source longer, but not sixteen times. */
        struct buf buf = BUF_INIT(16 * EXPR_MAX_SOURCE);
        struct str text;

        print(&buf, expr->root, LOOSE);
        text = str_dup(&scope->arena, buf_view(&buf));
        buf_done(&buf);
        return text;
}

/* ---- calls that no evaluation could do ---- */

static enum err check(struct scope *scope, const struct expr *expr, const struct node *node)
{
        bool call = node->kind == NODE_CALL;
        enum err e = ERR_OK;

        if (call && !node->function)
                return expr_refuse(scope, expr->source, node->at, "no such function " STR_FMT "()",
                                   STR_ARG(node->name));
        if (call && !function_takes(node->function, node->n))
                return expr_refuse(scope, expr->source, node->at,
                                   STR_FMT "() does not take %zu argument%s", STR_ARG(node->name),
                                   node->n - node->method, node->n - node->method == 1 ? "" : "s");
        for (size_t i = 0; i < node->n && !e; i++)
                e = check(scope, expr, node->args[i]);
        return e;
}

enum err expr_check(struct scope *scope, const struct expr *expr)
{
        return check(scope, expr, expr->root);
}
