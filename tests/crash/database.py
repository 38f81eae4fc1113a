"""A copy of the server's database, read as plain rows.

After a kill the files are copied as they lie there, so that the server recovers from the originals;
beside a running server the copy is made through SQLite's backup interface.  A PostgreSQL database needs
no copy: its URL stands for it, and is read in one snapshot.  Numbers of enumerations and the text form of
ids are written down here once more: nothing is taken from the server's source.
"""

import contextlib
import hashlib
import os
import shutil
import sqlite3
import struct

RUN_STATUS = (
    "queued claimed starting running awaiting_approval awaiting_input awaiting_subtask"
    " awaiting_parallel sleeping completed failed canceled timed_out"
).split()
TASK_STATUS = "draft pending blocked ready in_progress completed failed canceled in_review".split()
STEP_STATUS = "pending running waiting completed failed skipped".split()
RUN_KIND = "root branch subtask".split()
APPROVAL_STATUS = "pending approved denied expired canceled".split()
INPUT_STATUS = "pending consumed canceled".split()
REVIEW_STATUS = "requested in_review recorded canceled".split()
VERDICT = "none approved rejected blocked error timeout invalid_output".split()
EVENT_TYPE = {
    1: "task.created",
    2: "task.updated",
    3: "task.canceled",
    4: "task.status_changed",
    5: "task.published",
    6: "task.approved",
    7: "task.rejected",
    8: "task.paused",
    9: "task.resumed",
    10: "run.queued",
    11: "run.claimed",
    12: "run.starting",
    13: "run.started",
    14: "run.step_started",
    15: "run.step_completed",
    16: "run.step_failed",
    17: "run.output",
    18: "run.checkpoint_saved",
    19: "run.awaiting_approval",
    20: "run.approval_resolved",
    21: "run.awaiting_subtask",
    22: "run.awaiting_parallel",
    23: "run.sleeping",
    24: "run.resumed",
    25: "run.lease_expired",
    26: "run.released",
    27: "run.recovered",
    28: "run.completed",
    29: "run.failed",
    30: "run.canceled",
    31: "run.timed_out",
    32: "run.decision",
    33: "run.operator_retry",
    34: "run.operator_forced_fail",
    35: "run.session_bound",
    36: "run.starved",
    37: "run.stuck",
    40: "task.child_created",
    41: "task.dependency_added",
    42: "task.dependency_removed",
    43: "task.dependency_failed",
    44: "task.deleted",
    60: "scheduler.paused",
    61: "scheduler.resumed",
    62: "scheduler.drain_started",
    63: "scheduler.drain_completed",
    90: "run.review_requested",
    91: "run.review_bound",
    92: "run.review_recorded",
    100: "task.execution_profile_updated",
    101: "task.execution_profile_deleted",
    102: "run.rejected",
    105: "task.input_received",
    106: "run.awaiting_input",
    107: "run.input_consumed",
}
AUDIT_ACTION = {
    6: "approval.approved",
    7: "approval.denied",
    8: "approval.expired",
    9: "task.approved",
    10: "task.rejected",
    12: "task.paused",
    13: "task.resumed",
    14: "task.deleted",
    40: "review.recorded",
    45: "task.execution_profile_updated",
    46: "task.execution_profile_deleted",
}
HOLD_BACKOFF = 4

DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
TABLES = "task run step event ready idempotency approval task_input join_point dependency audit review".split()
# What a refused or repeated request must not change.
STATE_TABLES = TABLES + ["definition", "definition_version", "key", "workspace"]


def wire_id(prefix, number):
    digits = "".join(DIGITS[number >> shift & 31] for shift in range(60, -1, -5))
    return f"{prefix}_{digits}"


def id_number(text):
    number = 0
    for digit in text.split("_", 1)[1]:
        number = number << 5 | DIGITS.index(digit)
    return number


def copy_files(data, target):
    """The files of a server that is dead."""
    shutil.rmtree(target, ignore_errors=True)
    os.makedirs(target)
    for name in os.listdir(data):
        if name.startswith("baton.db") and not name.endswith("-shm"):
            shutil.copy(os.path.join(data, name), target)
    return os.path.join(target, "baton.db")


def is_url(place):
    return str(place).startswith("postgres://")


def copy_live(data, target):
    """A snapshot beside a running server."""
    if is_url(data):
        return data
    shutil.rmtree(target, ignore_errors=True)
    os.makedirs(target)
    path = os.path.join(target, "baton.db")
    source = sqlite3.connect(f"file:{data}/baton.db?mode=ro", uri=True)
    copy = sqlite3.connect(path)
    with copy:
        source.backup(copy)
    copy.close()
    source.close()
    return path


@contextlib.contextmanager
def opened(place):
    """select(text) gives (columns, rows) of a file, or of one snapshot of a PostgreSQL database."""
    if is_url(place):
        import psycopg2
        db = psycopg2.connect(place)
        db.set_session(isolation_level="REPEATABLE READ", readonly=True)
        cursor = db.cursor()
    else:
        db = sqlite3.connect(place)
        cursor = db.cursor()

    def select(text):
        cursor.execute(text)
        rows = [tuple(bytes(v) if isinstance(v, memoryview) else v for v in row) for row in cursor.fetchall()]
        return [column[0] for column in cursor.description], rows

    try:
        yield select
    finally:
        db.close()


class Snapshot:
    """Rows as dictionaries, with enumerations and event types by name."""

    def __init__(self, **tables):
        for name in TABLES:
            setattr(self, name, tables.get(name, []))
        self.soundness = tables.get("soundness", [])
        self.lease_clock = tables.get("lease_clock", 0)
        self.runs = {r["id"]: r for r in self.run}
        self.tasks = {t["id"]: t for t in self.task}
        self.events_of_run, self.events_of_tree, self.runs_of_task, self.children = {}, {}, {}, {}
        for e in sorted(self.event, key=lambda e: (e["tree_id"], e["seq"])):
            self.events_of_tree.setdefault(e["tree_id"], []).append(e)
            if e["run_id"]:
                self.events_of_run.setdefault(e["run_id"], []).append(e)
        for r in sorted(self.run, key=lambda r: r["id"]):
            self.runs_of_task.setdefault(r["task_id"], []).append(r)
            if r["parent_run_id"]:
                self.children.setdefault(r["parent_run_id"], []).append(r)


def _name(names, number):
    try:
        return names[number]
    except (IndexError, KeyError):
        return f"?{number}"


# of the trees of all indexes: their order, and that they have every row of their tables
INDEXES = """SELECT bt_index_check(i.indexrelid, true) FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
             JOIN pg_am AS a ON a.oid = c.relam WHERE a.amname = 'btree' AND c.relpersistence = 'p'"""
HEAPS = """SELECT c.relname, v.blkno, v.msg FROM pg_class AS c, LATERAL verify_heapam(c.oid) AS v
           WHERE c.relkind = 'r' AND c.relpersistence = 'p'"""


def _soundness(place, select):
    if is_url(place):
        select(INDEXES)  # fails where it finds something
        return [f"{table}, block {block}: {said}" for table, block, said in select(HEAPS)[1]]
    found = []
    for pragma in "integrity_check", "foreign_key_check", "quick_check":
        for row in select(f"PRAGMA {pragma}")[1]:
            if row[0] != "ok":
                found.append(f"{pragma}: {row}")
    return found


def load(place):
    try:
        with opened(place) as select:
            soundness = _soundness(place, select)
            tables = {}
            for table in TABLES:
                columns, rows = select(f"SELECT * FROM {table}")
                tables[table] = [dict(zip(columns, row)) for row in rows]
            rows = select("SELECT value FROM setting WHERE name = 'lease_clock'")[1]
            clock = struct.unpack("<q", rows[0][0])[0] if rows else 0
    except Exception as e:  # of either library
        return Snapshot(soundness=[f"unreadable: {e}"])
    for row in tables["run"]:
        row["status"] = _name(RUN_STATUS, row["status"])
        row["kind"] = _name(RUN_KIND, row["kind"])
    for row in tables["task"]:
        row["status"] = _name(TASK_STATUS, row["status"])
    for row in tables["step"]:
        row["status"] = _name(STEP_STATUS, row["status"])
    for row in tables["approval"]:
        row["status"] = _name(APPROVAL_STATUS, row["status"])
    for row in tables["task_input"]:
        row["status"] = _name(INPUT_STATUS, row["status"])
    for row in tables["review"]:
        row["status"] = _name(REVIEW_STATUS, row["status"])
        row["outcome"] = _name(VERDICT, row["outcome"])
    for row in tables["event"]:
        row["type"] = _name(EVENT_TYPE, row["type"])
    for row in tables["audit"]:
        row["action"] = _name(AUDIT_ACTION, row["action"])
    return Snapshot(soundness=soundness, lease_clock=clock, **tables)


def digest(place):
    """One number over all rows that a request may change; the order of rows does not matter."""
    total = 0
    with opened(place) as select:
        for table in STATE_TABLES:
            columns, rows = select(f"SELECT * FROM {table}")
            # when a session is next looked for, for a review, is the server's own business
            kept = [i for i, column in enumerate(columns) if column != "route_at"]
            for row in rows:
                row = tuple(row[i] for i in kept)
                one = hashlib.sha256(repr((table, row)).encode()).digest()
                total += int.from_bytes(one[:16], "big")
    return f"{total % (1 << 128):032x}"
