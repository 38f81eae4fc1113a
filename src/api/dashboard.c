#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "api/request.h"
#include "domain/dashboard.h"

/*
 * An answer that took long to count is kept for HOLD times as long, at most KEPT_MAX: however often
 * it is asked for, a workspace costs a hundredth of a reader.  One that is counted at once is never
 * kept, so that it shows what was just done.
 */
enum { SLOTS = 32, HOLD = 100 };
#define KEPT_FROM (5 * US_PER_MS)
#define KEPT_MAX (120 * US_PER_S)

struct slot {
        char *bytes; /* of both texts */
        struct str workspace, text;
        int64_t until; /* boot clock */
};

struct dashboards {
        pthread_mutex_t lock;
        struct slot slots[SLOTS];
};

struct dashboards *dashboards_new(void)
{
        struct dashboards *d = xcalloc(1, sizeof(*d));

        pthread_mutex_init(&d->lock, NULL);
        return d;
}

void dashboards_free(struct dashboards *d)
{
        for (size_t i = 0; i < SLOTS; i++)
                free(d->slots[i].bytes);
        pthread_mutex_destroy(&d->lock);
        free(d);
}

/* Absent when there is none that still holds. */
static struct str kept(struct dashboards *d, struct str workspace, int64_t now, struct arena *arena)
{
        struct str text = STR_NONE;

        pthread_mutex_lock(&d->lock);
        for (size_t i = 0; i < SLOTS; i++)
                if (d->slots[i].until > now && str_eq(d->slots[i].workspace, workspace))
                        text = str_dup(arena, d->slots[i].text);
        pthread_mutex_unlock(&d->lock);
        return text;
}

/* In place of the workspace's last one, or of the one that ends first. */
static void keep(struct dashboards *d, struct str workspace, struct str text, int64_t until)
{
        char *bytes = xmalloc(workspace.n + text.n);
        struct slot *slot = d->slots;

        memcpy(bytes, workspace.p, workspace.n);
        memcpy(bytes + workspace.n, text.p, text.n);
        pthread_mutex_lock(&d->lock);
        for (size_t i = 0; i < SLOTS; i++)
                if (d->slots[i].until < slot->until)
                        slot = &d->slots[i];
        for (size_t i = 0; i < SLOTS; i++)
                if (str_eq(d->slots[i].workspace, workspace))
                        slot = &d->slots[i];
        free(slot->bytes);
        *slot = (struct slot){ bytes, { bytes, workspace.n }, { bytes + workspace.n, text.n }, until };
        pthread_mutex_unlock(&d->lock);
}

static struct str render(struct request *r, const struct dashboard *dashboard)
{
        struct buf text = BUF_INIT(1 << 20);
        struct json_out j = { .out = &text };
        struct str out;

        json_record(&j, &dashboard_record, dashboard);
        out = str_dup(&r->scope.arena, buf_view(&text));
        buf_done(&text);
        return out;
}

static int64_t boot_now(const struct request *r)
{
        const struct clock *clock = r->scope.world->clock;

        return clock->boot(clock->ctx);
}

static enum err get_dashboard(struct request *r, struct tx *tx)
{
        struct dashboards *d = api_dashboards(r->api);
        const int64_t began = boot_now(r);
        struct dashboard dashboard;
        int64_t took;
        enum err e;

        r->status = 200;
        r->text_type = "application/json";
        r->text = kept(d, r->by.workspace, began, &r->scope.arena);
        if (r->text.p)
                return ERR_OK;
        e = dashboard_read(tx, &r->by, &dashboard);
        if (e)
                return e;
        r->text = render(r, &dashboard);
        took = boot_now(r) - began;
        if (took >= KEPT_FROM)
                keep(d, r->by.workspace, r->text,
                     boot_now(r) + (took * HOLD < KEPT_MAX ? took * HOLD : KEPT_MAX));
        return ERR_OK;
}

const struct route dashboard_routes[] = {
        { HTTP_GET, "/v1/dashboard", SCOPE_TASKS_READ, ROUTE_READ, 0, NULL, &dashboard_record,
          get_dashboard, 0, "A workspace at a glance" },
        { 0 },
};
