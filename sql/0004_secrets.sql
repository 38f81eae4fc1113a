-- Secrets of a workspace, sealed under the server's secret.key: each row with a nonce of its own, the workspace and the
-- name authenticated with the value.
-- min_compatible: 1

CREATE TABLE secret (
    workspace_id INTEGER NOT NULL,
    name         TEXT NOT NULL,
    nonce        BLOB NOT NULL,
    sealed       BLOB NOT NULL,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    PRIMARY KEY (workspace_id, name)
) STRICT, WITHOUT ROWID;
