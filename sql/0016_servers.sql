-- Servers that use one database.  A server with a file of its own has no row here.
CREATE TABLE server (
        number     INTEGER PRIMARY KEY,  -- 0..1023: part of the ids it makes and of its worker's name
        place      TEXT NOT NULL UNIQUE, -- of its data directory
        host       TEXT NOT NULL,
        started_at INTEGER NOT NULL,
        seen_at    INTEGER NOT NULL      -- by the lease clock
) STRICT;
