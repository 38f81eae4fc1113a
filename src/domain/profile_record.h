/* Private to the profiles: the row as it is stored. */
#ifndef BATON_DOMAIN_PROFILE_RECORD_H
#define BATON_DOMAIN_PROFILE_RECORD_H

#include "core/record.h"

struct profile_row {
        int64_t task_id;
        struct str blocks; /* JSON */
        int64_t created_at, updated_at;
};
extern const struct record profile_row_record;

#endif
