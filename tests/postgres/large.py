"""A database of many tasks out of one that has a few: each again and again under other numbers."""
import sqlite3

APART = 1000  # ids of the same task


def multiply(path, times, events):
    """Every task with its runs and events `times` over, until each has so many events."""
    db = sqlite3.connect(path, isolation_level=None)

    def insert(table, source, parameters, without=(), **changed):
        columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})") if row[1] not in without]
        db.execute("WITH RECURSIVE again (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM again WHERE i + 1 < :times),"
                   " more (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM more WHERE n < :more)"
                   f" INSERT INTO {table} ({','.join(columns)}) SELECT {','.join(changed.get(c, c) for c in columns)}"
                   f" FROM {source}", {"times": times, "more": 1, **parameters})

    def other(*columns):
        return {name: f"{name} + i * {APART}" for name in columns}

    db.execute("PRAGMA synchronous = OFF")
    db.execute("BEGIN")
    trees = db.execute("SELECT tree_id, max(seq) FROM event WHERE tree_id IN (SELECT id FROM task) GROUP BY tree_id").fetchall()
    insert("task", "task, again WHERE i > 0", {}, title="title || ' № ' || i", **other("id", "tree_id", "last_run_id"))
    insert("run", "run, again WHERE i > 0", {}, **other("id", "task_id", "tree_id"))
    insert("ready", "ready, again WHERE i > 0", {}, **other("run"))
    for tree, last in trees:
        here = {"tree": tree, "more": events - last}
        insert("event", "event, again WHERE tree_id = :tree AND i > 0", here, without=["pos"], **other("tree_id", "run_id"))
        insert("event", "event, again, more WHERE tree_id = :tree AND seq = 1", here, without=["pos"],
               seq=f"{last} + n", payload="""'{"größer": ' || i || n || '}'""", **other("tree_id", "run_id"))
    db.execute("COMMIT")
    counts = {table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("task", "run", "event")}
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    return counts
