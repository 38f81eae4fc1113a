-- Outgoing webhooks.  Each has a cursor of its own over the event log; a delivery is made for an event that its filter
-- takes, after the event was committed.
-- min_compatible: 1

CREATE TABLE webhook (
    id              INTEGER PRIMARY KEY,
    workspace_id    INTEGER NOT NULL,
    url             TEXT NOT NULL,
    description     TEXT,
    events          INTEGER,          -- event types and hook points, "a,b" in `name`; NULL = all
    asks            INTEGER NOT NULL, -- 1: among them is pre_claim
    enabled         INTEGER NOT NULL,
    disabled_reason TEXT,
    nonce           BLOB NOT NULL,
    sealed          BLOB NOT NULL,    -- the signing key, under the server's secret.key
    cursor          INTEGER NOT NULL, -- event.pos up to which it has been looked at
    created_by      INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    deleted_at      INTEGER           -- goes for good once its deliveries are gone
) STRICT;
CREATE INDEX webhook_workspace ON webhook (workspace_id, id);
CREATE INDEX webhook_policy ON webhook (workspace_id) WHERE asks = 1 AND enabled = 1;

CREATE TABLE delivery (
    id              INTEGER PRIMARY KEY,
    webhook_id      INTEGER NOT NULL,
    type            INTEGER NOT NULL,
    tree_id         INTEGER NOT NULL,
    sequence        INTEGER NOT NULL,
    task_id         INTEGER NOT NULL,
    run_id          INTEGER,
    body            TEXT NOT NULL,    -- the same bytes at every attempt
    status          INTEGER NOT NULL,
    attempts        INTEGER NOT NULL,
    next_attempt_at INTEGER,
    response_status INTEGER NOT NULL, -- of the last attempt; 0 = there was no answer
    response        TEXT,             -- how it begins
    error           TEXT,
    duration_ms     INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    finished_at     INTEGER
) STRICT;
CREATE INDEX delivery_webhook ON delivery (webhook_id, id);
CREATE INDEX delivery_due ON delivery (webhook_id, next_attempt_at, id) WHERE status = 0;
CREATE INDEX delivery_finished ON delivery (finished_at) WHERE finished_at IS NOT NULL;

-- Whose events those of a deleted task are, until every webhook has seen them.
CREATE TABLE deleted_task (
    id           INTEGER PRIMARY KEY,
    workspace_id INTEGER NOT NULL,
    pos          INTEGER NOT NULL     -- of its last event
) STRICT;
