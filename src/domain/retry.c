#include "domain/retry.h"

#include "json/json_in.h"

static enum err read_number(struct scope *scope, const char *key, const json_t *v, double min,
                            double max, double *out)
{
        if (!json_is_number(v) || json_number_value(v) < min || json_number_value(v) > max)
                return fail_field(scope, key, ERR_VALIDATION, "%s must be a number from %g to %g",
                                  key, min, max);
        *out = json_number_value(v);
        return ERR_OK;
}

enum err retry_parse(struct scope *scope, struct str text, struct task_retry *out)
{
        double attempts = 0, delay = 1000, cap = 300000, backoff = 2, jitter = 0.1;
        const struct {
                const char *key, *path;
                double min, max;
                double *to;
        } keys[] = {
                { "max_attempts", "retry.max_attempts", 1, 10, &attempts },
                { "delay_ms", "retry.delay_ms", 0, 86400000, &delay },
                { "max_delay_ms", "retry.max_delay_ms", 0, 86400000, &cap },
                { "backoff", "retry.backoff", 1, 10, &backoff },
                { "jitter", "retry.jitter", 0, 1, &jitter },
        };
        json_t *object = NULL, *v;
        enum err e = text.p ? json_parse(scope, text, &object) : ERR_OK;
        const char *key;

        if (!e && object && !json_is_object(object))
                e = fail_field(scope, "retry", ERR_VALIDATION, "retry must be an object");
        if (!e && object)
                json_object_foreach (object, key, v) {
                        size_t i = 0;

                        while (i < LENGTH(keys) && !str_is(str_from(key), keys[i].key))
                                i++;
                        if (i == LENGTH(keys))
                                e = fail_field(scope, "retry", ERR_UNKNOWN_FIELD,
                                               "unknown field \"retry.%.64s\"", key);
                        else
                                e = read_number(scope, keys[i].path, v, keys[i].min, keys[i].max,
                                                keys[i].to);
                        if (e)
                                break;
                }
        json_decref(object);
        if (!e)
                *out = (struct task_retry){ (int64_t)attempts, (int64_t)delay, (int64_t)cap,
                                            backoff, jitter };
        return e;
}

bool outcome_is_retried(enum outcome kind)
{
        return kind == OUTCOME_FAILED || kind == OUTCOME_TRANSIENT || kind == OUTCOME_TIMED_OUT ||
               kind == OUTCOME_WORKER_LOST;
}

int64_t retry_delay_us(const struct task_retry *policy, int64_t attempt, double random)
{
        double ms = (double)policy->delay_ms;

        for (int64_t i = 1; i < attempt && ms < (double)policy->max_delay_ms; i++)
                ms *= policy->backoff;
        if (ms > (double)policy->max_delay_ms)
                ms = (double)policy->max_delay_ms;
        return (int64_t)(ms * (1 - policy->jitter * random)) * US_PER_MS;
}
