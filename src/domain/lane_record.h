/* Private to the lanes: their record and where the table of a transaction is. */
#ifndef BATON_DOMAIN_LANE_RECORD_H
#define BATON_DOMAIN_LANE_RECORD_H

#include "domain/lane.h"

extern const struct record lane_record;
struct lane_table *lane_table_of(struct tx *);

#endif
