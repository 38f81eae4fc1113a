#include "cli/table.h"

#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

#include "json/json_in.h"

enum { PAGE_WIDTH = 1000, FREE_MIN = 20 };

/* ---- screens and colours ---- */

void screen_init(struct screen *screen, struct scope *scope, FILE *to, bool colour)
{
        const char *term = getenv("TERM");
        bool terminal = isatty(fileno(to)) && !(term && strcmp(term, "dumb") == 0);

        *screen = (struct screen){ to, terminal, terminal && colour, scope };
}

static struct winsize window(const struct screen *screen)
{
        struct winsize size = { 0 };

        if (ioctl(fileno(screen->to), TIOCGWINSZ, &size))
                size.ws_col = size.ws_row = 0;
        return size;
}

int screen_width(const struct screen *screen)
{
        int columns = screen->terminal ? window(screen).ws_col : PAGE_WIDTH;

        return columns >= 20 ? columns : 80;
}

int screen_height(const struct screen *screen)
{
        int rows = window(screen).ws_row;

        return rows >= 4 ? rows : 24;
}

static const char *escape(const struct screen *screen, const char *code)
{
        return screen->colour ? code : "";
}

const char *colour_dim(const struct screen *screen)
{
        return escape(screen, "\033[2m");
}

const char *colour_bold(const struct screen *screen)
{
        return escape(screen, "\033[1m");
}

const char *colour_off(const struct screen *screen)
{
        return escape(screen, "\033[0m");
}

const char *status_colour(const struct screen *screen, struct str status)
{
        static const struct {
                const char *status, *code;
        } colours[] = {
                { "completed", "\033[32m" }, { "approved", "\033[32m" }, { "failed", "\033[31m" },
                { "rejected", "\033[31m" },
                { "timed_out", "\033[31m" }, { "denied", "\033[31m" },   { "canceled", "\033[35m" },
                { "expired", "\033[35m" },   { "pending", "\033[2m" },   { "skipped", "\033[2m" },
                { "queued", "\033[2m" },     { "", "\033[33m" },
        };

        for (size_t i = 0; i < LENGTH(colours); i++)
                if (str_is(status, colours[i].status))
                        return escape(screen, colours[i].code);
        return escape(screen, status.n ? "\033[36m" : "");
}

/* ---- clean texts ---- */

/* One character; its length, 0 when the bytes are none. */
static size_t decode(struct str s, size_t at, uint32_t *out)
{
        unsigned char c = (unsigned char)s.p[at];
        size_t n = c < 0x80 ? 1 : c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc2 ? 2 : 0;

        if (!n || at + n > s.n || !str_is_utf8(str_slice(s, at, at + n)))
                return c == 0 && n ? (*out = 0, 1) : 0;
        *out = n == 1 ? c : c & (0x7fu >> n);
        for (size_t i = 1; i < n; i++)
                *out = *out << 6 | ((unsigned char)s.p[at + i] & 0x3f);
        return n;
}

/* Controls, and what turns the direction of a line around. */
static bool is_unsafe(uint32_t c)
{
        return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 ||
               (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == 0x200e ||
               c == 0x200f || c == 0x061c || c == 0xfeff;
}

static struct str clean(struct scope *scope, struct str s, bool lines)
{
        struct buf out = BUF_INIT(s.n * 3 + 1);
        struct str copy;

        for (size_t at = 0; at < s.n;) {
                uint32_t c = 0;
                size_t n = decode(s, at, &c);

                if (n && (!is_unsafe(c) || (lines && (c == '\n' || c == '\t'))))
                        buf_bytes(&out, s.p + at, n);
                else if (n && (c == '\n' || c == '\t'))
                        buf_char(&out, ' ');
                else if (!(n && lines && c == '\r' && at + 1 < s.n && s.p[at + 1] == '\n'))
                        buf_text(&out, "\xef\xbf\xbd");
                at += n ? n : 1;
        }
        copy = str_dup(&scope->arena, buf_view(&out));
        buf_done(&out);
        return copy.p ? copy : STR("");
}

struct str text_clean(struct scope *scope, struct str s)
{
        return clean(scope, s, false);
}

struct str text_clean_lines(struct scope *scope, struct str s)
{
        return clean(scope, s, true);
}

static int width_of(uint32_t c)
{
        int width = c < 0x80 ? 1 : wcwidth((wchar_t)c);

        return width < 0 ? 1 : width;
}

int text_width(struct str s)
{
        int width = 0;

        for (size_t at = 0; at < s.n;) {
                uint32_t c = '?';
                size_t n = decode(s, at, &c);

                width += width_of(c);
                at += n ? n : 1;
        }
        return width;
}

struct str text_cut(struct scope *scope, struct str s, int width)
{
        int used = 0;
        size_t at = 0;

        if (text_width(s) <= width)
                return s;
        while (at < s.n) {
                uint32_t c = '?';
                size_t n = decode(s, at, &c);

                used += width_of(c);
                if (used > width - 1)
                        break;
                at += n ? n : 1;
        }
        return arena_printf(&scope->arena, STR_FMT "…", STR_ARG(str_slice(s, 0, at)));
}

/* ---- values as text ---- */

struct str duration_text(struct scope *scope, int64_t us)
{
        int64_t s = us / US_PER_S;

        if (us < 0)
                us = s = 0;
        if (s < 60)
                return arena_printf(&scope->arena, "%lld.%llds", (long long)s,
                                    (long long)(us % US_PER_S / 100000));
        if (s < 3600)
                return arena_printf(&scope->arena, "%lldm %02llds", (long long)(s / 60),
                                    (long long)(s % 60));
        return arena_printf(&scope->arena, "%lldh %02lldm", (long long)(s / 3600),
                            (long long)(s / 60 % 60));
}

static struct str age_text(struct scope *scope, struct str time)
{
        const struct clock *clock = scope->world->clock;
        int64_t at, s, now = clock->wall(clock->ctx);
        bool past;

        if (!time_parse(time, &at))
                return time;
        past = at <= now + US_PER_S; /* the server's clock may be a little ahead */
        s = (past ? now - at : at - now) / US_PER_S;
        s = s < 0 ? 0 : s;
        return arena_printf(&scope->arena, "%s%lld%s%s", past ? "" : "in ",
                            (long long)(s < 120    ? s :
                                        s < 7200   ? s / 60 :
                                        s < 172800 ? s / 3600 :
                                                     s / 86400),
                            s < 120    ? "s" :
                            s < 7200   ? "m" :
                            s < 172800 ? "h" :
                                         "d",
                            past ? " ago" : "");
}

static struct str time_text(struct scope *scope, struct str time)
{
        char text[32];
        struct tm local;
        int64_t at;
        time_t s;

        if (!time_parse(time, &at))
                return time;
        s = (time_t)(at / US_PER_S);
        if (!localtime_r(&s, &local) || !strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &local))
                return time;
        return str_dup(&scope->arena, str_from(text));
}

static bool is_actor(const json_t *value)
{
        return json_object_size(value) == 2 && json_object_get(value, "kind") &&
               json_object_get(value, "ref");
}

static struct str words_text(struct scope *scope, const json_t *list)
{
        struct str out = STR("");
        const json_t *item;
        size_t i;

        json_array_foreach(list, i, item) {
                if (!json_is_string(item))
                        return json_dump(&scope->arena, list);
                out = arena_printf(&scope->arena, STR_FMT "%s" STR_FMT, STR_ARG(out), i ? ", " : "",
                                   STR_ARG(json_view(item)));
        }
        return out;
}

static struct str value_text(struct scope *scope, const json_t *value)
{
        if (!value || json_is_null(value))
                return STR("");
        if (json_is_string(value))
                return json_view(value);
        if (is_actor(value))
                return arena_printf(&scope->arena, STR_FMT ":" STR_FMT,
                                    STR_ARG(json_view(json_object_get(value, "kind"))),
                                    STR_ARG(json_view(json_object_get(value, "ref"))));
        if (json_is_array(value))
                return words_text(scope, value);
        return json_dump(&scope->arena, value);
}

static const json_t *at_path(struct scope *scope, const json_t *object, const char *path)
{
        struct str rest = str_from(path);

        while (object && rest.n) {
                struct str name = str_cut(rest, '.', &rest);

                object = json_object_get(object, str_c(&scope->arena, name));
        }
        return object;
}

static struct str cell_text(struct scope *scope, const struct column *column, const json_t *item)
{
        struct str text = value_text(scope, at_path(scope, item, column->path));

        if (column->show == SHOW_AGE && text.n)
                text = age_text(scope, text);
        if (column->show == SHOW_TIME && text.n)
                text = time_text(scope, text);
        return text_clean(scope, text.n ? text : STR("-"));
}

/* ---- tables ---- */

static void pad(FILE *to, int n)
{
        while (n-- > 0)
                fputc(' ', to);
}

static void print_cell(const struct screen *screen, const struct column *column, struct str text,
                       int width, bool last)
{
        int left = column->show == SHOW_NUMBER ? width - text_width(text) : 0;
        bool coloured = column->show == SHOW_STATUS && screen->colour;

        pad(screen->to, left);
        fprintf(screen->to, "%s" STR_FMT "%s", coloured ? status_colour(screen, text) : "",
                STR_ARG(text), coloured ? colour_off(screen) : "");
        if (!last)
                pad(screen->to, width - text_width(text) - left + 2);
}

/* The sentences get what the other columns leave; they share it evenly. */
static void fit(const struct screen *screen, const struct column *columns, size_t n, int *widths)
{
        int fixed = 0, sentences = 0, share;

        for (size_t c = 0; c < n; c++) {
                fixed += columns[c].show == SHOW_FREE ? 2 : widths[c] + 2;
                sentences += columns[c].show == SHOW_FREE;
        }
        if (!sentences)
                return;
        share = (screen_width(screen) - fixed + 2) / sentences;
        if (share < FREE_MIN)
                share = FREE_MIN;
        for (size_t c = 0; c < n; c++)
                if (columns[c].show == SHOW_FREE && widths[c] > share)
                        widths[c] = share;
}

void table_print(const struct screen *screen, const struct column *columns, size_t n,
                 const json_t *items)
{
        struct scope *scope = screen->scope;
        size_t rows = json_array_size(items);
        struct str *cells = arena_array(&scope->arena, struct str, rows * n + 1);
        int *widths = arena_array(&scope->arena, int, n);

        for (size_t c = 0; c < n; c++)
                widths[c] = (int)strlen(columns[c].title);
        for (size_t i = 0; i < rows * n; i++) {
                int width;

                cells[i] = cell_text(scope, &columns[i % n], json_array_get(items, i / n));
                width = text_width(cells[i]);
                if (width > widths[i % n])
                        widths[i % n] = width;
        }
        fit(screen, columns, n, widths);
        fputs(colour_bold(screen), screen->to);
        for (size_t c = 0; c < n; c++) {
                struct column plain = columns[c];

                if (plain.show == SHOW_STATUS)
                        plain.show = SHOW_TEXT;
                print_cell(screen, &plain, str_from(columns[c].title), widths[c], c + 1 == n);
        }
        fprintf(screen->to, "%s\n", colour_off(screen));
        for (size_t i = 0; i < rows * n; i++) {
                size_t c = i % n;

                print_cell(screen, &columns[c],
                           columns[c].show == SHOW_FREE ? text_cut(scope, cells[i], widths[c]) :
                                                          cells[i],
                           widths[c], c + 1 == n);
                if (c + 1 == n)
                        fputc('\n', screen->to);
        }
}

/* ---- one object ---- */

static bool is_time(struct str name)
{
        return str_ends(name, "_at") || str_ends(name, "_until") || str_is(name, "until") ||
               str_is(name, "timestamp");
}

static bool is_objects(const json_t *value)
{
        return json_is_array(value) && json_is_object(json_array_get(value, 0));
}

/* Lists of whole objects: a line each, by what names them. */
static void print_objects(const struct screen *screen, const json_t *list)
{
        static const char *const names[] = { "id", "status", "code", "title", "detail", "name" };
        const json_t *item;
        size_t i;

        json_array_foreach(list, i, item) {
                fputs("\n   ", screen->to);
                for (size_t k = 0; k < LENGTH(names); k++) {
                        struct str text =
                                value_text(screen->scope, json_object_get(item, names[k]));

                        if (text.n)
                                fprintf(screen->to, " " STR_FMT,
                                        STR_ARG(text_clean(screen->scope, text)));
                }
        }
}

static void print_member(const struct screen *screen, const char *name, const json_t *value)
{
        struct scope *scope = screen->scope;
        struct str text = value_text(scope, value);
        bool status = strcmp(name, "status") == 0;

        if (is_objects(value)) {
                print_objects(screen, value);
                return;
        }
        if (is_time(str_from(name)) && json_is_string(value)) {
                fprintf(screen->to, STR_FMT " %s(" STR_FMT ")%s",
                        STR_ARG(text_clean(scope, time_text(scope, text))), colour_dim(screen),
                        STR_ARG(text_clean(scope, age_text(scope, text))), colour_off(screen));
                return;
        }
        fprintf(screen->to, "%s" STR_FMT "%s", status ? status_colour(screen, text) : "",
                STR_ARG(text_clean(scope, text)), status ? colour_off(screen) : "");
}

void object_print(const struct screen *screen, const json_t *object)
{
        const char *name;
        json_t *value;
        int width = 0;

        json_object_foreach((json_t *)(uintptr_t)object, name, value) {
                int n = text_width(text_clean(screen->scope, str_from(name)));

                width = n > width ? n : width;
        }
        json_object_foreach((json_t *)(uintptr_t)object, name, value) {
                struct str clean_name = text_clean(screen->scope, str_from(name));

                if (json_is_null(value) || (json_is_array(value) && !json_array_size(value)))
                        continue;
                fprintf(screen->to, "%s" STR_FMT "%s", colour_bold(screen), STR_ARG(clean_name),
                        colour_off(screen));
                if (!is_objects(value))
                        pad(screen->to, width - text_width(clean_name) + 2);
                print_member(screen, name, value);
                fputc('\n', screen->to);
        }
}
