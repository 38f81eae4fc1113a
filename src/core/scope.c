#include "core/scope.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/random.h>

#include "core/utf8.h"

static void kernel_random(void *ctx, void *bytes, size_t n)
{
        char *at = bytes;

        (void)ctx;
        while (n) {
                ssize_t got = getrandom(at, n, 0);

                BUG_ON(got < 0 && errno != EINTR);
                if (got > 0) {
                        at += got;
                        n -= (size_t)got;
                }
        }
}

const struct world system_world = { &system_clock, kernel_random, NULL };

void scope_init(struct scope *scope, const struct world *world)
{
        *scope = (struct scope){ .world = world };
        scope->now = world->clock->wall(world->clock->ctx);
}

void scope_reset(struct scope *scope)
{
        arena_reset(&scope->arena);
        scope->fault = (struct fault){ 0 };
        scope->now = scope->world->clock->wall(scope->world->clock->ctx);
}

void scope_done(struct scope *scope)
{
        arena_done(&scope->arena);
}

int64_t scope_id(struct scope *scope)
{
        BUG_ON(!scope->ids);
        return id_next(scope->ids, scope->now);
}

void scope_random(struct scope *scope, void *bytes, size_t n)
{
        scope->world->random(scope->world->random_ctx, bytes, n);
}

PRINTF(2, 0) static struct str sentence(struct scope *scope, const char *fmt, va_list args)
{
        char text[1024];
        int n = vsnprintf(text, sizeof(text), fmt, args);

        BUG_ON(n < 0);
        if ((size_t)n >= sizeof(text))
                n = sizeof(text) - 1;
        /* It may quote bytes that are no text, or a part of one that ends within a character. */
        return utf8_clean(&scope->arena, (struct str){ text, (size_t)n }, (size_t)n == sizeof(text) - 1);
}

enum err fail(struct scope *scope, enum err e, const char *fmt, ...)
{
        va_list args;

        va_start(args, fmt);
        scope->fault = (struct fault){ .code = e, .detail = sentence(scope, fmt, args) };
        va_end(args);
        return e;
}

enum err fail_diagnosed(struct scope *scope, const char *diagnostic, enum err e, const char *fmt, ...)
{
        va_list args;

        va_start(args, fmt);
        scope->fault = (struct fault){ .code = e,
                                       .detail = sentence(scope, fmt, args),
                                       .diagnostic = diagnostic };
        va_end(args);
        return e;
}

enum err fail_field(struct scope *scope, const char *field, enum err e, const char *fmt, ...)
{
        va_list args;

        va_start(args, fmt);
        scope->fault = (struct fault){ .code = e,
                                       .detail = sentence(scope, fmt, args),
                                       .field = str_dup(&scope->arena, str_from(field)) };
        va_end(args);
        return e;
}

enum err fail_limit(struct scope *scope, const char *field, enum err e, int64_t limit,
                    int64_t actual, const char *what)
{
        scope->fault = (struct fault){
                .code = e,
                .detail = arena_printf(&scope->arena, "%s: at most %lld, got %lld", what,
                                       (long long)limit, (long long)actual),
                .field = str_dup(&scope->arena, str_from(field)),
                .limit = limit,
                .actual = actual,
                .has_limit = true,
        };
        return e;
}

enum err fail_missing(struct scope *scope, const char *resource)
{
        scope->fault = (struct fault){
                .code = ERR_NOT_FOUND,
                .detail = arena_printf(&scope->arena, "no such %s", resource),
                .resource = str_from(resource),
        };
        return ERR_NOT_FOUND;
}
