"""A Redis of the tests' own, on a free port of the loopback."""
import json
import socket
import subprocess
import tempfile
import threading
import time


def _free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Redis:
    def __init__(self, *options):
        self.port, self.options = _free_port(), options
        self.home = tempfile.TemporaryDirectory(prefix="baton-redis-")
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self):
        """As a child that dies with this process."""
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig=KILL", "redis-server", "--port", str(self.port), "--bind", "127.0.0.1",
             "--dir", self.home.name, "--save", "", *self.options],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                assert time.monotonic() < deadline and self.process.poll() is None
                time.sleep(0.02)

    def stop(self):
        self.process.kill()
        self.process.wait()

    def remove(self):
        self.stop()
        self.home.cleanup()

    def command(self, *words):
        """The answer as redis-cli shows it: a line for each element, none for nothing."""
        done = subprocess.run(["redis-cli", "-p", str(self.port), *map(str, words)], check=True, capture_output=True,
                              text=True, timeout=20)
        return [line for line in done.stdout.splitlines() if line]

    def hash(self, key):
        lines = self.command("HGETALL", key)
        return dict(zip(lines[::2], lines[1::2]))


class Listener:
    """What comes on the channels of a pattern, as (channel, value)."""

    def __init__(self, redis, pattern):
        self.process = subprocess.Popen(["redis-cli", "-p", str(redis.port), "PSUBSCRIBE", pattern],
                                        stdout=subprocess.PIPE, text=True)
        for _ in range(3):
            self.process.stdout.readline()
        self.heard = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        lines = iter(self.process.stdout.readline, "")
        for _ in lines:  # "pmessage"
            next(lines)
            channel, text = next(lines).strip(), next(lines).strip()
            self.heard.append((channel, json.loads(text) if text.startswith("{") else text))

    def stop(self):
        self.process.kill()
        self.process.wait()
