-- Foundation: workspaces, keys, definitions, tasks, runs, steps, events.
--
-- Ids are 63-bit integers ordered by time; times are microseconds UTC (lease_until: lease clock).
-- Columns that hold a recurring text (actor, agent, channel, capability set, workspace UUID) hold
-- its number in the table `name`.  Enumerations hold the numbers of their C enum; both only grow.

CREATE TABLE setting (
        name  TEXT PRIMARY KEY,
        value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE workspace (
        id          INTEGER PRIMARY KEY, -- number of its UUID in `name`
        name        TEXT NOT NULL,
        slug        TEXT NOT NULL UNIQUE,
        uid         INTEGER NOT NULL,    -- of its processes when the server was started as root
        quota_bytes INTEGER NOT NULL,
        created_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE key (
        id           INTEGER PRIMARY KEY,
        digest       BLOB NOT NULL UNIQUE, -- SHA-256 of the secret
        name         TEXT NOT NULL,
        actor        INTEGER NOT NULL,
        session_id   INTEGER,
        agent_name   INTEGER,
        capabilities INTEGER,
        scopes       INTEGER NOT NULL,     -- bits
        workspace_id INTEGER,              -- NULL = all
        created_by   INTEGER NOT NULL,
        created_at   INTEGER NOT NULL,
        expires_at   INTEGER,
        revoked_at   INTEGER
) STRICT;

CREATE TABLE definition (
        id           INTEGER PRIMARY KEY,
        workspace_id INTEGER NOT NULL,
        name         TEXT NOT NULL,
        version      INTEGER NOT NULL,     -- the newest
        description  TEXT,
        created_by   INTEGER NOT NULL,
        created_at   INTEGER NOT NULL,
        updated_at   INTEGER NOT NULL,
        archived_at  INTEGER
) STRICT;
CREATE UNIQUE INDEX definition_name ON definition (workspace_id, name) WHERE archived_at IS NULL;

CREATE TABLE definition_version (
        definition_id INTEGER NOT NULL,
        version       INTEGER NOT NULL,
        document      TEXT NOT NULL,       -- normalised JSON
        created_by    INTEGER NOT NULL,
        created_at    INTEGER NOT NULL,
        PRIMARY KEY (definition_id, version)
) STRICT, WITHOUT ROWID;

-- Which definition names which other one: for the check against cycles.
CREATE TABLE definition_reference (
        definition_id INTEGER NOT NULL,
        reference     INTEGER NOT NULL,    -- definition id
        PRIMARY KEY (definition_id, reference)
) STRICT, WITHOUT ROWID;

-- The last event number of each tree of tasks.
CREATE TABLE tree (
        id  INTEGER PRIMARY KEY,           -- of the root task
        seq INTEGER NOT NULL
) STRICT;

CREATE TABLE task (
        id                     INTEGER PRIMARY KEY,
        tree_id                INTEGER NOT NULL,
        workspace_id           INTEGER NOT NULL,
        parent_task_id         INTEGER,
        depth                  INTEGER NOT NULL,
        scope                  INTEGER NOT NULL,
        identifier             TEXT,
        title                  TEXT NOT NULL,
        description            TEXT,
        priority               INTEGER NOT NULL,
        status                 INTEGER NOT NULL,
        max_attempts           INTEGER NOT NULL,
        attempts               INTEGER NOT NULL, -- highest attempt of its root runs
        retry                  TEXT,
        timeout_seconds        INTEGER NOT NULL, -- 0 = none
        auto_enqueue_on_ready  INTEGER NOT NULL,
        approval_policy        INTEGER NOT NULL,
        approval_state         INTEGER NOT NULL,
        review_policy          INTEGER NOT NULL,
        review_round           INTEGER NOT NULL,
        last_review_id         INTEGER,
        review_circuit_at      INTEGER,
        owner                  INTEGER,
        network_channel        INTEGER,
        definition_id          INTEGER,
        definition_version     INTEGER NOT NULL,
        required_capabilities  INTEGER,
        preferred_capabilities INTEGER,
        current_run_id         INTEGER,
        last_run_id            INTEGER,          -- newest root run
        last_run_status        INTEGER NOT NULL, -- its status
        unmet_deps             INTEGER NOT NULL,
        dependency_count       INTEGER NOT NULL,
        child_count            INTEGER NOT NULL,
        paused                 INTEGER NOT NULL,
        paused_n               INTEGER NOT NULL, -- pauses on itself and its ancestors
        paused_by              INTEGER,
        paused_at              INTEGER,
        paused_reason          TEXT,
        attention              TEXT,
        source_session_id      TEXT,
        source_conversation_id TEXT,
        source_message_id      TEXT,
        conversation_context   TEXT,
        created_by             INTEGER NOT NULL,
        origin                 INTEGER NOT NULL,
        created_at             INTEGER NOT NULL,
        updated_at             INTEGER NOT NULL,
        closed_at              INTEGER,
        archived_at            INTEGER,
        metadata               TEXT,
        input                  TEXT
) STRICT;
CREATE INDEX task_status ON task (workspace_id, status, id);
CREATE INDEX task_priority ON task (workspace_id, priority, id);
CREATE INDEX task_parent ON task (parent_task_id, id) WHERE parent_task_id IS NOT NULL;
CREATE INDEX task_definition ON task (definition_id, id) WHERE definition_id IS NOT NULL;

CREATE TABLE run (
        id                      INTEGER PRIMARY KEY,
        task_id                 INTEGER NOT NULL,
        tree_id                 INTEGER NOT NULL,
        workspace_id            INTEGER NOT NULL,
        definition_id           INTEGER,
        definition_version      INTEGER NOT NULL,
        kind                    INTEGER NOT NULL,
        status                  INTEGER NOT NULL,
        executor                INTEGER NOT NULL,
        attempt                 INTEGER NOT NULL,
        epoch                   INTEGER NOT NULL,
        revision                INTEGER NOT NULL, -- of its recorded steps
        current_step            INTEGER NOT NULL,
        priority                INTEGER NOT NULL,
        previous_run_id         INTEGER,
        parent_run_id           INTEGER,
        parent_step_index       INTEGER NOT NULL,
        branch_index            INTEGER NOT NULL,
        branch_name             TEXT,
        path                    TEXT,             -- of an inline branch within its definition
        locals                  TEXT,
        nesting                 INTEGER NOT NULL,
        failure_kind            INTEGER NOT NULL,
        error                   TEXT,
        claimed_by              INTEGER,
        session_id              INTEGER,
        claim_token_hash        BLOB,
        token_nonce             BLOB,
        lease_until             INTEGER,          -- lease clock
        lease_us                INTEGER NOT NULL,
        heartbeat_at            INTEGER,
        cancel_requested        INTEGER NOT NULL,
        recoveries              INTEGER NOT NULL,
        origin                  INTEGER NOT NULL,
        idempotency_key         TEXT,
        network_channel         INTEGER,
        coordination_channel_id INTEGER,
        required_capabilities   INTEGER,
        preferred_capabilities  INTEGER,
        lane                    INTEGER NOT NULL,
        hold                    INTEGER NOT NULL,
        review                  TEXT,
        attention               TEXT,
        queued_at               INTEGER NOT NULL,
        claimed_at              INTEGER,
        started_at              INTEGER,
        ended_at                INTEGER,
        due_at                  INTEGER,
        wake_at                 INTEGER,
        input_tokens            INTEGER NOT NULL,
        output_tokens           INTEGER NOT NULL,
        cost_microusd           INTEGER NOT NULL,
        steps                   INTEGER NOT NULL,
        tool_calls              INTEGER NOT NULL,
        metadata                TEXT,
        input                   TEXT,
        result                  TEXT
) STRICT;
CREATE INDEX run_task ON run (task_id, id);
CREATE INDEX run_open ON run (workspace_id, id) WHERE ended_at IS NULL;
CREATE INDEX run_parent ON run (parent_run_id, parent_step_index, branch_index)
        WHERE parent_run_id IS NOT NULL;
CREATE INDEX run_lease ON run (lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX run_session ON run (session_id) WHERE session_id IS NOT NULL AND lease_until IS NOT NULL;
CREATE INDEX run_due ON run (due_at) WHERE due_at IS NOT NULL AND ended_at IS NULL;
CREATE INDEX run_wake ON run (wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX run_definition ON run (definition_id, id) WHERE definition_id IS NOT NULL AND kind = 0;

-- Who may take a run, as one signature.
CREATE TABLE lane (
        id           INTEGER PRIMARY KEY,
        workspace_id INTEGER NOT NULL,
        executor     INTEGER NOT NULL,
        channel      INTEGER NOT NULL, -- 0 = none
        priority     INTEGER NOT NULL,
        required     INTEGER NOT NULL, -- 0 = none
        preferred    INTEGER NOT NULL,
        owner        INTEGER NOT NULL,
        agent        INTEGER NOT NULL,
        UNIQUE (workspace_id, executor, channel, priority, required, preferred, owner, agent)
) STRICT;

-- A row iff the run is queued and nothing holds it.
CREATE TABLE ready (
        lane      INTEGER NOT NULL,
        queued_at INTEGER NOT NULL,
        run       INTEGER NOT NULL,
        PRIMARY KEY (lane, queued_at, run)
) STRICT, WITHOUT ROWID;

CREATE TABLE step (
        run_id         INTEGER NOT NULL,
        step_index     INTEGER NOT NULL,
        status         INTEGER NOT NULL,
        attempt        INTEGER NOT NULL,
        input          TEXT,
        output         TEXT,
        error          TEXT,
        approval_id    INTEGER,
        sandbox        TEXT,
        started_at     INTEGER,
        ended_at       INTEGER,
        PRIMARY KEY (run_id, step_index)
) STRICT, WITHOUT ROWID;

-- One for each step that waits for children.
CREATE TABLE join_point (
        run_id          INTEGER NOT NULL,
        step_index      INTEGER NOT NULL,
        any_one         INTEGER NOT NULL,
        fail_fast       INTEGER NOT NULL,
        total           INTEGER NOT NULL,
        pending         INTEGER NOT NULL,
        completed       INTEGER NOT NULL,
        failed          INTEGER NOT NULL,
        max_concurrency INTEGER NOT NULL, -- 0 = all at once
        PRIMARY KEY (run_id, step_index)
) STRICT, WITHOUT ROWID;

CREATE TABLE event (
        pos     INTEGER PRIMARY KEY,
        tree_id INTEGER NOT NULL,
        seq     INTEGER NOT NULL,
        task_id INTEGER,                  -- NULL = the root task
        run_id  INTEGER,
        type    INTEGER NOT NULL,
        actor   INTEGER NOT NULL,
        origin  INTEGER NOT NULL,
        at      INTEGER NOT NULL,
        payload TEXT
) STRICT;
CREATE UNIQUE INDEX event_tree ON event (tree_id, seq);

CREATE TABLE approval (
        id               INTEGER PRIMARY KEY,
        workspace_id     INTEGER NOT NULL,
        task_id          INTEGER NOT NULL,
        run_id           INTEGER,
        step_index       INTEGER NOT NULL,
        status           INTEGER NOT NULL,
        risk_level       INTEGER NOT NULL,
        permission_type  TEXT,
        summary          TEXT NOT NULL,
        arguments_digest TEXT,
        requested_by     INTEGER NOT NULL,
        decided_by       INTEGER,
        decision_source  TEXT,
        comment          TEXT,
        expires_at       INTEGER,
        created_at       INTEGER NOT NULL,
        decided_at       INTEGER
) STRICT;
CREATE INDEX approval_run ON approval (run_id, step_index);
CREATE INDEX approval_open ON approval (workspace_id, id) WHERE status = 0;
CREATE INDEX approval_expiry ON approval (expires_at) WHERE status = 0;

CREATE TABLE idempotency (
        workspace_id INTEGER NOT NULL,
        principal    INTEGER NOT NULL,    -- actor of the key
        operation    TEXT NOT NULL,
        key          TEXT NOT NULL,
        digest       BLOB NOT NULL,       -- of the request
        status       INTEGER NOT NULL,
        response     TEXT NOT NULL,
        created_at   INTEGER NOT NULL,
        PRIMARY KEY (workspace_id, principal, operation, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_age ON idempotency (created_at);

-- The command output of runs, in order: what a follower reads.
CREATE TABLE log_line (
        run_id     INTEGER NOT NULL,
        position   INTEGER NOT NULL,      -- bytes of text before this piece
        step_index INTEGER NOT NULL,
        stream     INTEGER NOT NULL,      -- 1 or 2
        at         INTEGER NOT NULL,
        text       TEXT NOT NULL,
        PRIMARY KEY (run_id, position)
) STRICT, WITHOUT ROWID;
