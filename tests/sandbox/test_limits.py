"""Commands that take all processes and memory they can get: each stays inside its limit and is told so, all of it dies,
and the server answers meanwhile."""
import os
import time

import pytest
from conftest import SLOW, command, command_line, make_world, output, python

pytestmark = pytest.mark.usefixtures("the_server_answers")
MEMORY, PROCESSES = 96, 60


@pytest.fixture(scope="module", params=["root-bwrap", "root-landlock", "user-bwrap", "user-landlock-bare"])
def world(request):
    world = make_world(request.param, "--command-memory", str(MEMORY), "--command-processes", str(PROCESSES), "--command-cpus", "1")
    world.mark = "%d.%d" % (time.monotonic_ns() % 10 ** 9 + 10 ** 9, world.pid)
    yield world
    world.stop()


def alive(mark):
    return [line for line in map(command_line, filter(str.isdigit, os.listdir("/proc"))) if mark in line and "serve" not in line]


def keeper(step, limit):
    return step["sandbox"][limit]


def test_a_fork_bomb_is_bounded_and_dies(world):
    """Every process forks without end and sleeps through a mark; the whole bomb dies with the timeout."""
    began = time.monotonic()
    step, = world.perform(python(
        f"import os, time\nmark = '{world.mark}'\nwhile True:\n  try: os.fork()\n  except OSError: time.sleep(0.01)",
        timeout_seconds=2))
    assert step["error"]["kind"] == "timed_out", step
    assert time.monotonic() - began < 4 * SLOW
    assert alive(world.mark) == []


def test_processes_are_counted(world):
    step, = world.perform(python(
        "import os, time\nn = 0\ntry:\n  while n < 5000:\n    if os.fork() == 0: time.sleep(60)\n    n += 1\n"
        "except OSError as e: print(n, e.strerror)\nraise SystemExit(5)"))
    n, why = step["output"]["stdout"].strip().split(" ", 1)
    # With neither a group nor a namespace, other processes of the user make room.
    most = PROCESSES if world.view in ("bwrap", "landlock") else PROCESSES + 500
    assert PROCESSES // 2 <= int(n) <= most and why == "Resource temporarily unavailable"
    if keeper(step, "processes") == "cgroup":
        assert f"limit of {PROCESSES} processes" in step["error"]["message"]


def test_threads_are_counted_too(world):
    step, = world.perform(python(
        "import threading\nover = threading.Event()\nn = 0\ntry:\n  while n < 5000:\n    threading.Thread(target=over.wait, daemon=True).start()\n"
        "    n += 1\nexcept RuntimeError: print(n)"))
    assert int(step["output"]["stdout"]) <= PROCESSES + (0 if world.view in ("bwrap", "landlock") else 500)


def test_memory_is_bounded_and_the_limit_is_named(world):
    """One that takes it, one whose child takes it, and one that takes it as files of its own /tmp."""
    hog = "b = bytearray(1 << 20)\nkept = []\nwhile len(kept) < 600: kept.append(bytes(b) + b'x')\nprint('took all')"
    child = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {hog!r}])\nprint('went on')"
    one, other = world.perform(python(hog), python(child))
    assert "took all" not in one["output"]["stdout"] + other["output"]["stdout"]
    if keeper(one, "memory") == "cgroup":
        for step in (one, other):
            assert step["error"]["message"] == f"it was killed: out of memory, its limit is {MEMORY} MiB", step
    else:
        assert keeper(one, "memory") == "rlimit" and "MemoryError" in one["output"]["stderr"]


def test_daemons_do_not_outlive_their_command(world):
    """Own sessions, ignored signals, orphans, closed output; after a good end, and after a timeout."""
    leave = (f"trap '' TERM HUP INT; setsid sleep {world.mark} & (setsid sh -c 'trap \"\" TERM; sleep {world.mark} >/dev/null 2>&1' &); "
             f"nohup sleep {world.mark} >/dev/null 2>&1 & ")
    good, late = world.perform(command(leave + "sleep 0.2; echo done"), command(leave + f"sleep {world.mark}", timeout_seconds=1))
    assert good["output"]["stdout"] == "done\n" and good["status"] == "completed"
    assert late["error"]["kind"] == "timed_out"
    assert alive(world.mark) == []


def test_open_files_are_bounded(world):
    step, = world.perform(python("import os\nn = 0\ntry:\n  while n < 100000: os.open('/dev/null', os.O_RDONLY); n += 1\nexcept OSError: print(n)"))
    assert int(output(step)) <= 4096


def test_processors_are_bounded_where_groups_can(world):
    """Four busy processes for a second; without a group the record says that nothing bounds them."""
    step, = world.perform(python(
        "import os, time\nbegan = time.monotonic()\nfor _ in range(4):\n  if not os.fork():\n"
        "    while time.monotonic() < began + 1: pass\n    os._exit(0)\nfor _ in range(4): os.wait()\n"
        "spent = os.times()\nprint((spent.children_user + spent.children_system) / (time.monotonic() - began))"))
    assert keeper(step, "cpu") in ("cgroup", "none")
    if keeper(step, "cpu") == "cgroup":
        assert float(output(step)) < 1.3
