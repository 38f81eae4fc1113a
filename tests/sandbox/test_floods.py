"""Output without end and disks that are filled: the server stays small, the disk too, and it answers meanwhile."""
import pathlib
import time

import pytest
from conftest import QUARANTINE_MIB, command, make_world

pytestmark = pytest.mark.usefixtures("the_server_answers")


@pytest.fixture(scope="module")
def world():
    world = make_world("user-bwrap")
    yield world
    world.stop()


def memory_of(world):
    status = pathlib.Path(f"/proc/{world.pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) >> 10


def test_endless_output_is_cut_and_the_server_stays_small(world):
    before = memory_of(world)
    step, = world.perform(command("cat /dev/zero & cat /dev/zero >&2 & yes", timeout_seconds=60))
    assert "256 MiB" in step["error"]["message"]
    assert len(step["output"]["stdout"].encode()) <= 300000 and step["output"]["truncated"]
    assert memory_of(world) - before < 64 + QUARANTINE_MIB


def fill(world, text, quota=3000000):
    """Runs it in a small workspace of its own; the step, and what the workspace holds then, if that can be told."""
    made = world.api.post("/v1/workspaces", {"name": "small", "slug": f"small-{time.monotonic_ns()}", "quota_bytes": quota})
    step, = world.perform(command(text, timeout_seconds=30), workspace=made["id"])
    return step, world.api.request("GET", f"/v1/workspaces/{made['id']}/usage").json()


def test_a_disk_filler_is_stopped(world):
    step, usage = fill(world, "while true; do head -c 1000000 /dev/zero >> f$((i=i+1)); sleep 0.05; done")
    assert step["error"]["kind"] == "policy" and "3000000" in step["error"]["message"]
    assert usage["bytes"] < 100000000
    step, usage = fill(world, "truncate -s 100G sparse")
    assert step["status"] == "failed" and usage["bytes"] <= 3000000


def test_too_many_names_are_stopped(world):
    step, _ = fill(world, "python3 -c 'import os; i = 0\nwhile True: i += 1; os.mkdir(\"d%d\" % i); open(\"e%d\" % i, \"w\").close()'")
    assert step["error"]["kind"] == "policy" and "remove files" in step["error"]["message"]


def test_what_cannot_be_counted_is_stopped(world):
    step, _ = fill(world, "mkdir hidden; head -c 9000000 /dev/zero > hidden/f; chmod 0 hidden; sleep 20")
    assert step["error"]["kind"] == "policy" and "cannot be read" in step["error"]["message"]
