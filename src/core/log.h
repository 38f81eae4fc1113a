/*
 * Log: one line an event on standard error, logfmt or JSON.  Levels: error = a person must act,
 * warn = degraded but going on, info = life cycle, debug = anything.  Values are quoted and control
 * characters escaped.  The sink is the one mutable global of the program.
 */
#ifndef BATON_CORE_LOG_H
#define BATON_CORE_LOG_H

#include "core/attr.h"
#include "core/str.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_configure(enum log_level up_to, bool json);
/* log_write(LOG_INFO, "listening", "address", text, NULL): pairs of C strings, then NULL. */
void log_write(enum log_level, const char *event, ...) __attribute__((sentinel));

#endif
