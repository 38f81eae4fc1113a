#include "hub/redis.h"

#include <curl/curl.h>
#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>

#include "hub/link.h"

struct address {
        const char *host, *user, *password;
        int64_t port, database;
};

/* A part of the URL, decoded; `otherwise` when it has none. */
static const char *part(struct scope *scope, CURLU *url, CURLUPart which, const char *otherwise)
{
        char *text = NULL;
        const char *copy;

        if (curl_url_get(url, which, &text, CURLU_URLDECODE))
                return otherwise;
        copy = str_c(&scope->arena, str_from(text));
        curl_free(text);
        return copy;
}

static enum err address_read(struct scope *scope, const char *text, struct address *out)
{
        CURLU *url = curl_url();
        struct str database, host;
        bool is = url && strncmp(text, "redis://", 8) == 0 &&
                  !curl_url_set(url, CURLUPART_URL, text, CURLU_NON_SUPPORT_SCHEME) &&
                  str_to_int(str_from(part(scope, url, CURLUPART_PORT, "6379")), &out->port);

        if (is) {
                host = str_from(part(scope, url, CURLUPART_HOST, ""));
                if (str_starts(host, "[")) /* an address of IPv6 */
                        host = str_slice(host, 1, host.n - 1);
                out->host = str_c(&scope->arena, host);
                out->user = part(scope, url, CURLUPART_USER, "");
                out->password = part(scope, url, CURLUPART_PASSWORD, "");
                database = str_from(part(scope, url, CURLUPART_PATH, "/"));
                database = str_slice(database, 1, database.n);
                is = !database.n || (str_to_int(database, &out->database) && out->database >= 0);
        }
        curl_url_cleanup(url);
        if (!is)
                return fail_field(scope, "redis", ERR_VALIDATION,
                                  "--redis must be a URL: redis://[:password@]host[:port][/database]");
        return ERR_OK;
}

enum err redis_check(struct scope *scope, const char *url)
{
        struct address address = { 0 };

        return address_read(scope, url, &address);
}

/* One command and its answer; false leaves the reason in the scope. */
static enum err command(struct scope *scope, redisContext *c, const char *const *words, int n)
{
        redisReply *reply = redisCommandArgv(c, n, (const char **)(uintptr_t)words, NULL);
        enum err e = ERR_OK;

        if (!reply)
                e = fail(scope, ERR_UNAVAILABLE, "%s", c->errstr);
        else if (reply->type == REDIS_REPLY_ERROR)
                e = fail(scope, ERR_UNAVAILABLE, "%s", reply->str);
        freeReplyObject(reply);
        return e;
}

static enum err greet(struct scope *scope, redisContext *c, const struct address *a)
{
        const char *const with_user[] = { "AUTH", a->user, a->password };
        const char *const without[] = { "AUTH", a->password };
        const char *const choose[] = {
                "SELECT", arena_printf(&scope->arena, "%lld", (long long)a->database).p
        };
        enum err e = ERR_OK;

        if (*a->password)
                e = *a->user ? command(scope, c, with_user, 3) : command(scope, c, without, 2);
        return e ? e : command(scope, c, choose, 2);
}

enum err redis_open(struct scope *scope, const char *url, redisContext **out)
{
        const struct timeval patience = { LINK_SECONDS, 0 };
        struct address address = { 0 };
        redisContext *c = NULL;
        enum err e = address_read(scope, url, &address);

        if (e)
                return e;
        c = redisConnectWithTimeout(address.host, (int)address.port, patience);
        if (!c || c->err)
                e = fail(scope, ERR_UNAVAILABLE, "%s", c ? c->errstr : "no memory");
        else if (redisSetTimeout(c, patience) || redisEnableKeepAlive(c))
                e = fail(scope, ERR_UNAVAILABLE, "%s", c->errstr);
        else
                e = greet(scope, c, &address);
        if (e) {
                redisFree(c);
                return e;
        }
        *out = c;
        return ERR_OK;
}

bool redis_settle(redisContext *c, size_t n)
{
        bool ok = true;

        while (n-- > 0) {
                redisReply *reply = NULL;

                if (redisGetReply(c, (void **)&reply) || !reply)
                        return false;
                ok &= reply->type != REDIS_REPLY_ERROR;
                freeReplyObject(reply);
        }
        return ok;
}
