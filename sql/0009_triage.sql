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

-- The lanes of the inbox; a task is in an index only while it is in that lane, or may be.
CREATE INDEX task_awaiting ON task (workspace_id, id) WHERE status = 2 AND approval_state = 1;
CREATE INDEX task_failing ON task (workspace_id, id)
        WHERE status IN (2, 3, 6) AND last_run_status IN (10, 12);
CREATE INDEX task_owned ON task (workspace_id, owner, id) WHERE owner IS NOT NULL AND closed_at IS NULL;
