#!/usr/bin/env python3
"""Copies a database of TASKS tasks with ten events each from SQLite to PostgreSQL and back; the digests of all three agree."""
import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE)]
import cluster  # noqa: E402
import large  # noqa: E402

arguments = argparse.ArgumentParser()
arguments.add_argument("--baton", required=True)
arguments.add_argument("--tasks", type=int, default=100000)
arguments = arguments.parse_args()
os.environ["BATON"] = arguments.baton
sys.path[:0] = [str(HERE.parent / "api")]
from conftest import Client, Server  # noqa: E402

TEMPLATES, EVENTS = 5, 10


def copy(*words):
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([arguments.baton, "db", "copy", *words, "-o", "json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{time.monotonic() - began:.1f} s, of it {used.ru_utime - before.ru_utime + used.ru_stime - before.ru_stime:.1f} s"
          " on a processor of its own", flush=True)
    return {table["name"]: (table["rows"], table["digest"]) for table in json.loads(done.stdout)["tables"]}


failed = 0
with tempfile.TemporaryDirectory(prefix="baton-copy-") as home:
    home = pathlib.Path(home)
    server = Server(home / "data", "--concurrency", "0")
    for n in range(TEMPLATES):
        Client(server).started(title=f"tâche {n}")
    server.stop()
    print(large.multiply(home / "data" / "baton.db", arguments.tasks // TEMPLATES, EVENTS), flush=True)
    try:
        url = cluster.cluster().database()
        print("SQLite to PostgreSQL: ", end="", flush=True)
        first = copy("--data", str(home / "data"), "--to", url)
        print("PostgreSQL to SQLite: ", end="", flush=True)
        second = copy("--store", url, "--to", str(home / "back.db"))
        print("SQLite to SQLite: ", end="", flush=True)
        (home / "back").mkdir()
        os.rename(home / "back.db", home / "back" / "baton.db")
        third = copy("--data", str(home / "back"), "--to", str(home / "third.db"))
        different = [name for name in first if not first[name] == second[name] == third[name]]
        failed = len(different)
        print(f"different: {different}")
    finally:
        cluster.finish()
print(f"{3 * len(first) - failed} passed, {failed} failed")
sys.exit(1 if failed else 0)
