"""Two cuts of a real file system; `make powercut-fs` makes more."""
import os
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parent / "powercut_fs.py"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts and cuts file systems")
def test_what_was_acknowledged_survives_a_cut_of_a_real_file_system():
    ended = subprocess.run(["unshare", "-m", sys.executable, SCRIPT, "--cuts", "2", "--seed", "1"],
                           capture_output=True, text=True, timeout=300)
    if ended.returncode == 77:
        pytest.skip(ended.stdout)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "2 passed, 0 failed" in ended.stdout
