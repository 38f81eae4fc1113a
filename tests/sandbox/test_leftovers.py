"""What a server that was killed has left is gone when the next one has started."""
import os
import pathlib
import subprocess

import pytest
from conftest import api_conftest, wait_until


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
        assert not group.exists()
    finally:
        left.kill()
        left.wait()
        server.kill()
