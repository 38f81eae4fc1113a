#include "core/log.h"

#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "core/json_out.h"
#include "core/time.h"

static struct {
        enum log_level up_to;
        bool json;
} sink = { LOG_INFO, false };

static const char *const level_names[] = { "error", "warn", "info", "debug" };

void log_configure(enum log_level up_to, bool json)
{
        sink.up_to = up_to;
        sink.json = json;
}

static void pair(struct buf *line, struct json_out *j, const char *key, const char *value)
{
        struct json_out text = { .out = line };

        if (sink.json) {
                json_key(j, key);
                json_put_text(j, value);
                return;
        }
        if (line->n)
                buf_char(line, ' ');
        buf_text(line, key);
        buf_char(line, '=');
        if (strpbrk(value, " \"=\\\t\r\n\x1b") || !*value)
                json_put_text(&text, value);
        else
                buf_text(line, value);
}

void log_write(enum log_level level, const char *event, ...)
{
        struct buf line = BUF_INIT(16 * 1024);
        struct json_out j = { .out = &line };
        char now[TIME_TEXT_SIZE];
        const char *key;
        va_list args;

        if (level > sink.up_to)
                return;
        time_print(system_clock.wall(NULL), now);
        if (sink.json)
                json_begin_object(&j);
        pair(&line, &j, "at", now);
        pair(&line, &j, "level", level_names[level]);
        pair(&line, &j, "event", event);
        va_start(args, event);
        while ((key = va_arg(args, const char *))) {
                const char *value = va_arg(args, const char *);

                pair(&line, &j, key, value ? value : "");
        }
        va_end(args);
        if (sink.json)
                json_end_object(&j);
        buf_char(&line, '\n');
        if (write(STDERR_FILENO, line.p, line.n) < 0) {
                /* nobody reads the log: there is nowhere to say so */
        }
        buf_done(&line);
}
