"""The whole way of `make run`: a clone from a private home to a report, by root and by a user."""
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

ROOT = pathlib.Path(__file__).parents[2]
BATON = pathlib.Path(os.environ.get("BATON", ROOT / "build" / "baton"))
USER = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"]


@pytest.fixture(params=["as started", "as a user"])
def home(request):
    """A home with mode 0700 that holds a checkout, and how to become its owner."""
    become = []
    if request.param == "as a user":
        if os.geteuid() != 0:
            pytest.skip("needs root to become another user")
        become = USER
    # Not below pytest's own directory: each pytest that starts closes that to others, also in mid-run.
    with tempfile.TemporaryDirectory(prefix="baton-home-") as parent:
        path = pathlib.Path(parent) / "home"
        path.mkdir()
        subprocess.run(["git", "clone", "-q", "--no-hardlinks", ROOT, path / "checkout"], check=True)
        shutil.copy(BATON.resolve(), path / "baton")
        if become:
            os.chmod(parent, 0o711)  # so that the user can reach it
            subprocess.run(["chown", "-R", "1000:1000", path], check=True)
        path.chmod(0o700)
        yield path, become
        subprocess.run(["pkill", "-f", parent], check=False)


def test_the_audit_of_a_checkout_in_a_private_home(home):
    path, become = home
    checkout = path / "checkout"
    ended = subprocess.run(
        [*become, path / "baton", "run", checkout / "examples" / "repo-audit.yaml", "--input",
         f"repo={checkout}", "--data", path / "data"],
        cwd="/", env={"PATH": os.environ["PATH"], "HOME": str(path)}, text=True, capture_output=True,
        timeout=180)
    if ended.returncode:
        pytest.fail(f"it ended with {ended.returncode}\n{ended.stdout}\n{ended.stderr}")  # whole, not cut
    assert "run run_" in ended.stdout and "completed" in ended.stdout.splitlines()[-1]
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True,
                            check=True).stdout.strip()
    assert f"Commit {commit}" in ended.stdout
    assert "A closer look at the largest: " in ended.stdout and " lines" in ended.stdout
    assert " 0 errors" in ended.stdout
    reports = list((path / "data" / "workspaces").glob("*/artifacts/report.md"))
    assert len(reports) == 1 and reports[0].read_text() in ended.stdout
