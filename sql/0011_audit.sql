-- The audit log: a row for each change of who may do what.  Each carries the hash of the one before it; the newest hash
-- is the setting `audit_head` too, so that rows cut off the end are missed.
-- min_compatible: 1

CREATE TABLE audit (
        id           INTEGER PRIMARY KEY,
        at           INTEGER NOT NULL,
        actor        INTEGER NOT NULL,
        key_id       INTEGER,          -- NULL: the local socket, or the server itself
        origin       INTEGER NOT NULL,
        action       INTEGER NOT NULL,
        resource     TEXT NOT NULL,    -- an id, or a secret's name
        workspace_id INTEGER,          -- NULL: of none
        detail       TEXT,
        before       TEXT,             -- SHA-256 of the record before and after, in hex; NULL: it was not there
        after        TEXT,
        previous     TEXT NOT NULL,
        hash         TEXT NOT NULL
) STRICT;
CREATE INDEX audit_workspace ON audit (workspace_id, id);
CREATE INDEX audit_resource ON audit (resource, id);

-- Trees that have ended so long ago are deleted; 0: never.
ALTER TABLE workspace ADD COLUMN retention_seconds INTEGER NOT NULL DEFAULT 0;

-- Trees that somebody deleted: their events are still there.
CREATE TABLE deleted_tree (
        workspace_id INTEGER NOT NULL,
        tree_id      INTEGER NOT NULL,
        at           INTEGER NOT NULL,
        PRIMARY KEY (workspace_id, tree_id)
) STRICT, WITHOUT ROWID;
