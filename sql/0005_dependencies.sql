-- Dependencies: a task waits until its prerequisites are met.  unmet_deps of the waiting task and
-- dependent_count of the prerequisite are kept with them.

CREATE TABLE dependency (
        task_id            INTEGER NOT NULL,
        depends_on_task_id INTEGER NOT NULL,
        on_failure         INTEGER NOT NULL,
        created_at         INTEGER NOT NULL,
        PRIMARY KEY (task_id, depends_on_task_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX dependency_dependents ON dependency (depends_on_task_id, task_id, on_failure);
ALTER TABLE task ADD COLUMN dependent_count INTEGER NOT NULL DEFAULT 0;
