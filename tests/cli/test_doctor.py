"""`baton doctor`: what it finds, and that it says so when something is missing."""
import json
import os
import pathlib
import shutil
import subprocess

import pytest

from conftest import BATON, environment

CHECKS = {"kernel", "user", "user namespaces", "bubblewrap", "landlock", "seccomp", "memory limit", "process limit",
          "processor limit", "runtime bwrap", "runtime landlock", "runtime trusted", "sandbox", "sqlite", "data directory",
          "file system", "fsync", "clock", "open files", "writer", "git"}


def doctor(*words, status=0, before=(), program=BATON, **env):
    done = subprocess.run([*before, program, "doctor", *words], env=environment(**env), capture_output=True, text=True, timeout=60)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done.stdout if status != 2 else done.stderr


def checks(*words, **options):
    report = json.loads(doctor(*words, "-o", "json", **options))
    found = {check["name"]: (check["state"], check["detail"]) for check in report["checks"]}
    assert set(found) == CHECKS and report["ok"] == ("missing" not in {state for state, _ in found.values()})
    return found


def test_it_tells_what_the_machine_can_do_and_leaves_nothing_behind(tmp_path):
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    found = checks("--data", str(data), TMPDIR=str(scratch))
    assert found["kernel"] == ("ok", f"Linux {os.uname().release}, {os.uname().machine}")
    assert found["git"] == ("ok", subprocess.check_output(["git", "--version"], text=True).strip())
    assert found["data directory"] == ("ok", f"{data}, mode 0700")
    assert "median" in found["fsync"][1] and found["sandbox"][1].startswith("--sandbox auto takes ")
    assert list(data.iterdir()) == list(scratch.iterdir()) == []


def test_an_old_sqlite_is_warned_of(tmp_path):
    state, detail = checks("--data", str(tmp_path))["sqlite"]
    version = tuple(map(int, detail.split(":")[0].split(".")))
    assert state == ("warning" if version < (3, 51, 3) else "ok")


def test_it_prints_a_table_and_lines():
    lines = doctor().splitlines()
    assert lines[0].split() == ["CHECK", "STATE", "DETAIL"] and len(lines) == 1 + len(CHECKS)
    assert {json.loads(line)["name"] for line in doctor("-o", "jsonl").splitlines()} == CHECKS


def test_a_directory_that_is_not_there_yet_is_fine_and_one_that_cannot_be_is_not(tmp_path):
    state, detail = checks("--data", str(tmp_path / "a" / "b"))["data directory"]
    assert state == "ok" and f"will be made in {tmp_path}" in detail
    (tmp_path / "file").write_text("")
    assert checks("--data", str(tmp_path / "file"), status=1)["data directory"][0] == "missing"
    open_one = tmp_path / "open"
    open_one.mkdir()
    open_one.chmod(0o755)
    state, detail = checks("--data", str(open_one))["data directory"]
    assert state == "warning" and "0755" in detail


def test_what_is_missing_is_the_exit_status(tmp_path):
    assert checks("--data", str(tmp_path), status=1, PATH=str(tmp_path))["git"][0] == "missing"


def test_a_sandbox_that_does_not_exist_is_a_usage_error():
    assert "must be auto, bwrap, landlock or trusted" in doctor("--sandbox", "chroot", status=2)
    assert "unknown option" in doctor("--nonsense", status=2)
    assert "table, json or jsonl" in doctor("-o", "xml", status=2)


def test_without_user_namespaces_a_user_must_name_the_weaker_kind(tmp_path):
    """The world of bubblewrap's --disable-userns is such a machine."""
    program = shutil.copy(BATON, tmp_path / "baton")
    for path in [tmp_path, *list(tmp_path.parents)[:-2]]:
        os.chmod(path, 0o755)
    (tmp_path / "data").mkdir(mode=0o777)
    os.chmod(tmp_path / "data", 0o777)
    before = ["bwrap", "--unshare-user", "--uid", "61917", "--gid", "61917", "--dev-bind", "/", "/", "--disable-userns", "--"]
    if os.geteuid() == 0:
        before = ["setpriv", "--reuid=61917", "--regid=61917", "--clear-groups", *before]
    else:
        before[before.index("61917")] = str(os.geteuid())
    words = ["--data", str(tmp_path / "data")]
    found = checks(*words, status=1, before=before, program=program)
    assert found["user namespaces"][0] == "warning" and found["runtime bwrap"][0] == "warning"
    assert found["sandbox"][0] == "missing" and "commands will be refused" in found["sandbox"][1]
    found = checks(*words, "--concurrency", "0", before=before, program=program)
    assert found["sandbox"][0] == "warning"
    found = checks(*words, "--sandbox", "trusted", before=before, program=program)
    assert found["sandbox"] == ("warning", "--sandbox trusted takes trusted")
    if int(found["landlock"][1].split()[1].rstrip(";")) >= 6:
        found = checks(*words, "--sandbox", "landlock", before=before, program=program)
        assert found["sandbox"][0] == "ok" and "cannot make namespaces" in found["sandbox"][1]


@pytest.mark.skipif(os.geteuid() != 0, reason="hides a program by a mount")
def test_without_bubblewrap_auto_takes_landlock_and_says_why(tmp_path):
    before = ["unshare", "--mount", "sh", "-c", "mount --bind /dev/null /usr/bin/bwrap && exec \"$@\"", "sh"]
    found = checks("--data", str(tmp_path), before=before)
    assert found["bubblewrap"] == ("warning", "not installed") and found["sandbox"][0] == "ok"
    assert "takes landlock" in found["sandbox"][1] and "bubblewrap (bwrap) is not installed" in found["sandbox"][1]
    assert checks("--data", str(tmp_path), "--sandbox", "bwrap", status=1, before=before)["sandbox"][0] == "missing"


def test_the_thread_that_writes_goes_first_where_it_may(server):
    """And no other thread does, nor what runs commands."""
    nices = {}
    for pid in [server.process.pid, *map(int, subprocess.check_output(["pgrep", "-P", str(server.process.pid)]).split())]:
        for stat in pathlib.Path(f"/proc/{pid}/task").glob("*/stat"):
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
            nices.setdefault(name, set()).add(int(rest.split()[16]))
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    allowed = checks()["writer"] == ("ok", "its thread goes before others: nice lower by 10")
    assert nices.pop("writer") == {max(ours - 10, -20) if allowed else ours}
    assert nices["http"] == nices["reader"] == nices["webhooks"] == nices["baton-spawner"] == {ours}
    assert os.getpriority(os.PRIO_PROCESS, server.process.pid) == ours
