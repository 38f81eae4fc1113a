/* Words that stand for something: ids and cursors, times, numbers, names, durations. */
#include <string.h>

#include "domain/task.h"
#include "fuzz.h"

static void check_id(struct str word)
{
        static const char *const prefixes[] = { "task", "run", "def", "cur", "key", "appr" };
        char text[ID_TEXT_SIZE];
        int64_t id;

        for (size_t i = 0; i < LENGTH(prefixes); i++)
                if (id_parse(prefixes[i], word, &id)) {
                        MUST(id > 0);
                        MUST(str_eq((struct str){ text, id_print(prefixes[i], id, text) }, word));
                }
}

/* From year 0 on; the printed text is the one that every reader takes. */
static void check_time(struct str word)
{
        char text[TIME_TEXT_SIZE];
        int64_t us, again;

        if (!time_parse(word, &us))
                return;
        time_print(us, text);
        if (us < INT64_C(-62167219200) * US_PER_S || us >= INT64_C(253402300800) * US_PER_S)
                return; /* an offset led out of the years that four digits can show */
        MUST(time_parse(str_from(text), &again) && again == us);
}

static void check_number(struct str word)
{
        struct buf text = BUF_INIT(32);
        int64_t number, again;

        if (str_to_int(word, &number)) {
                buf_int(&text, number);
                MUST(!text.full && str_to_int(buf_view(&text), &again) && again == number);
                MUST(text.n <= word.n);
        }
        buf_done(&text);
}

static void check_text(struct scope *scope, struct str word)
{
        int status = names_find(&task_status_names, word);
        struct str rest = word, whole;
        size_t n = 0;

        MUST(status < 0 || names_find(&task_status_names,
                                      str_from(names_text(&task_status_names, status))) == status);
        for (bool more = word.n > 0; more; more = rest.p) {
                n += str_cut(rest, ',', &rest).n + 1;
        }
        MUST(n == (word.n ? word.n + 1 : 0));
        whole = str_whole(word);
        MUST(whole.n <= word.n && word.n - whole.n < 4);
        if (str_is_utf8(word)) {
                MUST(whole.n == word.n);
                for (size_t i = 0; i <= word.n; i++)
                        MUST(str_is_utf8(str_whole(str_slice(word, 0, i))));
        }
        MUST(str_lower(&scope->arena, word).n == word.n && str_trim(word).n <= word.n);
}

void fuzz(struct scope *scope, struct str input)
{
        check_id(input);
        check_time(input);
        check_number(input);
        check_text(scope, input);
}
