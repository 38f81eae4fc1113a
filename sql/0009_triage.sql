-- What each actor has seen of a task: everything up to the event `seen` of its tree.
CREATE TABLE triage (
        task_id      INTEGER NOT NULL,
        actor        INTEGER NOT NULL,
        workspace_id INTEGER NOT NULL, -- of the task
        archived     INTEGER NOT NULL,
        dismissed    INTEGER NOT NULL,
        seen         INTEGER NOT NULL,
        seen_at      INTEGER NOT NULL, -- when the last thing happened that it has seen
        PRIMARY KEY (task_id, actor)
) STRICT, WITHOUT ROWID;
CREATE INDEX triage_archived ON triage (actor, workspace_id, task_id) WHERE archived = 1;

-- Events of root tasks have no task_id: trees of one task, which are most, do not pay for this index.
CREATE INDEX event_task ON event (task_id, seq) WHERE task_id IS NOT NULL;

-- The lanes of the inbox, newest first; a row is in an index only while it is in that lane, or may be.  The
-- conditions on tasks are evaluated whenever a status is written: IN would make a table of its list each time.
CREATE INDEX approval_open_task ON approval (workspace_id, task_id) WHERE status = 0 AND run_id IS NULL;
CREATE INDEX task_failing ON task (workspace_id, id)
        WHERE (last_run_status = 10 OR last_run_status = 12) AND status <> 7;
CREATE INDEX task_owned ON task (workspace_id, owner, id) WHERE owner IS NOT NULL AND closed_at IS NULL;
