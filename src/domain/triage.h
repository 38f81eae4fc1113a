/*
 * Triage: what an actor has seen of a task, put away or set aside.  Without a row it has seen nothing.
 * Something new of the task makes it unread again and brings it back when it was dismissed; what is
 * archived stays so.  It is nobody else's business: no event, no change of the task.
 */
#ifndef BATON_DOMAIN_TRIAGE_H
#define BATON_DOMAIN_TRIAGE_H

#include "domain/task.h"

enum triage_action { TRIAGE_READ, TRIAGE_ARCHIVE, TRIAGE_DISMISS };

struct triage {
        int64_t task_id;
        struct str actor;
        bool read, archived, dismissed;
        int64_t last_seen_activity_at;
};
extern const struct record triage_record;

/* All that has happened to the task so far is seen, whatever the action. */
enum err triage_mark(struct tx *, const struct principal *, int64_t task, enum triage_action,
                     struct triage *) NODISCARD;

#endif
