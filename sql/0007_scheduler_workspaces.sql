-- The scheduler's pause, of the whole server, the drains that wait for its last claim to end; workspaces that were deleted.

-- A row iff it is paused.
CREATE TABLE scheduler_pause (
        one           INTEGER PRIMARY KEY DEFAULT 1 CHECK (one = 1),
        paused_by     INTEGER NOT NULL,
        paused_at     INTEGER NOT NULL,
        paused_reason TEXT
) STRICT;

CREATE TABLE drain (
        id               INTEGER PRIMARY KEY,
        started_at       INTEGER NOT NULL,
        due_at           INTEGER NOT NULL,
        completed_at     INTEGER,
        completed        INTEGER NOT NULL,
        timed_out        INTEGER NOT NULL,
        remaining_claims INTEGER NOT NULL
) STRICT;
CREATE INDEX drain_open ON drain (due_at) WHERE completed_at IS NULL;

-- What the backlog and the status count: only rows that are out of the ordinary are in these.
CREATE INDEX run_held ON run (priority DESC, queued_at, id, hold, workspace_id, status)
        WHERE status = 0 AND hold <> 0;
CREATE INDEX run_needs_attention ON run (workspace_id) WHERE attention IS NOT NULL;
CREATE INDEX task_paused ON task (workspace_id) WHERE paused = 1;

-- The row of a deleted workspace stays: its uid is never given to another.
ALTER TABLE workspace ADD COLUMN deleted_at INTEGER;
ALTER TABLE workspace ADD COLUMN purged_at INTEGER; -- no row of it is left
ALTER TABLE workspace ADD COLUMN swept_at INTEGER;  -- nor a file
CREATE INDEX workspace_purge ON workspace (deleted_at) WHERE deleted_at IS NOT NULL AND purged_at IS NULL;
CREATE INDEX workspace_sweep ON workspace (purged_at) WHERE purged_at IS NOT NULL AND swept_at IS NULL;
CREATE INDEX definition_workspace ON definition (workspace_id);
