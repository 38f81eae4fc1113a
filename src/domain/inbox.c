#include "domain/inbox.h"

#include "domain/search.h"
#include "domain/sql.h"
#include "domain/summary.h"

static const char *const lanes[] = { "archived", "approvals", "failed_runs", "blocked", "my_work", NULL };
const struct names inbox_lane_names = { lanes, NULL };

#define AT(member) offsetof(struct inbox_item, member)
static const struct field inbox_item_fields[] = {
        { "lane", FIELD_ENUM, FIELD_WIRE, AT(lane), &inbox_lane_names },
        { "blocking_reason", FIELD_STR, FIELD_WIRE, AT(blocking_reason) },
        { "unread", FIELD_BOOL, FIELD_WIRE | FIELD_ALWAYS, AT(unread) },
        { "last_seen_activity_at", FIELD_TIME, FIELD_WIRE, AT(last_seen_activity_at) },
        { "task", FIELD_RECORD, FIELD_WIRE | FIELD_REQUIRED, AT(task), &task_record },
};
const struct record inbox_item_record = { "InboxItem", inbox_item_fields, LENGTH(inbox_item_fields),
                                          sizeof(struct inbox_item), -1 };

static const enum sql statements[INBOX_LANES] = {
        [LANE_ARCHIVED] = SQL_INBOX_ARCHIVED,       [LANE_APPROVALS] = SQL_INBOX_APPROVALS,
        [LANE_FAILED_RUNS] = SQL_INBOX_FAILED_RUNS, [LANE_BLOCKED] = SQL_INBOX_BLOCKED,
        [LANE_MY_WORK] = SQL_INBOX_MY_WORK,
};

/* As the statements give them. */
struct row {
        int64_t id, status, approval_state, failed, circuit, archived, dismissed, seen_at, unread, matches;
};
enum { ROW_COLUMNS = sizeof(struct row) / sizeof(int64_t), ROWS_AT_ONCE = 200 };

static bool is_awaiting(const struct row *row)
{
        return row->status == TASK_BLOCKED && row->approval_state == APPROVAL_PENDING;
}

static int lane_of(const struct row *row)
{
        return row->archived                 ? LANE_ARCHIVED :
               is_awaiting(row)              ? LANE_APPROVALS :
               row->failed                   ? LANE_FAILED_RUNS :
               row->status == TASK_BLOCKED   ? LANE_BLOCKED :
               row->status != TASK_DRAFT     ? LANE_MY_WORK :
                                               -1;
}

static struct str blocking_reason(const struct row *row)
{
        if (is_awaiting(row))
                return STR("awaiting_approval");
        if (row->status == TASK_BLOCKED && row->approval_state == APPROVAL_REJECTED)
                return STR("approval_rejected");
        if (row->circuit)
                return STR("review_circuit_open");
        if (row->failed)
                return STR("latest_run_failed");
        return row->status == TASK_BLOCKED ? STR("awaiting_dependencies") : STR_NONE;
}

static enum err add(struct tx *tx, const struct row *row, struct list *out)
{
        struct inbox_item *item = (struct inbox_item *)out->items + out->n;
        enum err e;

        *item = (struct inbox_item){ .lane = lane_of(row),
                                     .blocking_reason = blocking_reason(row),
                                     .unread = row->unread,
                                     .last_seen_activity_at = row->seen_at,
                                     .task = arena_new(&tx_scope(tx)->arena, struct task) };
        e = tx_one(tx, SQL_TASK_GET, item->task, INT(row->id));
        if (!e)
                e = task_summarize(tx, item->task);
        out->n += !e;
        return e;
}

static bool is_wanted(const struct row *row, const struct inbox_filter *f, int lane)
{
        return lane_of(row) == lane && row->matches && (row->unread || !(f->unread || row->dismissed));
}

struct page {
        struct list items;
        size_t room;
        int left; /* rows that may still be looked at */
};

static bool is_over(const struct page *page)
{
        return page->items.n == page->room || page->left <= 0;
}

/* Goes on in at->lane until the page is over or the lane is at its end: at->before is 0. */
static enum err read_lane(struct tx *tx, const struct principal *by, const struct inbox_filter *f,
                          struct inbox_place *at, struct page *page)
{
        const struct str q = search_pattern(&tx_scope(tx)->arena, f->q);

        while (!is_over(page)) {
                const struct arg args[] = { NAME(by->workspace), NAME(by->actor), INT(at->before), TEXT(q),
                                            INT(ROWS_AT_ONCE), INT(INBOX_UNREAD_EVENTS) };
                const struct row *row;
                int64_t *numbers;
                size_t n;
                enum err e = tx_number_rows(tx, statements[at->lane], &numbers, &n, ROW_COLUMNS, args,
                                            LENGTH(args));

                if (e || !n) {
                        at->before = 0;
                        return e;
                }
                row = (const struct row *)numbers;
                for (size_t i = 0; !e && i < n && !is_over(page); i++, page->left--) {
                        at->before = row[i].id;
                        if (is_wanted(&row[i], f, at->lane))
                                e = add(tx, &row[i], &page->items);
                }
                if (e)
                        return e;
        }
        return ERR_OK;
}

enum err inbox_list(struct tx *tx, const struct principal *by, const struct inbox_filter *f,
                    struct list *out, struct inbox_place *next)
{
        const int last = f->lane < 0 ? LANE_MY_WORK : f->lane;
        /* One more than the page tells whether there is a next one. */
        struct page page = { .room = (size_t)f->limit + 1, .left = INBOX_PAGE_ROWS };
        struct inbox_item *items = arena_array(&tx_scope(tx)->arena, struct inbox_item, page.room);
        struct inbox_place at = f->from;
        enum err e = ERR_OK;

        page.items.items = items;
        while (!e) {
                if (!at.before)
                        at.before = INT64_MAX;
                e = read_lane(tx, by, f, &at, &page);
                if (at.before || at.lane == last)
                        break;
                at.lane++;
        }
        if (page.items.n == page.room) {
                page.items.n--;
                at = (struct inbox_place){ items[page.items.n - 1].lane, items[page.items.n - 1].task->id };
        }
        *out = page.items;
        *next = at;
        return e;
}
