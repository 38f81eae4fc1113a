#include "server/options.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json_out.h"

/* NUMBER: 1 or more; COUNT: 0 or more; FLAG: given or not; LIST: may be repeated, with colons in
 * the environment. */
enum kind { KIND_TEXT, KIND_NUMBER, KIND_COUNT, KIND_FLAG, KIND_LIST };
enum whose { OF_BOTH, OF_SERVE };
enum { LIST_MAX = 64 };

static const struct option {
        const char *name;
        size_t offset;
        enum whose whose;
        enum kind kind;
        int64_t most;
        const char *fallback, *help;
} table[] = {
#define OPTION(name, member, whose, kind, most, fallback, help) \
        { name, offsetof(struct options, member), OF_##whose, KIND_##kind, most, fallback, help },
#include "server/options.def"
#undef OPTION
};

static enum err set_number(struct scope *scope, const struct option *option, const char *value,
                           int64_t *at)
{
        int64_t number, least = option->kind == KIND_NUMBER;

        if (!str_to_int(str_from(value), &number) || number < least ||
            number > option->most)
                return fail_field(scope, option->name, ERR_VALIDATION,
                                  "--%s must be a number from %lld to %lld, not \"%s\"",
                                  option->name, (long long)least, (long long)option->most, value);
        *at = number;
        return ERR_OK;
}

static enum err set_flag(struct scope *scope, const struct option *option, const char *value,
                         bool *at)
{
        static const char *const on[] = { "1", "true", "yes" }, *const off[] = { "", "0", "false", "no" };

        for (size_t i = 0; i < LENGTH(on); i++)
                if (strcmp(value, on[i]) == 0) {
                        *at = true;
                        return ERR_OK;
                }
        for (size_t i = 0; i < LENGTH(off); i++)
                if (strcmp(value, off[i]) == 0) {
                        *at = false;
                        return ERR_OK;
                }
        return fail_field(scope, option->name, ERR_VALIDATION, "--%s must be true or false, not \"%s\"",
                          option->name, value);
}

static enum err append(struct scope *scope, const struct option *option, const char *value,
                       const char *const **at)
{
        const char **list = arena_array(&scope->arena, const char *, LIST_MAX + 1);
        size_t n = 0;

        for (const char *const *old = *at; old && *old; old++)
                list[n++] = *old;
        if (n == LIST_MAX)
                return fail_field(scope, option->name, ERR_VALIDATION,
                                  "--%s may be given at most %d times", option->name, LIST_MAX);
        if (*value)
                list[n++] = str_c(&scope->arena, str_from(value));
        *at = list;
        return ERR_OK;
}

static enum err set(struct scope *scope, struct options *out, const struct option *option,
                    const char *value)
{
        void *at = (char *)out + option->offset;

        switch (option->kind) {
        case KIND_TEXT:
                *(const char **)at = str_c(&scope->arena, str_from(value));
                return ERR_OK;
        case KIND_NUMBER:
        case KIND_COUNT:
                return set_number(scope, option, value, at);
        case KIND_FLAG:
                return set_flag(scope, option, value, at);
        case KIND_LIST:
                return append(scope, option, value, at);
        }
        return ERR_INTERNAL;
}

/* What the environment or the table says before the flags are read. */
static enum err set_default(struct scope *scope, struct options *out, const struct option *option,
                            const char *value)
{
        struct str rest = str_from(value);
        enum err e = ERR_OK;

        if (option->kind != KIND_LIST)
                return set(scope, out, option, value);
        do
                e = set(scope, out, option, str_c(&scope->arena, str_cut(rest, ':', &rest)));
        while (!e && rest.p);
        return e;
}

static const char *variable_of(struct scope *scope, const struct option *option)
{
        char name[64] = "BATON_";
        size_t n = strlen(name);

        for (const char *c = option->name; *c && n + 1 < sizeof(name); c++)
                name[n++] = (char)(*c == '-' ? '_' : toupper(*c));
        return str_c(&scope->arena, (struct str){ name, n });
}

/* By its other name, if it has one. */
static const char *alias_of(const struct option *option)
{
        static const char *const aliases[][2] = {
                { "redis", "REDIS_URL" }, { "workspaces", "WORKSPACE_VOLUME_PATH" }
        };

        for (size_t i = 0; i < LENGTH(aliases); i++)
                if (strcmp(option->name, aliases[i][0]) == 0)
                        return aliases[i][1];
        return NULL;
}

static const char *const command_names[] = { [COMMAND_SERVE] = "serve", [COMMAND_WORKER] = "worker" };

static bool is_of(const struct option *option, enum command command)
{
        return option->whose == OF_BOTH || command == COMMAND_SERVE;
}

static const struct option *find(const char *word, const char **value)
{
        for (size_t i = 0; i < LENGTH(table); i++) {
                size_t n = strlen(table[i].name);

                if (strncmp(word, table[i].name, n) != 0)
                        continue;
                if (word[n] == '\0' || word[n] == '=') {
                        *value = word[n] ? word + n + 1 : NULL;
                        return &table[i];
                }
        }
        return NULL;
}

static const char *default_data(struct scope *scope)
{
        const char *home = getenv("HOME");

        return arena_printf(&scope->arena, "%s/.local/share/baton", home ? home : "/root").p;
}

enum err options_read(struct scope *scope, enum command command, int argc, char **argv, struct options *out)
{
        enum err e = ERR_OK;

        *out = (struct options){ 0 };
        for (size_t i = 0; !e && i < LENGTH(table); i++) {
                const char *variable = variable_of(scope, &table[i]), *value = getenv(variable);

                if (!value && alias_of(&table[i]))
                        value = getenv(variable = alias_of(&table[i]));
                if (!is_of(&table[i], command))
                        value = NULL;
                out->source[i] = value ? variable : "default";
                e = set_default(scope, out, &table[i], value ? value : table[i].fallback);
        }
        for (int i = 0; !e && i < argc; i++) {
                const char *value = NULL;
                const struct option *option =
                        strncmp(argv[i], "--", 2) == 0 ? find(argv[i] + 2, &value) : NULL;

                if (!option || !is_of(option, command))
                        return fail(scope, ERR_VALIDATION, "unknown option %s; see baton %s --help",
                                    argv[i], command_names[command]);
                if (!value && option->kind == KIND_FLAG)
                        value = "1";
                if (!value && i + 1 == argc)
                        return fail(scope, ERR_VALIDATION, "--%s needs a value", option->name);
                out->source[option - table] = "flag";
                e = set(scope, out, option, value ? value : argv[++i]);
        }
        if (!e && !*out->data)
                out->data = default_data(scope);
        return e;
}

/* ---- showing them ---- */

/* A URL without the password in it. */
static void put_text(struct json_out *j, const char *text)
{
        const char *host = strstr(text, "://"), *at = host ? strchr(host, '@') : NULL;
        const char *colon = at ? memchr(host + 3, ':', (size_t)(at - host - 3)) : NULL;
        struct buf shown = BUF_INIT(65536);

        if (colon) {
                buf_bytes(&shown, text, (size_t)(colon + 1 - text));
                buf_text(&shown, "***");
        }
        buf_text(&shown, colon ? at : text);
        json_put_str(j, buf_view(&shown));
        buf_done(&shown);
}

static void print_value(struct json_out *j, const struct options *o, const struct option *option)
{
        const void *at = (const char *)o + option->offset;

        switch (option->kind) {
        case KIND_TEXT:
                put_text(j, *(const char *const *)at);
                return;
        case KIND_NUMBER:
        case KIND_COUNT:
                json_put_int(j, *(const int64_t *)at);
                return;
        case KIND_FLAG:
                json_put_bool(j, *(const bool *)at);
                return;
        case KIND_LIST:
                json_begin_list(j);
                for (const char *const *item = *(const char *const *const *)at; item && *item; item++)
                        json_put_text(j, *item);
                json_end_list(j);
                return;
        }
}

static void print_option(struct json_out *j, const struct options *o, size_t i)
{
        json_begin_object(j);
        json_key(j, "name");
        json_put_text(j, table[i].name);
        json_key(j, "value");
        print_value(j, o, &table[i]);
        json_key(j, "source");
        json_put_text(j, o->source[i]);
        json_end_object(j);
}

void options_print(const struct options *o, bool json)
{
        struct buf text = BUF_INIT(1 << 20);
        struct json_out j = { .out = &text };

        json_begin_object(&j);
        json_key(&j, "items");
        json_begin_list(&j);
        for (size_t i = 0; json && i < LENGTH(table); i++)
                print_option(&j, o, i);
        json_end_list(&j);
        json_end_object(&j);
        if (json)
                puts(text.p);
        for (size_t i = 0; !json && i < LENGTH(table); i++) {
                j.comma = false;
                buf_clear(&text);
                print_value(&j, o, &table[i]);
                printf("%-16s %-28s %s\n", table[i].name, text.p, o->source[i]);
        }
        buf_done(&text);
}

void options_help(enum command command)
{
        static const char *const does[] = {
                [COMMAND_SERVE] = "Runs the server.",
                [COMMAND_WORKER] = "Performs runs beside the servers on a PostgreSQL database, without serving anybody.",
        };

        printf("usage: baton %s [options]\n\n%s Every option may also be given as BATON_<NAME> in the environment.\n\n",
               command_names[command], does[command]);
        for (size_t i = 0; i < LENGTH(table); i++) {
                if (!is_of(&table[i], command))
                        continue;
                printf("  --%-26s %s", table[i].name, table[i].help);
                if (*table[i].fallback)
                        printf(" (default %s)", table[i].fallback);
                printf("\n");
        }
}
