/* Parameters of a step against the table of its action. */
#include <math.h>

#include "core/host_pattern.h"
#include "domain/approval.h"
#include "domain/secret.h"
#include "flow/definition.h"

static const struct param *param_find(const struct action *action, struct str name)
{
        for (const struct param *p = action->params; p->name; p++)
                if (str_is(name, p->name))
                        return p;
        return NULL;
}

static const char *param_names_hint(struct scope *scope, const struct action *action,
                                    struct str given)
{
        const char *names[32];
        size_t n = 0;

        for (const struct param *p = action->params; p->name; p++)
                names[n++] = p->name;
        names[n] = NULL;
        return n ? nearest_hint(scope, given, names) : "this action takes no parameters";
}

/* ---- one value ---- */

static bool is_number(struct value v)
{
        return v.kind == VALUE_INT || (v.kind == VALUE_DOUBLE && isfinite(v.real));
}

static double number_of(struct value v)
{
        return v.kind == VALUE_INT ? (double)v.number : v.real;
}

static bool all_of(struct value v, enum value_kind kind)
{
        for (size_t i = 0; v.kind == VALUE_LIST && i < v.list->n; i++)
                if (v.list->items[i].kind != kind)
                        return false;
        return v.kind == VALUE_LIST;
}

static bool is_any(struct value v)
{
        (void)v;
        return true;
}

static bool is_text(struct value v)
{
        return v.kind == VALUE_STRING;
}

static bool is_int(struct value v)
{
        return v.kind == VALUE_INT;
}

static bool is_bool(struct value v)
{
        return v.kind == VALUE_BOOL;
}

static bool is_list(struct value v)
{
        return v.kind == VALUE_LIST;
}

static bool is_map(struct value v)
{
        return v.kind == VALUE_MAP;
}

static bool is_texts(struct value v)
{
        return all_of(v, VALUE_STRING);
}

static bool is_ints(struct value v)
{
        return all_of(v, VALUE_INT);
}

static bool is_target(struct value v)
{
        return is_int(v) || is_text(v);
}

static bool is_one_of(struct value v, const char *a, const char *b)
{
        return is_text(v) && (str_is(v.text, a) || str_is(v.text, b));
}

static bool is_join(struct value v)
{
        return is_one_of(v, "all", "any");
}

static bool is_join_failure(struct value v)
{
        return is_one_of(v, "fail_fast", "wait_all");
}

static bool is_sub_failure(struct value v)
{
        return is_one_of(v, "fail", "continue");
}

static bool is_text_map(struct value v)
{
        if (v.kind != VALUE_MAP)
                return false;
        for (size_t i = 0; i < v.map->n; i++)
                if (v.map->entries[i].value.kind != VALUE_STRING)
                        return false;
        return true;
}

/* A name of POSIX: letters, digits and _, not beginning with a digit. */
static bool is_variable(struct str name)
{
        for (size_t i = 0; i < name.n; i++) {
                char c = name.p[i];

                if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && c != '_' &&
                    !(c >= '0' && c <= '9' && i > 0))
                        return false;
        }
        return name.n > 0;
}

static bool is_environment(struct value v)
{
        for (size_t i = 0; v.kind == VALUE_MAP && i < v.map->n; i++)
                if (!is_variable(v.map->entries[i].key.text))
                        return false;
        return is_text_map(v);
}

static bool is_risk(struct value v)
{
        return v.kind == VALUE_STRING && names_find(&risk_level_names, v.text) >= 0;
}

static bool is_method(struct value v)
{
        static const char *const methods[] = { "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS" };

        for (size_t i = 0; v.kind == VALUE_STRING && i < LENGTH(methods); i++)
                if (str_is(v.text, methods[i]))
                        return true;
        return false;
}

/* Of Basic authentication: what stands before the colon. */
static bool is_username(struct value v)
{
        for (size_t i = 0; v.kind == VALUE_STRING && i < v.text.n; i++)
                if ((unsigned char)v.text.p[i] < ' ' || v.text.p[i] == ':')
                        return false;
        return v.kind == VALUE_STRING;
}

static bool is_secret(struct value v)
{
        return v.kind == VALUE_STRING && secret_name_is_valid(v.text);
}

static bool is_secret_map(struct value v)
{
        for (size_t i = 0; v.kind == VALUE_MAP && i < v.map->n; i++)
                if (!is_secret(v.map->entries[i].value))
                        return false;
        return v.kind == VALUE_MAP;
}

static bool is_hosts(struct value v)
{
        for (size_t i = 0; v.kind == VALUE_LIST && i < v.list->n; i++)
                if (v.list->items[i].kind != VALUE_STRING ||
                    !host_pattern_is_valid(v.list->items[i].text))
                        return false;
        return v.kind == VALUE_LIST;
}

static bool is_secret_environment(struct value v)
{
        return is_secret_map(v) && is_environment(v);
}

static const struct {
        bool (*fits)(struct value);
        const char *must;
} types[] = {
        [PARAM_TEXT] = { is_text, "must be text" },
        [PARAM_INT] = { is_int, "must be a whole number" },
        [PARAM_NUMBER] = { is_number, "must be a number" },
        [PARAM_BOOL] = { is_bool, "must be true or false" },
        [PARAM_TEXTS] = { is_texts, "must be a list of texts" },
        [PARAM_INTS] = { is_ints, "must be a list of whole numbers" },
        [PARAM_TEXT_MAP] = { is_text_map, "must be an object whose values are texts" },
        [PARAM_ENVIRONMENT] = { is_environment,
                                "must be an object of texts whose names are letters, digits and _" },
        [PARAM_MAP] = { is_map, "must be an object" },
        [PARAM_LIST] = { is_list, "must be a list" },
        [PARAM_ANY] = { is_any, "" },
        [PARAM_RISK] = { is_risk, "must be low, medium, high or critical" },
        [PARAM_METHOD] = { is_method, "must be GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS" },
        [PARAM_USERNAME] = { is_username, "must be text of one line without a colon" },
        [PARAM_SECRET] = { is_secret, "must be the name of a secret, written out" },
        [PARAM_SECRET_MAP] = { is_secret_map,
                               "must be an object whose values are names of secrets, written out" },
        [PARAM_SECRET_ENVIRONMENT] = { is_secret_environment,
                                       "must be an object of names of secrets, written out, by"
                                       " variables of letters, digits and _" },
        [PARAM_HOSTS] = { is_hosts, "must be a list of hosts, written out: name, *.name, either with"
                                    " :port" },
        [PARAM_JOIN] = { is_join, "must be all or any" },
        [PARAM_JOIN_FAILURE] = { is_join_failure, "must be fail_fast or wait_all" },
        [PARAM_SUB_FAILURE] = { is_sub_failure, "must be fail or continue" },
        [PARAM_NAME] = { is_text, "must be text" },
        [PARAM_CONDITION] = { is_text, "must be text" },
        [PARAM_TARGET] = { is_target, "must be the index or the id of a later step" },
        [PARAM_STEPS] = { is_list, "must be a list" },
        [PARAM_BRANCHES] = { is_list, "must be a list" },
        [PARAM_REFERENCE] = { is_text, "must be text" },
};

/* What min and max bound: a number itself, or the length of a text, list or object. */
static bool measure(struct value v, double *size, const char **unit)
{
        *unit = "";
        if (is_number(v)) {
                *size = number_of(v);
                return true;
        }
        *unit = v.kind == VALUE_STRING ? " bytes" : v.kind == VALUE_LIST ? " items" : " members";
        *size = v.kind == VALUE_STRING ? (double)v.text.n :
                v.kind == VALUE_LIST   ? (double)v.list->n :
                v.kind == VALUE_MAP    ? (double)v.map->n :
                                         0;
        return v.kind == VALUE_STRING || v.kind == VALUE_LIST || v.kind == VALUE_MAP;
}

static void check_value(struct problems *problems, struct str path, const struct param *p,
                        struct value v)
{
        const char *unit;
        double size;

        if (!types[p->type].fits(v)) {
                problem_add(problems, path, "type", NULL, "%s", types[p->type].must);
                return;
        }
        if ((!p->min && !p->max) || !measure(v, &size, &unit))
                return;
        if (size < (double)p->min || size > (double)p->max)
                problem_add(problems, path, "limit", NULL, "must be %lld to %lld%s, not %g",
                            (long long)p->min, (long long)p->max, unit, size);
}

/* ---- all of them ---- */

static bool holds_expression(struct value v)
{
        if (v.kind == VALUE_STRING)
                return str_contains(v.text, STR("${{"));
        if (v.kind == VALUE_LIST)
                for (size_t i = 0; i < v.list->n; i++)
                        if (holds_expression(v.list->items[i]))
                                return true;
        if (v.kind == VALUE_MAP)
                for (size_t i = 0; i < v.map->n; i++)
                        if (holds_expression(v.map->entries[i].value))
                                return true;
        return false;
}

static bool given(struct value map, const char *name)
{
        return value_member(map, str_from(name)) != NULL;
}

static void check_choice(struct problems *problems, struct str path, struct value map,
                         const char *a, const char *b)
{
        if (given(map, a) == given(map, b))
                problem_add(problems, path, "required", NULL, "give %s %s or %s",
                            given(map, a) ? "only one of" : "one of", a, b);
}

/* No variable is both plain and secret. */
static void check_variables(struct problems *problems, struct str path, struct value map)
{
        const struct value *env = value_member(map, STR("env"));
        const struct value *secrets = value_member(map, STR("secrets"));

        if (!env || !secrets || env->kind != VALUE_MAP || secrets->kind != VALUE_MAP)
                return;
        for (size_t i = 0; i < secrets->map->n; i++) {
                struct str name = secrets->map->entries[i].key.text;

                if (value_member(*env, name))
                        problem_add(problems, path_member(problems->scope, path, STR("secrets")),
                                    "limit", NULL, "%.64s is given in env too",
                                    str_c(&problems->scope->arena, name));
        }
}

void parameters_check(struct problems *problems, struct str path, const struct action *action,
                      struct value map, bool rendered)
{
        struct scope *scope = problems->scope;

        for (size_t i = 0; i < map.map->n; i++) {
                struct str name = map.map->entries[i].key.text;
                struct value v = map.map->entries[i].value;
                const struct param *p = param_find(action, name);
                struct str at = path_member(scope, path, name);

                if (!p)
                        problem_add(problems, at, "unknown_field",
                                    param_names_hint(scope, action, name),
                                    "%s has no parameter \"%.64s\"", action->name,
                                    str_c(&scope->arena, name));
                else if (rendered || p->type >= PARAM_SECRET || !holds_expression(v))
                        check_value(problems, at, p, v);
        }
        for (const struct param *p = action->params; p->name && !rendered; p++)
                if (p->required && !given(map, p->name))
                        problem_add(problems, path_member(scope, path, str_from(p->name)),
                                    "required", NULL, "%s needs the parameter \"%s\"",
                                    action->name, p->name);
        if (rendered)
                return;
        if (action->id == ACTION_ID_execute_command)
                check_choice(problems, path, map, "command", "argv");
        if (action->id == ACTION_ID_execute_command)
                check_variables(problems, path, map);
        if (action->id == ACTION_ID_git_pull && given(map, "token_secret") && !given(map, "repo"))
                problem_add(problems, path_member(scope, path, STR("repo")), "required",
                            "what a clone names as its origin may have been changed by a command",
                            "a token is sent only to a repo that the step names");
        if (action->kind == ACTION_FOR_EACH)
                check_choice(problems, path, map, "steps", "referenced_task_id");
        if (action->kind == ACTION_FOR_EACH && given(map, "input") && given(map, "steps"))
                problem_add(problems, path_member(scope, path, STR("input")), "unknown_field",
                            "inline steps see the input of the run",
                            "input goes with referenced_task_id only");
}
