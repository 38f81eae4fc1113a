-- Who should work on a task, and how: blocks of an API body, normalised.
CREATE TABLE execution_profile (
        task_id    INTEGER PRIMARY KEY,
        blocks     TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL
) STRICT;

-- What of it claims ask, so that a run's lane follows from its task alone.
ALTER TABLE task ADD COLUMN claim_rule INTEGER;

-- Channels that its runs may be in, "a,b" in `name`; NULL = any.
ALTER TABLE workspace ADD COLUMN network_channels INTEGER;
