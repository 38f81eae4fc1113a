/* Instants and durations.  Both are exact to the nanosecond. */
#include <string.h>
#include <time.h>

#include "flow/expr/parts.h"

typedef __int128 nanoseconds;

static const nanoseconds per_second = 1000000000;

static const struct {
        int64_t least, most; /* seconds */
        const char *what;
} ranges[] = {
        { -INT64_C(62135596800), INT64_C(253402300799), "a timestamp lies in the years 1 to 9999" },
        { -INT64_C(9223372036), INT64_C(9223372036), "a duration is shorter than 292 years" },
};

static nanoseconds nanos_of(struct value v)
{
        return (nanoseconds)v.number * 1000 + v.nanos;
}

static nanoseconds floor_div(nanoseconds a, nanoseconds b)
{
        return a / b - (a % b < 0);
}

static enum err make(struct eval *ev, enum value_kind kind, nanoseconds n, struct value *out)
{
        size_t i = kind == VALUE_DURATION;
        nanoseconds seconds = floor_div(n, per_second), us = floor_div(n, 1000);

        if (seconds < ranges[i].least || seconds > ranges[i].most)
                return eval_fail(ev, "out of range: %s", ranges[i].what);
        *out = (struct value){ .kind = kind, .nanos = (uint32_t)(n - us * 1000),
                               .number = (int64_t)us };
        return ERR_OK;
}

enum err run_time_add(struct eval *ev, const struct value *args, struct value *out)
{
        bool spans = args[0].kind == VALUE_DURATION && args[1].kind == VALUE_DURATION;

        return make(ev, spans ? VALUE_DURATION : VALUE_TIMESTAMP,
                    nanos_of(args[0]) + nanos_of(args[1]), out);
}

enum err run_time_subtract(struct eval *ev, const struct value *args, struct value *out)
{
        bool instant = args[0].kind == VALUE_TIMESTAMP && args[1].kind == VALUE_DURATION;

        return make(ev, instant ? VALUE_TIMESTAMP : VALUE_DURATION,
                    nanos_of(args[0]) - nanos_of(args[1]), out);
}

enum err run_time_negate(struct eval *ev, const struct value *args, struct value *out)
{
        return make(ev, VALUE_DURATION, -nanos_of(args[0]), out);
}

enum err run_now(struct eval *ev, const struct value *args, struct value *out)
{
        (void)args;
        return make(ev, VALUE_TIMESTAMP, ev->env ? (nanoseconds)ev->env->now * 1000 : 0, out);
}

/* ---- reading ---- */

static bool is_digit(char c)
{
        return c >= '0' && c <= '9';
}

/* The three digits behind the microseconds. */
static uint32_t finest_digits(struct str text)
{
        size_t at = str_find(text, '.', 0) + 1, digits = 0;
        uint32_t n = 0;

        for (; digits < 9; digits++, at += at < text.n && is_digit(text.p[at]))
                if (digits >= 6)
                        n = n * 10 + (at < text.n && is_digit(text.p[at]) ?
                                              (uint32_t)(text.p[at] - '0') :
                                              0);
        return n;
}

enum err run_to_timestamp(struct eval *ev, const struct value *args, struct value *out)
{
        struct str text = args[0].text;
        int64_t us;

        if (args[0].kind == VALUE_INT)
                return make(ev, VALUE_TIMESTAMP, args[0].number * per_second, out);
        if (!time_parse(text, &us))
                return eval_fail(ev, "\"%.*s\" is no timestamp; write it as 2026-01-31T09:00:00Z",
                                 STR_ARG(expr_clip(text)));
        return make(ev, VALUE_TIMESTAMP, (nanoseconds)us * 1000 + finest_digits(text), out);
}

static const struct {
        const char *name;
        int64_t nanos;
} units[] = {
        { "ns", 1 },
        { "us", 1000 },
        { "\u00b5s", 1000 },
        { "\u03bcs", 1000 },
        { "ms", 1000000 },
        { "s", 1000000000 },
        { "m", INT64_C(60000000000) },
        { "h", INT64_C(3600000000000) },
};

static bool take_unit(struct str *s, int64_t *nanos)
{
        for (size_t i = 0; i < LENGTH(units); i++)
                if (str_starts(*s, units[i].name)) {
                        *nanos = units[i].nanos;
                        *s = str_slice(*s, strlen(units[i].name), s->n);
                        return true;
                }
        return false;
}

/* Digits as a number; what is more than any duration stays just that. */
static nanoseconds take_digits(struct str *s, nanoseconds *scale, size_t *digits)
{
        nanoseconds n = 0;

        *scale = 1;
        for (*digits = 0; s->n && is_digit(s->p[0]); ++*digits, *s = str_slice(*s, 1, s->n))
                if (n < (nanoseconds)INT64_MAX) {
                        n = n * 10 + (s->p[0] - '0');
                        *scale *= 10;
                }
        return n;
}

/* One number with its unit: 1.5h. */
static bool take_span(struct str *s, nanoseconds *out)
{
        nanoseconds scale, fraction = 0, whole;
        size_t before, behind = 0;
        int64_t unit;

        whole = take_digits(s, &scale, &before);
        if (s->n && s->p[0] == '.') {
                *s = str_slice(*s, 1, s->n);
                fraction = take_digits(s, &scale, &behind);
        } else {
                scale = 1;
        }
        if (before + behind == 0 || !take_unit(s, &unit))
                return false;
        *out += whole * unit + fraction * unit / scale;
        return true;
}

enum err run_to_duration(struct eval *ev, const struct value *args, struct value *out)
{
        struct str text = args[0].text, s = text;
        bool negative = s.n && s.p[0] == '-', fine;
        nanoseconds n = 0, most = (nanoseconds)INT64_MAX;

        if (s.n && strchr("+-", s.p[0]))
                s = str_slice(s, 1, s.n);
        fine = s.n > 0;
        if (str_is(s, "0"))
                s = STR("");
        while (s.n && fine) {
                fine = take_span(&s, &n);
                n = n > most + 1 ? most + 1 : n;
        }
        if (!fine)
                return eval_fail(ev, "\"%.*s\" is no duration; write it as 90s, 1.5h or 1h30m",
                                 STR_ARG(expr_clip(text)));
        return n > most ? eval_fail(ev, "out of range: %s", ranges[1].what) :
                          make(ev, VALUE_DURATION, negative ? -n : n, out);
}

/* ---- writing ---- */

/* Nine digits behind the point, without zeros at the end. */
static struct str fraction_text(struct scope *scope, uint32_t nanos)
{
        struct str s = arena_printf(&scope->arena, ".%09u", nanos);

        while (s.n > 1 && s.p[s.n - 1] == '0')
                s.n--;
        return s.n > 1 ? s : STR("");
}

struct str value_moment_text(struct scope *scope, struct value v)
{
        nanoseconds n = nanos_of(v);
        bool negative = v.kind == VALUE_DURATION && n < 0;
        nanoseconds seconds = floor_div(negative ? -n : n, per_second);
        struct str rest = fraction_text(scope, (uint32_t)((negative ? -n : n) - seconds * per_second));
        char text[TIME_TEXT_SIZE];

        if (v.kind == VALUE_DURATION)
                return arena_printf(&scope->arena, "%s%lld" STR_FMT "s", negative ? "-" : "",
                                    (long long)seconds, STR_ARG(rest));
        time_print((int64_t)seconds * US_PER_S, text);
        return arena_printf(&scope->arena, "%.19s" STR_FMT "Z", text, STR_ARG(rest));
}

/* ---- the parts of an instant ---- */

/* [+-]HH:MM or UTC. */
static bool zone_seconds(struct str zone, int64_t *out)
{
        bool west = zone.n && zone.p[0] == '-';
        int64_t hours, minutes;

        *out = 0;
        if (!zone.n || str_is(zone, "UTC") || str_is(zone, "Z"))
                return true;
        if (strchr("+-", zone.p[0]))
                zone = str_slice(zone, 1, zone.n);
        if (zone.n != 5 || zone.p[2] != ':' || !is_digit(zone.p[0]) || !is_digit(zone.p[3]) ||
            !str_to_int(str_slice(zone, 0, 2), &hours) ||
            !str_to_int(str_slice(zone, 3, 5), &minutes) || hours > 23 || minutes > 59)
                return false;
        *out = (west ? -60 : 60) * (hours * 60 + minutes);
        return true;
}

static enum err broken_down(struct eval *ev, const struct value *args, struct tm *out)
{
        struct str zone = ev->given == 2 ? args[1].text : STR("UTC");
        int64_t offset;
        time_t t;

        if (!zone_seconds(zone, &offset))
                return eval_fail(ev, "time zone \"%.*s\" is not known here: only UTC and fixed "
                                     "offsets, as \"+05:30\"",
                                 STR_ARG(expr_clip(zone)));
        t = (time_t)(floor_div(nanos_of(args[0]), per_second) + offset);
        BUG_ON(!gmtime_r(&t, out));
        return ERR_OK;
}

#define RUN_PART(name, expression)                                                       \
        enum err name(struct eval *ev, const struct value *args, struct value *out)      \
        {                                                                                \
                struct tm tm = { 0 };                                                    \
                enum err e = broken_down(ev, args, &tm);                                 \
                                                                                         \
                *out = value_int(expression);                                            \
                return e;                                                                \
        }

RUN_PART(run_full_year, tm.tm_year + 1900)
RUN_PART(run_month, tm.tm_mon)
RUN_PART(run_date, tm.tm_mday)
RUN_PART(run_day_of_month, tm.tm_mday - 1)
RUN_PART(run_day_of_week, tm.tm_wday)
RUN_PART(run_day_of_year, tm.tm_yday)
RUN_PART(run_hours, tm.tm_hour)
RUN_PART(run_minutes, tm.tm_min)
RUN_PART(run_seconds, tm.tm_sec)
RUN_PART(run_milliseconds,
         (int64_t)((nanos_of(args[0]) - floor_div(nanos_of(args[0]), per_second) * per_second) / 1000000))

/* Of a duration: all of it in this unit, but the milliseconds beyond its seconds. */
#define RUN_SPAN(name, expression)                                                       \
        enum err name(struct eval *ev, const struct value *args, struct value *out)      \
        {                                                                                \
                nanoseconds n = nanos_of(args[0]);                                       \
                                                                                         \
                (void)ev;                                                                \
                *out = value_int((int64_t)(expression));                                 \
                return ERR_OK;                                                           \
        }

RUN_SPAN(run_span_hours, n / per_second / 3600)
RUN_SPAN(run_span_minutes, n / per_second / 60)
RUN_SPAN(run_span_seconds, n / per_second)
RUN_SPAN(run_span_milliseconds, n % per_second / 1000000)
