/*
 * Reviews: somebody judges what a root run did.  A task's review policy asks for one in the
 * transaction in which the run ends; the task is `in_review` until it is decided (task.review_id), so
 * that its dependents wait.  A rejection makes a continuation run.  Where there can be none, or nobody
 * came to a judgement, the circuit opens (task.review_circuit_at): the task is `blocked` and nothing
 * goes on by itself until somebody starts it again or asks for another review.  Any other review that
 * is asked for by hand changes nothing but that a rejection is followed up.
 */
#ifndef BATON_DOMAIN_REVIEW_H
#define BATON_DOMAIN_REVIEW_H

#include "domain/run.h"

enum review_status { REVIEW_REQUESTED, REVIEW_IN_REVIEW, REVIEW_RECORDED, REVIEW_CANCELED };
enum verdict_outcome {
        VERDICT_NONE,
        VERDICT_APPROVED,
        VERDICT_REJECTED,
        VERDICT_BLOCKED, /* it cannot be judged */
        VERDICT_ERROR,   /* this and the rest: the attempt to judge it failed */
        VERDICT_TIMEOUT,
        VERDICT_INVALID_OUTPUT,
};
extern const struct names review_status_names, verdict_outcome_names;

#define REVIEW_TIMEOUT (1200 * US_PER_S) /* unless the server or the request says otherwise */
#define REVIEW_RAPID   (120 * US_PER_S)
enum {
        REVIEW_ROUNDS_MAX = 3,    /* after so many rejections there is no continuation */
        REVIEW_ATTEMPTS_MAX = 2,  /* to come to a judgement in a round, by themselves */
        REVIEW_RAPID_RUNS = 3,    /* ended within REVIEW_RAPID: no continuation */
        REVIEW_NUMBER_MAX = 100,  /* of a round or an attempt */
        REVIEW_REASON_MAX = 4096,
        REVIEW_DELIVERY_MAX = 256,
        REVIEW_GUIDANCE_MAX = 8192,
};

struct review {
        int64_t id;
        struct str workspace_id;
        int64_t task_id, run_id;
        int policy;
        int64_t review_round, attempt;
        int status;
        struct str reason, requested_by, session_id, reviewer;
        int64_t deadline_at, route_at, created_at, started_at, recorded_at;
        int outcome;
        struct str confidence, verdict_reason, delivery_id, missing_work, next_round_guidance, review_text;
        int64_t continuation_run_id;
        struct str no_continuation;
};
extern const struct record review_record;

struct review_spec {
        int policy; /* the run must have ended so; REVIEW_ALWAYS */
        int64_t task_id, review_round, attempt; /* 0 = that of the run; its own round; 1 */
        struct str reason;
        int64_t deadline_seconds; /* 0 = the server's */
};
/* The same run, round and attempt again: the review that is there, *created is false. */
enum err review_request(struct tx *, const struct principal *, int64_t run, const struct review_spec *,
                        struct review *, bool *created) NODISCARD;
/* A root run has ended and no attempt follows by itself: asks for a review if the task's policy says
 * so; the task's status is the caller's to project. */
enum err review_of_ended(struct tx *, struct task *, const struct run *, struct events *) NODISCARD;
/* The task goes on without the verdict that it waited for: its open reviews are canceled. */
enum err review_leave(struct tx *, struct task *) NODISCARD;

/* One more review of a run that has ended, as `spec` says in full; why: policy, asked, or how the attempt
 * before it ended. */
enum err review_ask(struct tx *, const struct run *, const struct review_spec *, const char *why,
                    struct str by, struct events *, struct review *) NODISCARD;
/* The task waits for this review, or for none (NULL); or, with the circuit open, for a person. */
enum err review_await(struct tx *, struct task *, const struct review *, bool circuit) NODISCARD;

/* The rejection that a run with a `review` follows. */
enum err review_of_continuation(struct tx *, const struct run *, int64_t *review) NODISCARD;
enum err review_get(struct tx *, const struct principal *, int64_t id, struct review *) NODISCARD;
struct review_filter {
        int status; /* -1 = any */
        int64_t task_id, run_id, before;
        struct str session_id;
        int limit;
};
enum err review_list(struct tx *, const struct principal *, const struct review_filter *,
                     struct list *) NODISCARD;

/* Gives an open review to a session (absent: the caller's own, or the caller without one).  A session
 * has one at a time: ERR_SESSION_BOUND. */
enum err review_bind(struct tx *, const struct principal *, int64_t id, struct str session,
                     struct review *) NODISCARD;
bool review_is_open(const struct review *);
/* ERR_INVALID_TRANSITION unless it is, and stays so. */
enum err review_check_open(struct tx *, const struct review *) NODISCARD;
/* ERR_PERMISSION_DENIED when it was given to somebody else; a person may step in anywhere. */
enum err review_check_given(struct tx *, const struct principal *, const struct review *) NODISCARD;
/* Done in that session, or by that actor, who is no human. */
bool review_is_own_work(const struct run *, struct str actor, struct str session);
/* Binds an open review that was read in this transaction; adds run.review_bound. */
enum err review_give(struct tx *, const struct principal *by, struct review *, const struct run *,
                     struct str session, struct str reviewer) NODISCARD;

/* Reviews whose time is over, and those that wait for a session; in bounded pieces. */
enum err reviews_tick(struct tx *) NODISCARD;
/* The session is over: what it was judging waits for another one. */
enum err reviews_of_session(struct tx *, const struct principal *, struct str session,
                            struct str workspace) NODISCARD;

#endif
