"""What a server that was killed has left is gone when the next one has started."""
import os
import pathlib
import subprocess

import pytest
from conftest import BATON, Client, api_conftest, command, perform, wait_until


def writable_group():
    """Our own group in a hierarchy in which the server may make groups, or None."""
    root = pathlib.Path("/sys/fs/cgroup")
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if names in ("pids", "memory") and os.access(root / names / path.strip("/"), os.W_OK):
            return root / names / path.strip("/")
    return None


def test_a_process_in_the_group_of_a_spawner_that_was_killed_ends(tmp_path):
    parent = writable_group()
    if not parent:
        pytest.skip("no control group can be made here")
    dead = subprocess.Popen(["true"])
    dead.wait()
    group = parent / f"baton-{dead.pid}-1"
    group.mkdir()
    left = subprocess.Popen(["sleep", "600"])
    (group / "cgroup.procs").write_text(str(left.pid))
    server = api_conftest.Server(tmp_path / "data")
    try:
        wait_until(lambda: left.poll() is not None)
        wait_until(lambda: not group.exists())
    finally:
        left.kill()
        left.wait()
        server.kill()


@pytest.fixture
def groups():
    """A group of our own in each hierarchy that bounds something: no other server of this machine looks into these."""
    made = []
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        place = pathlib.Path("/sys/fs/cgroup", names, path.strip("/"))
        if {"pids", "memory", "cpu"} & set(names.split(",")) and os.access(place, os.W_OK):
            made.append(place / f"test-{os.getpid()}")
            made[-1].mkdir()
    if not made:
        pytest.skip("no control group can be made here")
    yield made
    for group in made:
        wait_until(lambda: not any(path.read_text() for path in group.rglob("cgroup.procs")))
        for left in (*group.glob("baton-*"), group):
            left.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_spawner_with_the_number_of_the_one_that_was_killed_makes_its_groups(tmp_path, groups):
    """As in a container, where every start gives the same numbers."""
    enter = "for group; do shift; [ \"$group\" != -- ] || break; echo 0 >\"$group/cgroup.procs\"; done; exec \"$@\""
    server = api_conftest.Server(tmp_path / "data", program=(
        "sh", "-c", enter, "sh", *groups, "--", "unshare", "--pid", "--fork", "--mount-proc", "--kill-child", BATON))
    left = wait_until(lambda: list(groups[0].glob("baton-*-1")))
    server.kill()
    for group in groups:
        (group / (left[0].name.removesuffix("1") + "probe")).mkdir()
    server.start()
    try:
        step, = perform(Client(server), command("true"))
        assert "cgroup" in (step["sandbox"]["processes"], step["sandbox"]["memory"]), step["sandbox"]
    finally:
        server.kill()
