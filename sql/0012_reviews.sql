-- Reviews: somebody judges what a run did.  The open ones are few; what looks for them has indices of its own.

CREATE TABLE review (
        id                  INTEGER PRIMARY KEY,
        workspace_id        INTEGER NOT NULL,
        task_id             INTEGER NOT NULL,
        run_id              INTEGER NOT NULL,
        policy              INTEGER NOT NULL,
        review_round        INTEGER NOT NULL,
        attempt             INTEGER NOT NULL,
        status              INTEGER NOT NULL,
        reason              TEXT,             -- why it was asked for
        requested_by        INTEGER NOT NULL,
        session_id          INTEGER,          -- it is bound to
        reviewer            INTEGER,
        deadline_at         INTEGER NOT NULL,
        route_at            INTEGER,          -- when a session is looked for; NULL = it has one, or is over
        created_at          INTEGER NOT NULL,
        started_at          INTEGER,
        recorded_at         INTEGER,
        outcome             INTEGER NOT NULL,
        confidence          TEXT,             -- a JSON number
        verdict_reason      TEXT,
        delivery_id         TEXT,
        missing_work        TEXT,
        next_round_guidance TEXT,
        review_text         TEXT,
        continuation_run_id INTEGER,
        no_continuation     TEXT              -- why a rejection has none
) STRICT;
CREATE UNIQUE INDEX review_run ON review (run_id, review_round, attempt);
CREATE INDEX review_task ON review (task_id, id);
CREATE INDEX review_workspace ON review (workspace_id, id);
CREATE INDEX review_open ON review (workspace_id, id) WHERE status < 2;
CREATE UNIQUE INDEX review_session ON review (session_id, workspace_id) WHERE status = 1 AND session_id IS NOT NULL;
CREATE INDEX review_due ON review (deadline_at) WHERE status < 2;
CREATE INDEX review_route ON review (route_at) WHERE route_at IS NOT NULL;

-- The review that the task waits for; with review_circuit_at, one that ended without letting it go on.
ALTER TABLE task RENAME COLUMN last_review_id TO review_id;
