#include "core/time.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static int64_t read_clock(clockid_t id)
{
        struct timespec ts;

        clock_gettime(id, &ts);
        return (int64_t)ts.tv_sec * US_PER_S + ts.tv_nsec / 1000;
}

static int64_t wall(void *ctx)
{
        (void)ctx;
        return read_clock(CLOCK_REALTIME);
}

static int64_t boot(void *ctx)
{
        (void)ctx;
        return read_clock(CLOCK_BOOTTIME);
}

const struct clock system_clock = { wall, boot, NULL };

/* Days since 1970-01-01 of a proleptic Gregorian date (year from 0, month 1..12). */
static int64_t days_from_civil(int64_t year, int64_t month, int64_t day)
{
        int64_t y = year - (month <= 2), era = (y >= 0 ? y : y - 399) / 400;
        int64_t yoe = y - era * 400;
        int64_t doy = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

        return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static void civil_from_days(int64_t days, int *year, int *month, int *day)
{
        int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097;
        int64_t doe = z - era * 146097;
        int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
        int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;

        *day = (int)(doy - (153 * mp + 2) / 5 + 1);
        *month = (int)(mp < 10 ? mp + 3 : mp - 9);
        *year = (int)(yoe + era * 400 + (*month <= 2));
}

static void put(char *at, int digits, int64_t value)
{
        while (digits--) {
                at[digits] = (char)('0' + value % 10);
                value /= 10;
        }
}

void time_print(int64_t us, char out[TIME_TEXT_SIZE])
{
        int64_t s = us / US_PER_S - (us % US_PER_S < 0), fraction = us - s * US_PER_S;
        int64_t days = s / 86400 - (s % 86400 < 0), second = s - days * 86400;
        int year, month, day;

        civil_from_days(days, &year, &month, &day);
        memcpy(out, "0000-00-00T00:00:00.000000Z", TIME_TEXT_SIZE);
        put(out, 4, year);
        put(out + 5, 2, month);
        put(out + 8, 2, day);
        put(out + 11, 2, second / 3600);
        put(out + 14, 2, second / 60 % 60);
        put(out + 17, 2, second % 60);
        put(out + 20, 6, fraction);
}

static bool take(struct str *s, size_t digits, int64_t *out)
{
        if (s->n < digits || !str_to_int(str_slice(*s, 0, digits), out) || *out < 0)
                return false;
        *s = str_slice(*s, digits, s->n);
        return true;
}

static bool take_char(struct str *s, const char *any_of)
{
        if (!s->n || !strchr(any_of, s->p[0]))
                return false;
        *s = str_slice(*s, 1, s->n);
        return true;
}

static void take_fraction(struct str *s, int64_t *us)
{
        int64_t scale = US_PER_S / 10;

        *us = 0;
        while (s->n && s->p[0] >= '0' && s->p[0] <= '9') {
                *us += (s->p[0] - '0') * scale;
                scale /= 10;
                *s = str_slice(*s, 1, s->n);
        }
}

static bool take_offset(struct str *s, int64_t *minutes)
{
        int64_t h, m;
        bool west;

        *minutes = 0;
        if (take_char(s, "Zz"))
                return true;
        if (!s->n || !strchr("+-", s->p[0]))
                return false;
        west = s->p[0] == '-';
        *s = str_slice(*s, 1, s->n);
        if (!take(s, 2, &h) || !take_char(s, ":") || !take(s, 2, &m) || h > 23 || m > 59)
                return false;
        *minutes = (west ? -1 : 1) * (h * 60 + m);
        return true;
}

static int64_t month_length(int64_t year, int64_t month)
{
        static const int8_t lengths[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
        bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

        return lengths[month - 1] + (month == 2 && leap);
}

bool time_parse(struct str s, int64_t *out)
{
        int64_t year, month, day, h, m, sec, us = 0, offset;

        if (!take(&s, 4, &year) || !take_char(&s, "-") || !take(&s, 2, &month) ||
            !take_char(&s, "-") || !take(&s, 2, &day) || !take_char(&s, "Tt ") ||
            !take(&s, 2, &h) || !take_char(&s, ":") || !take(&s, 2, &m) ||
            !take_char(&s, ":") || !take(&s, 2, &sec))
                return false;
        if (take_char(&s, ".")) {
                if (!s.n || s.p[0] < '0' || s.p[0] > '9')
                        return false;
                take_fraction(&s, &us);
        }
        if (!take_offset(&s, &offset) || s.n || month < 1 || month > 12 || day < 1 ||
            day > month_length(year, month) || h > 23 || m > 59 || sec > 59)
                return false;
        *out = ((days_from_civil(year, month, day) * 24 + h) * 60 + m - offset) * 60 * US_PER_S +
               sec * US_PER_S + us;
        return true;
}
