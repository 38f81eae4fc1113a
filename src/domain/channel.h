/*
 * Channels: names that tell runs apart by who may work on them.  Any is good, unless the workspace
 * lists those that it has, or the task's execution profile those that its runs may be in.
 */
#ifndef BATON_DOMAIN_CHANNEL_H
#define BATON_DOMAIN_CHANNEL_H

#include "domain/run.h"

/* ERR_VALIDATION unless it is absent or may be one of that workspace's runs under that rule. */
enum err channel_check(struct tx *, struct str workspace, struct str rule, struct str channel) NODISCARD;
/* Every name of a list is well formed; the list is that field of a request. */
enum err channels_check(struct scope *, const char *field, struct str channels) NODISCARD;
/*
 * ERR_STALE_CHANNEL when the run's channel was good once and is no longer: told by run.rejected, which
 * the caller keeps although the operation is refused; the run stays as it is.
 */
enum err channel_of_run(struct tx *, const struct principal *, const struct run *, const char *operation)
        NODISCARD;

#endif
