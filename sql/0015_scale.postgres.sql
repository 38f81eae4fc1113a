-- Large stores: lists by what few tasks have, cancels in pieces, and a text search that does not read everything.

-- Only rows that have such a thing are in these: tasks without owner, channel and conversation do not pay for them.
CREATE INDEX task_owner ON task (workspace_id, owner, id) WHERE owner IS NOT NULL;
CREATE INDEX task_channel ON task (workspace_id, network_channel, id) WHERE network_channel IS NOT NULL;
CREATE INDEX task_conversation ON task (workspace_id, source_conversation_id, id)
        WHERE source_conversation_id IS NOT NULL;
CREATE INDEX run_of_session ON run (workspace_id, session_id, id) WHERE session_id IS NOT NULL;

-- Cancels that have not reached every task below the one where they began.  That one is canceled, unless at is 0.
CREATE TABLE cascade (
        task_id  INTEGER PRIMARY KEY,  -- where it began
        at       INTEGER NOT NULL,     -- the task that it has come to, depth first and by id; 0: it waits for its turn
        direct   INTEGER NOT NULL,     -- somebody asked for it; else a prerequisite ended badly
        actor    INTEGER NOT NULL,
        origin   INTEGER NOT NULL,
        detail   TEXT,
        metadata TEXT
) STRICT;

-- The text search: groups of three characters of the titles and identifiers of all tasks up to an id.
CREATE TABLE task_text (
        rowid  INTEGER PRIMARY KEY,
        groups text[] COLLATE "C" NOT NULL
);
CREATE INDEX task_text_groups ON task_text USING gin (groups);
CREATE FUNCTION groups_of_text(text) RETURNS text[] LANGUAGE sql IMMUTABLE AS
        $f$ SELECT coalesce(array_agg(DISTINCT substr($1, at, 3)), '{}') FROM generate_series(1, length($1) - 2) AS at $f$;
-- Of words in the language of FTS5: "abc" "d""e".
CREATE FUNCTION groups_of_words(text) RETURNS text[] LANGUAGE sql IMMUTABLE AS
        $f$ SELECT array_agg(replace(word[1], '""', '"')) FROM regexp_matches($1, '"((?:[^"]|"")+)"', 'g') AS word $f$;
CREATE TABLE searched (
        one  INTEGER PRIMARY KEY DEFAULT 1 CHECK (one = 1),
        upto INTEGER NOT NULL
) STRICT;
INSERT INTO searched (upto) VALUES (0);
