"""A few faults of the chaos test in every run of the tests; `make chaos-test` has many."""
import pathlib
import subprocess
import sys

from conftest import BATON, SANITIZED

CHAOS = pathlib.Path(__file__).parents[1] / "crash" / "chaos.py"


# Of one clock: the shim for another one is not for sanitizers (test_turns.py).
SEED = ["--seed", "1"] if SANITIZED else []


def test_nothing_is_lost_or_done_twice_when_servers_and_the_database_die():
    ended = subprocess.run([sys.executable, CHAOS, "--baton", BATON, "--cycles", "2", "--database-stops", "1", "--pause", "1", *SEED],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    assert ended.returncode == 0 and " passed, 0 failed" in ended.stdout, ended.stdout
