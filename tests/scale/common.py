"""What the runners of this folder share."""
import json
import pathlib
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).parents[2]
sys.path.append(str(ROOT / "bench"))
from run import Server, growth, load  # noqa: E402, F401

TASKS = 50
MANY = "1000000"


def tool(baton, name):
    return baton.parent / "tests" / "scale" / name


def bench_tools(baton):
    return baton.parent / "bench"


def flood(baton, server, path, body=None, **options):
    """One run of the open-loop generator, not yet waited for."""
    command = [tool(baton, "flood"), "-p", str(server.port), "-k", server.key, "-u", path]
    if body is not None:
        command += ["-b", json.dumps(body)]
    for name, value in options.items():
        command += ["-" + name[0], str(value)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def steady(baton, server, path, body, seconds, rate, patience=10):
    """Clients with patience and with connections for all that may wait at once: a disk that stalls for a while is no error."""
    return flood(baton, server, path, body, seconds=seconds, rate=rate, wait=patience, connections=rate * patience)


def result(process, seconds):
    out, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0, process.returncode
    return json.loads(out)


class Pace(threading.Thread):
    """Calls `work` at a rate, from a thread, for a `with`."""

    def __init__(self, work, rate):
        super().__init__(daemon=True)
        self.work, self.rate, self.stopped, self.error = work, rate, threading.Event(), None

    def run(self):
        began, n = time.monotonic(), 0
        try:
            while not self.stopped.wait(max(0, began + n / self.rate - time.monotonic())):
                self.work(n)
                n += 1
        except Exception as error:  # told at the end
            self.error = error

    def __enter__(self):
        self.start()

    def __exit__(self, *_):
        self.stopped.set()
        self.join()
        if self.error:
            raise self.error


def judge(rows):
    """Prints (name, value, bound) and says how many were missed."""
    missed = 0
    for name, value, ok, bound in rows:
        missed += not ok
        print(f"{name:34} {value:>12} {bound:>12}  {'' if ok else 'MISSED'}", flush=True)
    return missed
