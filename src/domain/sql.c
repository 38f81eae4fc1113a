#include "domain/sql.h"

#include "domain/approval.h"
#include "domain/audit.h"
#include "domain/cascade.h"
#include "domain/copy.h"
#include "domain/definition.h"
#include "domain/delivery.h"
#include "domain/dependency.h"
#include "domain/event.h"
#include "domain/idempotency.h"
#include "domain/input.h"
#include "domain/join.h"
#include "domain/key.h"
#include "domain/lane_record.h"
#include "domain/log_line.h"
#include "domain/profile_record.h"
#include "domain/review.h"
#include "domain/scheduler.h"
#include "domain/search.h"
#include "domain/secret.h"
#include "domain/server.h"
#include "domain/step.h"
#include "domain/summary.h"
#include "domain/task.h"
#include "domain/triage.h"
#include "domain/webhook.h"
#include "domain/workspace.h"

/* The text of PostgreSQL may be left out. */
#define TEXTS(name, record, text, postgres, ...) { name, text, record, postgres }

const struct statement domain_statements[SQL_COUNT] = {
#define SQL(name, record, ...) [SQL_##name] = TEXTS(#name, record, __VA_ARGS__, NULL, NULL),
#include SQL_FILES
#undef SQL
};
