/* What the performers of effectful steps share: private to this room. */
#ifndef BATON_WORKER_PERFORMER_H
#define BATON_WORKER_PERFORMER_H

#include "worker/slot.h"

typedef struct performed performer(struct slot *, const struct step_spec *,
                                   struct value parameters);

performer git_clone, git_pull; /* perform_git.c */
performer http_request;        /* perform_http.c */

/* A parameter: null, or `otherwise`, when it was not given. */
struct value param(struct value parameters, const char *name);
struct str text_param(struct value parameters, const char *name, struct str otherwise);

struct performed failed(enum outcome, struct str message);
/* A refusal of a lower layer as the end of a step: what another try may mend is transient. */
struct performed refused(struct slot *, enum err);

/* The value of a secret of the run's workspace; ERR_VALIDATION says what is the matter. */
enum err secret_find(struct slot *, struct str name, struct str *value) NODISCARD;
/* Without secrets.  With cut, the text was cut at its end. */
struct str slot_redact(struct slot *, struct str, bool cut);

/* How a command that ran ended; its texts hold no secrets. */
struct ended {
        struct spawn_result r;
        struct str over_quota; /* why, when that is what stopped it */
        int64_t timeout_us;
};

/* Runs what the spec's argv, env, cwd, git_source and network say, logging its output; the step's
 * timeout beats `seconds`, the spec's own beats both. */
enum err run_command(struct slot *, const struct step_spec *, struct spawn_spec *, int64_t seconds,
                     struct ended *) NODISCARD;
/* {exit_code, stdout, stderr, duration_ms, truncated}, with room for so many entries more. */
struct value command_output(struct slot *, const struct spawn_result *, size_t room);
/* Why a command did not end well; OUTCOME_OK when it did and its exit code is a `good` one. */
struct performed judge(struct slot *, const struct ended *, bool good);

#endif
