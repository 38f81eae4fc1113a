"""The nemesis: starts the server, kills it, and holds it."""

import contextlib
import os
import re
import signal
import subprocess
import time

from api import Client, Lost, Server


def _parents():
    """{pid: parent} of every process."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as f:
                    stat = f.read()
            except OSError:
                continue
            found[int(name)] = int(stat.rsplit(")", 1)[1].split()[1])
    return found


def _executable(pid):
    try:
        return os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")
    except OSError:
        return None


class Nemesis:
    def __init__(self, baton, data, log, environment=None, options=()):
        self.baton, self.data, self.log, self.options = os.path.realpath(baton), data, log, options
        self.environment = environment  # of the server; None = our own
        self.process = None
        self.boots = []  # facts for the checker
        self.starts = self.kills = 0
        self.ready_at = 0  # wall clock, microseconds

    def start(self):
        listen = os.path.join(self.data, "listen")
        if os.path.exists(listen):
            os.unlink(listen)
        self.starts += 1
        self.boots.append({"n": self.starts, "ready": 0})
        self._started = time.monotonic()
        with open(self.log, "ab") as log:
            self.log_from = log.tell()
            self.process = subprocess.Popen(
                [self.baton, "serve", "--data", self.data, "--listen", "127.0.0.1:0", *self.options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env=self.environment)

    def expect(self, when):
        """It did not end, and must be ready again from now on."""
        self.look()
        self.boots.append({"n": f"{self.starts} {when}", "ready": 0})
        self._started = time.monotonic()

    def stalls(self):
        """How often this server said that its tick was late: leases stand still for 10 s each time."""
        with open(self.log, "rb") as log:
            log.seek(self.log_from)
            return log.read().count(b"event=tick_late")

    def wait_ready(self, limit=30):
        """True when /readyz answers 200; notes how long it took since start()."""
        boot = self.boots[-1]
        server = Server(self.data)
        client = Client(server, key="none", timeout=2)
        while time.monotonic() - self._started < limit:
            if self.process.poll() is not None:
                boot.update(ready=None, why=f"exited with {self.process.returncode} while starting")
                return False
            try:
                if client.get("/readyz").status == 200:
                    boot["ready"] = round(time.monotonic() - self._started, 4)
                    self.ready_at = time.time_ns() // 1000
                    client.close()
                    return True
            except Lost:
                pass
            time.sleep(0.003)
        boot.update(ready=None, why=f"not ready within {limit} s")
        return False

    def _family(self):
        """The server, its process group and every descendant that is a server process itself."""
        parents = _parents()
        family = {self.process.pid}
        grown = True
        while grown:
            grown = False
            for pid, parent in parents.items():
                if parent in family and pid not in family and _executable(pid) == self.baton:
                    family.add(pid)
                    grown = True
        return family

    def look(self):
        """Notes when the server has ended by itself."""
        if self.process.poll() is not None:
            self.boots[-1]["died"] = f"status {self.process.returncode}"

    def kill(self):
        """kill -9 of the whole server: process group and spawner, wherever that has gone."""
        self.look()
        family = self._family()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for pid in family - {self.process.pid}:
            if _executable(pid) == self.baton:
                with contextlib.suppress(ProcessLookupError):  # it dies with its group, or its parent
                    os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.kills += 1
        listen = os.path.join(self.data, "listen")
        if os.path.exists(listen):
            os.unlink(listen)

    def hold(self):
        self.process.send_signal(signal.SIGSTOP)

    def let_go(self):
        self.process.send_signal(signal.SIGCONT)

    def stop(self, limit=20):
        """The polite end: SIGTERM; True when it obeyed."""
        if not self.process or self.process.poll() is not None:
            return True
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(limit)
            return True
        except subprocess.TimeoutExpired:
            self.kill()
            return False

    def last_words(self):
        """The end of the server's own log, for a report."""
        try:
            with open(self.log, errors="replace") as f:
                lines = f.read().splitlines()
        except OSError:
            return []
        return [line for line in lines if re.search(r"abort|assert|BUG|error|fatal", line, re.I)][-5:]
