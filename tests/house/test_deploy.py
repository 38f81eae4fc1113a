"""What stands in deploy/ agrees with the program and with the tools that read it."""
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def options():
    text = (ROOT / "src" / "server" / "options.def").read_text()
    return {"BATON_" + name.upper().replace("-", "_") for name in re.findall(r'^OPTION\("([^"]+)"', text, re.M)}


def test_the_sample_configuration_names_options_that_there_are():
    named = set(re.findall(r"^#?(BATON_\w+)=", (DEPLOY / "baton.env").read_text(), re.M))
    assert named and named <= options()


@pytest.fixture
def unit(tmp_path):
    """As it is, but with a program that is there."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd is not installed")
    text = (DEPLOY / "baton.service").read_text()
    assert "ExecStart=/usr/local/bin/baton serve\n" in text
    path = tmp_path / "baton.service"
    path.write_text(text.replace("/usr/local/bin/baton", shutil.which("true")))
    return path


def test_systemd_takes_the_unit(unit):
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
    assert done.returncode == 0 and "baton.service" not in done.stderr, done.stderr


def test_the_unit_is_hardened(unit):
    """An exposure of 3.6 of 10 at most: the rest is what the sandboxes of commands need."""
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=36", "--no-pager", unit],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-400:]


def test_a_stop_has_time_to_drain():
    stop = int(re.search(r"^TimeoutStopSec=(\d+)", (DEPLOY / "baton.service").read_text(), re.M)[1])
    drain = int(re.search(r"^BATON_DRAIN_SECONDS=(\d+)", (DEPLOY / "baton.env").read_text(), re.M)[1])
    assert stop >= drain + 30  # requests under way end in 5 s, those to webhooks in 10 s
