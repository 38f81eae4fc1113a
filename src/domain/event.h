/*
 * Events: the immutable history, numbered 1,2,3,… per tree of tasks without gap.  An operation
 * collects its events and appends them at once, numbered on from the tree's last one, in the
 * transaction of the change they tell of.
 */
#ifndef BATON_DOMAIN_EVENT_H
#define BATON_DOMAIN_EVENT_H

#include "core/json_out.h"
#include "domain/principal.h"
#include "store/tx.h"

enum event_type {
#define EVENT(code, number, name) EVENT_##code = number,
#include "domain/event.def"
#undef EVENT
};

struct event {
        int64_t pos, sequence, tree_id, task_id, run_id;
        int type;
        struct str actor, origin, payload;
        int64_t timestamp;
};
extern const struct record event_record;
extern const struct names event_names;

/* The events of one operation on one tree. */
struct events {
        const struct principal *by;
        int64_t tree;
        bool new_tree; /* it has no events yet */
        int64_t last;  /* number of the newest one appended here */
        struct event_row {
                enum event_type type;
                int64_t task, run;
                struct str payload; /* a JSON object, or absent */
        } *rows;
        size_t n, size;
};

void events_add(struct tx *, struct events *, enum event_type, int64_t task, int64_t run,
               struct str payload);
/* Appends what was collected and leaves it empty. */
enum err events_append(struct tx *, struct events *) NODISCARD;

/* Payload helpers: a small JSON object in the arena. */
struct str payload_of(struct tx *, const struct record *, const void *); /* its wire members */
struct str payload_said(struct tx *, const char *key, struct str value, struct str metadata);
struct str payload_change(struct tx *, const char *from, const char *to);

struct event_page {
        int64_t tree, task, run; /* task, run: 0 = all of the tree */
        int64_t after, before;   /* numbers; before 0 = to the end */
        bool descending;
        int type, limit;         /* type 0 = any */
};
enum err events_read(struct tx *, const struct event_page *, struct list *) NODISCARD;
/* The newest number of a tree. */
enum err events_head(struct tx *, int64_t tree, int64_t *seq) NODISCARD;
/* The oldest one that is still there; 0 when the tree is gone. */
enum err events_first(struct tx *, int64_t tree, int64_t *seq) NODISCARD;

#endif
