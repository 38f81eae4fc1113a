/* The lists of tasks: by which index a page is read, and how one is found for a text. */
#include <string.h>

#include "domain/search.h"
#include "domain/sql.h"
#include "domain/summary.h"
#include "domain/task.h"
#include "domain/workspace.h"

enum {
        SORTED_MAX = 2000,     /* tasks that a page may sort, */
        CANDIDATES_MAX = 2000, /* candidates of the index of texts that it may look at, */
        LOOKED_AT_MAX = 10000, /* and tasks, where that index does not help */
};

/* Owners are stored as kind:ref; all of a kind lie between `kind:` and `kind;`. */
struct owner_range {
        struct str from, to; /* both included; absent = any */
};

static struct owner_range owner_range(struct arena *arena, const struct task_filter *f)
{
        struct str one;

        if (!f->owner_kind.p)
                return (struct owner_range){ STR_NONE, STR_NONE };
        one = arena_printf(arena, STR_FMT ":" STR_FMT, STR_ARG(f->owner_kind),
                           STR_ARG(f->owner_ref));
        if (f->owner_ref.p)
                return (struct owner_range){ one, one };
        return (struct owner_range){ one, arena_printf(arena, STR_FMT ";", STR_ARG(f->owner_kind)) };
}

/* The index that a page is read by, what fits fewest tasks first.  few_owners: of all of that kind. */
static enum sql list_statement(const struct task_filter *f, bool few_owners)
{
        return f->parent_task_id           ? SQL_TASK_LIST_PARENT :
               f->approval_state > 0       ? SQL_TASK_LIST_APPROVAL :
               f->definition_id            ? SQL_TASK_LIST_DEFINITION :
               f->source_conversation_id.p ? SQL_TASK_LIST_CONVERSATION :
               f->owner_ref.p              ? SQL_TASK_LIST_OWNER :
               f->network_channel.p        ? SQL_TASK_LIST_CHANNEL :
               few_owners                  ? SQL_TASK_LIST_OWNERS :
               f->status >= 0              ? SQL_TASK_LIST_STATUS :
               f->priority >= 0            ? SQL_TASK_LIST_PRIORITY :
                                             SQL_TASK_LIST;
}

/* Few tasks have an owner of that kind.  Where they are many, a page of them is soon found. */
static enum err owned_by_few(struct tx *tx, struct str workspace, const struct owner_range *owner,
                             bool *few)
{
        int64_t n = 0;
        enum err e = owner->from.p ? tx_number(tx, SQL_TASK_OWNED, &n, NAME(workspace), TEXT(owner->from),
                                               TEXT(owner->to), INT(SORTED_MAX)) :
                                     ERR_OK;

        *few = owner->from.p && n < SORTED_MAX;
        return e;
}

/* A page on its way. */
struct page {
        enum sql statement;
        struct arg args[16];
        struct list items;
        size_t limit;
        int64_t passed; /* what came before was looked at, and it is enough for one page; 0 = not yet */
};
enum { ARG_BELOW = 1, ARG_PATTERN = 6, ARG_LIMIT = 9, ARG_ABOVE = 15 };

static bool is_over(const struct page *page)
{
        return page->items.n == page->limit || page->passed;
}

/* Adds what there is between two ids. */
static enum err add_between(struct tx *tx, struct page *page, enum sql statement, int64_t above, int64_t below)
{
        struct list more;
        enum err e;

        page->args[ARG_ABOVE] = INT(above);
        page->args[ARG_BELOW] = INT(below);
        page->args[ARG_LIMIT] = INT(page->limit - page->items.n);
        e = tx_rows(tx, statement, &more, page->args, LENGTH(page->args));
        if (e || !more.n)
                return e;
        memcpy((struct task *)page->items.items + page->items.n, more.items, more.n * sizeof(struct task));
        page->items.n += more.n;
        return ERR_OK;
}

/* The same for a text that few of them may have: of a whole workspace a page looks at so many tasks. */
static enum err look_between(struct tx *tx, struct page *page, int64_t above, int64_t below)
{
        const struct arg args[] = { page->args[0], INT(above), INT(below), INT(LOOKED_AT_MAX - 1) };
        int64_t last = 0;
        enum err e = page->statement == SQL_TASK_LIST ?
                             tx_numbers(tx, SQL_TASK_PASSED, &last, 1, args, LENGTH(args)) :
                             ERR_EMPTY;

        if (e && e != ERR_EMPTY)
                return e;
        e = add_between(tx, page, page->statement, last ? last - 1 : above, below);
        page->passed = last;
        return e;
}

/* Candidates of the index one by one, down to *below; *all unless there are too many. */
static enum err look_at_candidates(struct tx *tx, struct page *page, struct str words, int64_t *below, bool *all)
{
        size_t n = SEARCH_CANDIDATES;
        enum err e = ERR_OK;

        for (int looked = 0; !e && n == SEARCH_CANDIDATES && !is_over(page) && looked < CANDIDATES_MAX;
             looked += SEARCH_CANDIDATES) {
                int64_t *ids;

                e = search_candidates(tx, words, *below, &ids, &n);
                for (size_t i = 0; !e && i < n && !is_over(page); i++) {
                        *below = ids[i];
                        e = add_between(tx, page, SQL_TASK_LIST_ONE, ids[i] - 1, ids[i] + 1);
                }
        }
        *all = n < SEARCH_CANDIDATES;
        return e;
}

/* The newest tasks, which the index does not know yet; its candidates; and where these are too many for one page,
 * which then is soon full, the rest as it is. */
static enum err look_for(struct tx *tx, struct page *page, struct str q, int64_t below)
{
        struct str words = STR_NONE;
        int64_t upto = 0;
        bool all = false;
        enum err e = search_upto(tx, &upto);

        if (!e)
                e = look_between(tx, page, upto, below);
        if (below > upto)
                below = upto + 1;
        if (!e && !is_over(page))
                e = search_words(tx, q, below, &words);
        if (!e && words.p)
                e = look_at_candidates(tx, page, words, &below, &all);
        return e || all || is_over(page) ? e : look_between(tx, page, 0, below);
}

enum err task_list(struct tx *tx, const struct principal *by, const struct task_filter *f,
                   struct list *out, int64_t *next)
{
        struct arena *arena = &tx_scope(tx)->arena;
        struct owner_range owner = owner_range(arena, f);
        struct str workspace = f->scope == TASK_GLOBAL ? STR(SYSTEM_WORKSPACE) : by->workspace;
        int64_t below = f->before ? f->before : INT64_MAX;
        struct page page = {
                .args = { NAME(workspace), NONE(), INT(f->status), INT(f->priority),
                          INT(f->parent_task_id), INT(f->definition_id), NONE(),
                          TEXT(f->source_conversation_id), INT(f->include_drafts), NONE(),
                          NAME(f->network_channel), TEXT(owner.from), TEXT(owner.to),
                          INT(f->approval_state), NAME(f->owner_ref.p ? owner.from : STR_NONE) },
                .items = { arena_array(arena, struct task, (size_t)f->limit), 0 },
                .limit = (size_t)f->limit,
        };
        bool few;
        enum err e;

        if (f->q.n > SEARCH_MAX)
                return fail_limit(tx_scope(tx), "q", ERR_VALIDATION, SEARCH_MAX, (int64_t)f->q.n,
                                  "bytes of a text to search for");
        page.args[ARG_PATTERN] = TEXT(search_pattern(arena, f->q));
        e = owned_by_few(tx, workspace, &owner, &few);
        page.statement = list_statement(f, few);
        if (!e)
                e = f->q.n ? look_for(tx, &page, f->q, below) :
                             add_between(tx, &page, page.statement, 0, below);
        *out = page.items;
        *next = page.items.n < page.limit ? page.passed : 0;
        return e ? e : tasks_summarize(tx, out);
}
