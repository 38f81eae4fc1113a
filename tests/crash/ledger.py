"""The ledger: what the load meant to do and what it was told, one JSON line each.

A request leaves an `invoke` line before it is sent and an `ok`, `fail` or `info` line afterwards:
ok = acknowledged (2xx), fail = refused (4xx, must have had no effect), info = nobody knows.  A line
counts only once it is on disk, so append() returns after fsync; threads share one fsync.
"""

import json
import os
import threading


class Ledger:
    def __init__(self, path):
        self._file = open(path, "ab", buffering=0)
        self._turn = threading.Condition()
        self._lines = []
        self._asked = 0
        self._synced = 0
        self._busy = False

    def append(self, record):
        """Returns when the record is durable."""
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        with self._turn:
            self._lines.append(line)
            self._asked += 1
            mine = self._asked
            while self._synced < mine and self._busy:
                self._turn.wait()
            if self._synced >= mine:
                return
            lines, upto = self._lines, self._asked
            self._lines, self._busy = [], True
        self._file.write(b"".join(lines))
        os.fdatasync(self._file.fileno())
        with self._turn:
            self._synced, self._busy = upto, False
            self._turn.notify_all()


class Notes:
    """Lines that need no fsync of their own: what the stream readers saw."""

    def __init__(self, path):
        self._file = open(path, "ab", buffering=0)

    def append(self, record):
        self._file.write(json.dumps(record, separators=(",", ":")).encode() + b"\n")


def read_lines(path, start=0, end=None):
    """The complete lines between two offsets, parsed; a torn last line is left out."""
    if not os.path.exists(path):
        return []
    with open(path, "rb") as f:
        f.seek(start)
        data = f.read() if end is None else f.read(end - start)
    data = data[: data.rfind(b"\n") + 1]
    return [json.loads(line) for line in data.splitlines()]


class Op:
    """One request: what was asked and how it ended."""

    def __init__(self, invoke):
        self.__dict__.update(invoke=invoke, id=invoke["op"], f=invoke["f"], t0=invoke["t"])
        self.__dict__.update(end="info", t1=None, status=None, code=None, r={})

    def finish(self, line):
        self.end = line["p"]
        self.t1 = line["t"]
        self.status = line.get("status")
        self.code = line.get("code")
        self.r = line.get("r") or {}

    def __getattr__(self, name):
        """Anything else that the invoke line says; None when it does not."""
        return self.__dict__["invoke"].get(name)

    @property
    def ok(self):
        return self.end == "ok"

    @property
    def maybe(self):
        """It may have had its effect."""
        return self.end != "fail"


def read_ops(lines):
    """Operations in the order of their invocation.  One that never ended counts as info."""
    ops = {}
    for line in lines:
        if line["p"] == "invoke":
            ops[line["op"]] = Op(line)
        elif line["op"] in ops:
            ops[line["op"]].finish(line)
    return list(ops.values())
