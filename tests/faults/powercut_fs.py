#!/usr/bin/env python3
"""Power cuts of a real file system under the real server.

    BATON=build/baton unshare -m tests/faults/powercut_fs.py --cuts 20 [--seed S]

The server works on a loop-mounted ext4 while a small load writes down what was acknowledged.  At a
random moment the file system is shut down without flushing its journal (FS_IOC_SHUTDOWN), as if the
power had gone; then it is mounted again, the server started, and everything acknowledged must be
there, the database sound and its rows what their events add up to.  Needs root and loop devices,
else it ends with status 77, and a mount namespace of its own, so that nobody else holds the disk.
Ends with `N passed, N failed`, which counts cuts.
"""
import argparse
import fcntl
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "crash")]

import database
from conftest import Client, Server, wait_until
from invariants import CHECKS, World

FS_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2
MODES = ["ordered", "writeback"]
WRITERS = 4
CANNOT = 77
CHECKED = ["I5", "I8", "I27"]


class Unmountable(Exception):
    pass


class Disk:
    """An ext4 in a file, mounted; and what becomes of it when the power goes."""

    def __init__(self, home):
        self.image, self.place = home / "disk.img", home / "disk"
        self.place.mkdir()
        subprocess.run(["truncate", "-s", "128M", self.image], check=True)
        subprocess.run(["mkfs.ext4", "-q", "-F", self.image], check=True)

    def mount(self, mode):
        return subprocess.run(["mount", "-o", f"loop,data={mode}", self.image, self.place],
                              capture_output=True, text=True)

    def cut(self):
        fd = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, FS_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def unmount(self):
        """Until the last process of the dead server, with its own view of mounts, has let go of it."""
        wait_until(lambda: not os.path.ismount(self.place) or
                   subprocess.run(["umount", self.place], capture_output=True).returncode == 0)
        wait_until(lambda: not subprocess.run(["losetup", "-j", self.image], capture_output=True).stdout)


class Writer(threading.Thread):
    """Creates, claims, completes and cancels; remembers what was acknowledged."""

    def __init__(self, client, acknowledged, over):
        super().__init__()
        self.client, self.acknowledged, self.over = client, acknowledged, over

    def ask(self, path, body, what):
        answer = self.client.request("POST", path, body)
        if answer.status_code in (200, 201):
            what(answer.json())
        return answer.status_code in (200, 201)

    def made(self, body):
        self.acknowledged["tasks"][body["task"]["id"]] = body["task"]["title"]

    def claimed(self, body):
        for claim in body["claims"]:
            run, token = claim["run"]["id"], claim["claim_token"]
            self.ask(f"/v1/runs/{run}/complete", {"claim_token": token, "result": run},
                     lambda _: self.acknowledged["completed"].add(run))

    def run(self):
        n = 0
        try:
            while not self.over.is_set():
                n += 1
                going = self.ask("/v1/tasks", {"title": f"{self.name} {n}", "start": True}, self.made)
                if n % 3 == 0:
                    going = self.ask("/v1/runs/claim", {"max": 1}, self.claimed) and going
                if not going:
                    time.sleep(0.01)
        except OSError:  # the server is gone
            pass


def lost(client, acknowledged):
    for task, title in acknowledged["tasks"].items():
        answer = client.request("GET", f"/v1/tasks/{task}")
        if answer.status_code != 200 or answer.json()["title"] != title:
            yield f"I1 {task}: acknowledged, GET answers {answer.status_code}"
    for run in acknowledged["completed"]:
        answer = client.request("GET", f"/v1/runs/{run}")
        if answer.status_code != 200 or answer.json().get("result") != run:
            yield f"I1 {run}: acknowledged as completed, GET answers {answer.status_code}"


def unsound(data, home):
    world = World(snapshot=database.load(database.copy_live(data, str(home / "copy"))))
    for name in CHECKED:
        for thing, text in CHECKS[name](world):
            yield f"{name} {thing}: {text}"


def cut_once(disk, home, dice, mode):
    """What is wrong after one cut, and how much was acknowledged before it."""
    problem = disk.mount(mode)
    if problem.returncode:
        raise Unmountable(problem.stderr.strip())
    server = None
    try:
        (disk.place / "data").mkdir(exist_ok=True)
        server = Server(home / "data", "--concurrency", "0")
        acknowledged, over = {"tasks": {}, "completed": set()}, threading.Event()
        writers = [Writer(Client(server), acknowledged, over) for _ in range(WRITERS)]
        for writer in writers:
            writer.start()
        time.sleep(dice.uniform(0.05, 1.0))
        # With the power gone nobody hears an answer; this kernel lets an fsync that is under way
        # succeed although its part of the journal is thrown away.
        acknowledged = {"tasks": dict(acknowledged["tasks"]), "completed": set(acknowledged["completed"])}
        disk.cut()
        time.sleep(dice.uniform(0, 0.2))
        server.kill()
        over.set()
        for writer in writers:
            writer.join()
        disk.unmount()
        disk.mount(mode)
        server.start()
        client = Client(server)
        found = [*lost(client, acknowledged), *unsound(str(server.data), home)]
        client.task()
        server.stop()
        return found, len(acknowledged["tasks"]) + len(acknowledged["completed"])
    finally:
        if server and server.process.poll() is None:
            server.kill()
        disk.unmount()


def cuts(n, seed):
    """Yields (number, violations, acknowledged) for each cut."""
    home = pathlib.Path(tempfile.mkdtemp(prefix="baton-powercut-"))
    dice = random.Random(seed)
    try:
        disk = Disk(home)
        (home / "data").symlink_to(disk.place / "data")  # the server's log stays outside
        for i in range(n):
            yield i, *cut_once(disk, home, dice, MODES[i % len(MODES)])
    finally:
        shutil.rmtree(home)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1000000)
    args = parser.parse_args()
    passed = failed = total = 0
    try:
        for i, found, acknowledged in cuts(args.cuts, args.seed):
            for text in found[:20]:
                print(f"VIOLATION cut {i} seed={args.seed}: {text}")
            failed += bool(found)
            passed += not found
            total += acknowledged
    except Unmountable as why:
        print(f"this machine mounts no disk of its own: {why}")
        return CANNOT
    print(f"acknowledged: {total}, seed {args.seed}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not total else 0


if __name__ == "__main__":
    sys.exit(main())
