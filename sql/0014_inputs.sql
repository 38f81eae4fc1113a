-- The inbox of a task: what was sent to whoever works on it, in the order of the ids, and who took it.
CREATE TABLE task_input (
        id          INTEGER PRIMARY KEY,
        task_id     INTEGER NOT NULL,
        status      INTEGER NOT NULL,
        name        TEXT,              -- of what waits for it; NULL: of what waits for no name
        sent_by     INTEGER NOT NULL,
        origin      INTEGER NOT NULL,
        sent_at     INTEGER NOT NULL,
        run_id      INTEGER,           -- that took it, at this step
        step_index  INTEGER NOT NULL,
        consumed_at INTEGER,
        message     TEXT,
        data        TEXT
) STRICT;
CREATE INDEX task_input_task ON task_input (task_id, id);
CREATE INDEX task_input_run ON task_input (run_id, step_index) WHERE run_id IS NOT NULL;
