-- How often an agent's session has lately done an operator's work on a task.
CREATE TABLE force_use (
        actor   INTEGER NOT NULL,
        task_id INTEGER NOT NULL,
        since   INTEGER NOT NULL, -- the minute that is counted began
        n       INTEGER NOT NULL,
        PRIMARY KEY (actor, task_id)
) STRICT, WITHOUT ROWID;
