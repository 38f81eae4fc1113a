"""The commands: what they print, where, and how they end."""
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import fcntl
import subprocess
import termios
import time

import pytest
import requests

from conftest import BATON, SLOW, Cli, environment, wait_until

STEPS = "steps:\n  - { id: a, action: noop }\n"


@pytest.fixture(scope="module")
def definitions(server):
    """Skips where the server has no definitions yet."""
    answer = requests.get(server.url + "/v1/definitions", headers={"Authorization": "Bearer " + server.key})
    if answer.status_code == 404:
        pytest.skip("this server has no definitions")


def on_terminal(words, seconds=20, size=(24, 80), keys=None, **env):
    """Runs a command on a terminal of its own; what it wrote there and its exit status."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(BATON, [BATON, *words], environment(**env))
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    out = b""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not select.select([fd], [], [], 0.1)[0]:
            continue
        try:
            piece = os.read(fd, 65536)
        except OSError:
            piece = b""
        if not piece:
            break
        out += piece
        if keys and keys[0] in out:
            os.write(fd, keys[1])
            keys = None
    os.close(fd)
    return out.decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# ---- help and usage ----

def test_help_is_one_table_at_every_level(cli):
    everything = cli("help")
    assert everything == cli("--help")
    words = re.findall(r"^  ([a-z][a-z -]*[a-z])(?= |$)", everything.split("\nOptions")[0], re.M)
    for noun in ["serve", "run", "definition", "task", "runs", "approvals", "key", "workspace", "version"]:
        assert any(w.split()[0] == noun for w in words), noun
    group = cli("runs", "--help")
    assert "runs explain ID" in group and "task create" not in group
    one = cli("runs", "list", "--help")
    assert one.startswith("usage: baton runs list [options]")
    assert "--status S" in one and "--data DIR" in one
    assert one == cli("help", "runs", "list")
    assert "3 it was canceled, 4 it timed out" in cli("run", "--help")


def test_every_command_has_help(cli):
    for line in cli("help").split("\n\n")[1].splitlines():
        words = []
        for word in line.split("  ")[1].split():
            if not re.fullmatch("[a-z-]+", word) or word.startswith("-"):
                break
            words.append(word)
        assert "usage: baton " + " ".join(words) in cli("help", *words)


@pytest.mark.parametrize("words, said", [
    (["rns", "list"], 'unknown command "rns"; did you mean runs?'),
    (["runs", "lst"], 'unknown command "lst"; did you mean list?'),
    (["defi", "list"], "did you mean definition?"),
    (["qqqqqqq"], 'unknown command "qqqqqqq"\n'),
    (["runs", "list", "--limt", "3"], "did you mean --limit?"),
    (["runs", "list", "--limit"], "--limit needs a value: N"),
    (["runs", "list", "x"], 'does not take "x"'),
    (["runs", "get"], "needs ID"),
    (["runs", "logs", "x", "--follow=1"], "--follow takes no value"),
    (["runs", "list", "-o", "xml"], "table, json or jsonl"),
    (["task", "create"], "a task needs a --title"),
    (["runs"], "usage: baton runs <command>"),
    ([], "usage: baton <command>"),
])
def test_bad_usage_is_explained(cli, words, said):
    assert cli(*words, status=2) == ""
    assert said in cli.err


def test_a_bad_word_cannot_write_to_the_terminal(cli):
    cli("\x1b]0;x", status=2)
    assert "\x1b" not in cli.err
    cli("runs", "list", "--\x1b[2J", status=2)
    assert "\x1b" not in cli.err


# ---- finding the server ----

def test_finds_the_server_by_data_directory_address_and_key(cli, server):
    assert cli("workspace", "list", env={"BATON_DATA": "/nonexistent"}, status=6) == ""
    assert "no server runs in /nonexistent" in cli.err and "(unavailable)" in cli.err
    for words in [["--data", str(server.data)], ["--server", server.url, "--key", server.key],
                  ["--server", f"unix:{server.data}/baton.sock"], ["--server", server.address + "/", "--key", server.key],
                  ["--server", server.url, "--key-file", f"{server.data}/admin.key"]]:
        assert "default" in cli("workspace", "list", *words, env={"BATON_DATA": "/nonexistent"}), words
    assert "default" in cli("--data", str(server.data), "workspace", "list")
    assert "default" in cli("workspace", "list", env={"BATON_SERVER": server.url, "BATON_KEY": server.key})
    assert "default" in cli("workspace", "list", "--server", server.url)  # the key lies in BATON_DATA
    cli("workspace", "list", "--server", server.url, "--key", "wrong", status=4)
    assert "(unauthenticated)" in cli.err
    cli("workspace", "list", "--server", "127.0.0.1:1", status=6)
    cli("workspace", "list", "--key-file", "/nonexistent", status=2)


def test_a_proxy_of_the_environment_is_not_asked_for_a_local_server(cli, server):
    assert "default" in cli("workspace", "list", "--server", server.url, env={"http_proxy": "http://127.0.0.1:1"})


def test_what_is_no_server_of_ours_is_told(cli, tmp_path):
    with subprocess.Popen(["python3", "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "-d", str(tmp_path)],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as other:
        port = re.search(r"port (\d+)", other.stdout.readline())[1]
        cli("task", "list", "--server", "127.0.0.1:" + port, status=3)
        assert "without saying why" in cli.err
        (tmp_path / "v1").mkdir()
        (tmp_path / "v1" / "tasks").write_text("<html>")
        cli("task", "list", "--server", "127.0.0.1:" + port, status=1)
        assert "no Baton server" in cli.err
        other.terminate()


# ---- workspaces, keys ----

def test_workspaces(cli, unique):
    made = cli.json("workspace", "create", "The one", "--slug", unique)
    assert made["slug"] == unique
    assert cli.json("workspace", "get", unique) == made
    assert unique in cli("workspace", "list")
    task = cli.json("task", "create", "--title", "t", "--workspace", unique)
    assert task["workspace_id"] == made["id"]
    assert cli.json("task", "list", env={"BATON_WORKSPACE": unique})["items"][0]["id"] == task["id"]
    assert task["id"] not in cli("task", "list")
    cli("workspace", "get", "nope", status=3)
    assert "no such workspace (not_found)" in cli.err


def test_keys(cli, server):
    made = cli.json("key", "create", "--name", "ci", "--scopes", "tasks:read, runs:claim", "--actor-kind",
                    "agent_session", "--ref", "bot", "--capabilities", "gpu", "--expires-at", "2099-01-01T00:00:00Z")
    assert made["actor"] == {"kind": "agent_session", "ref": "bot"}
    assert made["scopes"] == ["tasks:read", "runs:claim"] and made["capabilities"] == ["gpu"]
    words = ["task", "list", "--server", server.url, "--key", made["key"]]
    cli(*words)
    cli("task", "create", "--title", "x", *words[2:], status=4)
    assert "tasks:write (permission_denied)" in cli.err
    assert made["id"] in cli("key", "list")
    cli("key", "revoke", made["id"])
    assert cli.out == "" and "revoked" in cli.err
    wait_until(lambda: subprocess.run([BATON, *words], env=environment(), capture_output=True).returncode == 4)
    cli("key", "create", "--name", "x", status=2)
    cli("key", "create", "--name", "x", "--scopes", "everything", status=2)
    assert "field: scopes" in cli.err


def test_a_key_is_bound_to_the_workspace_that_was_named(cli, server, unique):
    space = cli.json("workspace", "create", "w", "--slug", unique)
    made = cli.json("key", "create", "--name", "x", "--scopes", "tasks:read", "--workspace", unique)
    assert made["workspace_id"] == space["id"]


# ---- tasks ----

def test_a_task_and_its_run(cli, unique):
    made = cli.json("task", "create", "--title", unique, "--priority", "high", "--description", "d", "--max-attempts", "2",
                    "--timeout", "60", "--capabilities", "a,b", "--start")
    task, run = made["task"], made["run"]
    assert (task["title"], task["priority"], task["max_attempts"], task["timeout_seconds"]) == (unique, "high", 2, 60)
    assert task["required_capabilities"] == ["a", "b"]
    assert unique in cli("task", "list", "--priority", "high")
    assert [r["id"] for r in cli.lines("runs", "list", "--task", task["id"])] == [run["id"]]
    assert "no_claimer" in cli("runs", "explain", run["id"])
    assert cli.json("task", "get", task["id"])["id"] == task["id"]
    assert cli.json("task", "cancel", task["id"], "--reason", "enough")["status"] == "canceled"
    assert re.search(r"^status +canceled$", cli("runs", "get", run["id"]), re.M)


def test_retry_after_a_cancel(cli):
    made = cli.json("task", "create", "--title", "t", "--start")
    cli("runs", "cancel", made["run"]["id"], "--reason", "no")
    again = cli.json("runs", "retry", made["run"]["id"])
    assert again["previous_run"]["id"] == made["run"]["id"] and again["run"]["attempt"] == 2
    cli("runs", "cancel", again["run"]["id"])
    assert re.search("^attempt +3$", cli("task", "retry", made["task"]["id"]), re.M)
    cli("task", "retry", made["task"]["id"], status=5)
    assert "(invalid_transition)" in cli.err or "(conflict)" in cli.err


def test_runs_are_forced_one_or_several_at_a_time(cli):
    runs = [cli.json("task", "create", "--title", "t", "--start")["run"]["id"] for _ in range(3)]
    cli("runs", "force-fail", runs[0], status=2)
    assert "(reason_required)" in cli.err
    assert re.search("^failure_kind +operator_forced$", cli("runs", "force-fail", runs[0], "--reason", "away"), re.M)
    cli("runs", "force-release", runs[1], status=5)
    assert "only a claimed run" in cli.err
    table = cli("runs", "force-fail", *runs, "--reason", "away", status=1).splitlines()
    assert [line.split()[:3] for line in table[1:]] == [
        [runs[0], "-", "invalid_transition"], [runs[1], "failed", "-"], [runs[2], "failed", "-"]]
    cli("runs", "recover", runs[0], "--reason", "look", status=5)
    assert "is failed already" in cli.err
    rows = cli.lines("runs", "force-release", *runs, status=1)
    assert [row["run_id"] for row in rows] == runs and not any(row["ok"] for row in rows)


def test_a_run_is_held_by_commands(cli, unique):
    cli("workspace", "create", "w", "--slug", unique)
    here = {"BATON_WORKSPACE": unique}
    made = [cli.json("task", "create", "--title", unique, "--capabilities", unique, "--start", env=here)["run"]["id"]
            for _ in range(4)]
    table = cli("runs", "claim", "--capabilities", unique, "--lease", "60", env=here).splitlines()
    assert table[0].split()[0] == "RUN" and table[1].split()[0] == made[0] and unique in table[1]
    token = {**here, "BATON_CLAIM_TOKEN": table[1].split()[2]}
    cli("runs", "start", made[0], env=here, status=5)
    assert "(stale_claim_token)" in cli.err
    assert cli.json("runs", "start", made[0], env=token)["status"] == "running"
    assert cli.json("runs", "heartbeat", made[0], "--lease", "90", env=token)["cancel_requested"] is False
    cli("runs", "complete", made[0], "--result", "{", env=token, status=2)
    assert cli.json("runs", "complete", made[0], "--result", '{"n": 1}', env=token)["result"] == {"n": 1}
    claim = cli.json("runs", "claim", made[1], "--capabilities", unique, env=here)["claims"][0]
    assert cli.json("runs", "fail", made[1], "--error", "no", "--kind", "policy", "--token",
                    claim["claim_token"], env=here)["failure_kind"] == "policy"
    claim = cli.json("runs", "attach-session", made[2], "--session", unique, "--capabilities", unique,
                     env=here)["claims"][0]
    assert claim["run"]["session_id"] == unique
    assert cli.json("runs", "release", made[2], "--token", claim["claim_token"], env=here)["status"] == "queued"
    assert len(cli.lines("runs", "claim", "--capabilities", unique, "--max", "5", "--priority-min", "low",
                         env=here)) == 2
    assert cli("runs", "claim", "--capabilities", unique, env=here, status=3) == "" and cli.err == "nothing to claim\n"


def test_errors_say_field_and_limit(cli):
    cli("task", "create", "--title", "x" * 2000, status=7)
    assert "field: title" in cli.err and "limit: 1000, got 2000" in cli.err
    cli("task", "create", "--title", "x", "--priority", "silly", status=2)
    assert cli.err.startswith("baton: priority must be low") and "field: priority" in cli.err
    cli("task", "create", "--title", "x", "--max-attempts", "many", status=2)
    cli("task", "get", "nope", status=3)
    cli("task", "create", "--title", b"\xff", status=2)
    assert "UTF-8" in cli.err


def test_a_page_names_the_next(cli, unique):
    cli("workspace", "create", "w", "--slug", unique)
    words = ["--workspace", unique]
    for i in range(3):
        cli("task", "create", "--title", f"t{i}", *words)
    first = cli.lines("task", "list", "--limit", "2", *words)
    cursor = re.search(r"--cursor (\S+)", cli.err)[1]
    second = cli.lines("task", "list", "--limit", "2", "--cursor", cursor, *words)
    assert [t["title"] for t in first + second] == ["t2", "t1", "t0"] and cli.err == ""


def test_formats(cli, api, unique):
    cli("workspace", "create", "w", "--slug", unique)
    words = ["--workspace", unique]
    made = cli.json("task", "create", "--title", "a title", *words)
    reply = api.get("/v1/tasks", headers={"X-Workspace-ID": unique})
    assert cli.json("task", "list", *words) == reply
    assert cli.lines("task", "list", *words) == reply["items"]
    head, row = cli("task", "list", *words).splitlines()
    assert head.split() == ["ID", "STATUS", "PRIORITY", "CURRENT", "RUN", "CREATED", "TITLE"]
    assert row.startswith(made["id"]) and row.endswith("a title")
    assert head.index("STATUS") == row.index("ready")


def test_text_of_others_cannot_write_to_the_terminal(cli, unique):
    cli("workspace", "create", "w", "--slug", unique)
    words = ["--workspace", unique]
    evil = "a\x1b[31mred\x07\x9b31m\u202eback\nline"
    made = cli.json("task", "create", "--title", evil, *words)
    assert made["title"] == evil
    for out in [cli("task", "list", *words), cli("task", "get", made["id"], *words)]:
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", out) and "red" in out
    assert len(cli("task", "list", *words).splitlines()) == 2


# ---- terminal ----

def test_colours_only_on_a_terminal(cli, server):
    cli("task", "create", "--title", "t", "--start")
    assert "\x1b[" not in cli("runs", "list")
    words = ["runs", "list", "--data", str(server.data)]
    assert "\x1b[2mqueued\x1b[0m" in on_terminal(words)[0]
    assert "\x1b" not in on_terminal(words, NO_COLOR="1")[0]
    assert "\x1b" not in on_terminal([*words, "--no-color"])[0]
    assert "\x1b" not in on_terminal(words, TERM="dumb")[0]


def test_sentences_are_cut_and_ids_are_not(cli, server, unique):
    cli("workspace", "create", "w", "--slug", unique)
    made = cli.json("task", "create", "--title", "日本語 " * 60, "--workspace", unique)
    out, _ = on_terminal(["task", "list", "--data", str(server.data), "--workspace", unique, "--no-color"], size=(24, 120))
    line = out.splitlines()[1]
    assert line.startswith(made["id"]) and line.endswith("…")
    width = sum(2 if ord(c) > 0x2e80 else 1 for c in line)
    assert 100 <= width <= 120


# ---- following against the real server ----

def test_events_follow_to_the_end(cli):
    run = cli.json("task", "create", "--title", "t", "--start")["run"]["id"]
    listed = cli.lines("runs", "events", run)
    assert [e["type"] for e in listed] == ["run.queued"]
    follower = cli.start("runs", "events", run, "--follow", "-o", "jsonl")
    assert json.loads(follower.stdout.readline())["type"] == "run.queued"
    cli("runs", "cancel", run)
    out, _ = follower.communicate(timeout=20)
    assert json.loads(out.splitlines()[-1])["type"] == "run.canceled" and follower.returncode == 0
    assert len(cli("runs", "events", run).splitlines()) == 3
    late = cli.lines("runs", "events", run, "--follow")  # of a run that has ended
    assert [e["type"] for e in late] == ["run.queued", "run.canceled"]
    after = cli.lines("runs", "events", run, "--after", str(listed[0]["sequence"]))
    assert [e["type"] for e in after] == ["run.canceled"]
    cli("runs", "events", "nope", "--follow", status=3)


def test_following_outlives_a_killed_server(own_server):
    cli = Cli(own_server.data)
    run = cli.json("task", "create", "--title", "t", "--start")["run"]["id"]
    follower = cli.start("runs", "events", run, "--follow", "-o", "jsonl")
    assert json.loads(follower.stdout.readline())["type"] == "run.queued"
    own_server.kill()
    time.sleep(0.5)
    assert follower.poll() is None
    own_server.start()
    cli("runs", "cancel", run)
    out, err = follower.communicate(timeout=20)
    assert [json.loads(line)["type"] for line in out.splitlines()] == ["run.canceled"], (out, err)
    assert follower.returncode == 0


def test_ctrl_c_stops_following_only(cli):
    run = cli.json("task", "create", "--title", "t", "--start")["run"]["id"]
    follower = cli.start("runs", "events", run, "--follow", "-o", "jsonl")
    follower.stdout.readline()
    follower.send_signal(signal.SIGINT)
    begun = time.monotonic()
    out, err = follower.communicate(timeout=10)
    assert time.monotonic() - begun < 3 * SLOW
    assert follower.returncode == 130 and f"baton runs cancel {run}" in err
    assert cli.json("runs", "get", run)["status"] == "queued"


# ---- running a definition, against the stand-in ----

@pytest.fixture
def played(stand_in, tmp_path):
    cli = Cli(stand_in.data)
    cli.file = tmp_path / "audit.yaml"
    cli.file.write_text(STEPS)
    cli.server = stand_in
    return cli


def test_a_run_prints_progress_report_and_result(played):
    out = played("run", str(played.file))
    assert out == '# Report\nall \ufffd[31mgood\n\nresult: {"n": 1}\n' + out.splitlines()[-1] + "\n"
    assert re.fullmatch(r"run run_1 completed in \d+\.\ds", out.splitlines()[-1])
    lines = played.err.splitlines()
    assert lines[0] == "run run_1"
    assert [re.sub(r"^\[ +[\d.]+s\] | in [\d.]+s", "", line) for line in lines[1:]] == [
        "look (execute_command) started", "look (execute_command) completed", "report (write_file) started",
        "report (write_file) completed", "run: completed"]
    assert played.json("run", str(played.file))["status"] == "completed"


@pytest.mark.parametrize("play, status, word", [("well", 0, "completed"), ("fail", 1, "failed"),
                                                ("cancel", 3, "canceled"), ("timeout", 4, "timed_out")])
def test_the_exit_status_is_that_of_the_run(played, play, status, word):
    out = played("run", str(played.file), "--input", "play=" + play, status=status)
    assert f"run run_1 {word}" in out
    if play == "fail":
        assert "error: it \ufffd]0;broke" in out
    out = played("task", "run", "audit", "--input", "play=" + play, "--wait", status=status)
    assert f"run run_2 {word}" in out and played.err == ""
    played("task", "run", "audit", "--input", "play=" + play, "--stream", status=status)
    assert "run run_3" in played.err


def test_the_document_is_stored_once_and_replaced_when_it_differs(played, tmp_path):
    document = tmp_path / "d.json"
    document.write_text('{"name": "d", "steps": [{"action": "noop"}]}')
    for _ in range(2):
        played("run", str(document))
    document.write_text('{"name": "d", "steps": [{"action": "noop"}, {"action": "noop"}]}')
    played("run", str(document))
    calls = [(method, path.split("?")[0]) for method, path, _, _ in played.server.state["calls"]]
    run = ("POST", "/v1/definitions/def_d/runs")
    assert calls == [("POST", "/v1/definitions"), run, run, ("PUT", "/v1/definitions/def_d"), run]
    assert played.server.state["definitions"]["d"]["version"] == 2


def test_documents_that_are_referred_to_are_stored_first(played, tmp_path):
    (tmp_path / "main.yaml").write_text(
        "name: big\nsteps:\n  - { action: sub_task, parameters: { referenced_task_id: one } }\n"
        "  - { action: sub_task, parameters: { referenced_task_id: 'absent' } }\n")
    (tmp_path / "one.yaml").write_text("steps:\n - action: sub_task\n   parameters:\n"
                                       "     \"referenced_task_id\": two # there\n")
    (tmp_path / "two.yaml").write_text("steps: [{action: sub_task, parameters: {referenced_task_id: one}}]\n")
    played("run", str(tmp_path / "main.yaml"))
    assert [p for m, p, _, _ in played.server.state["calls"]] == [
        "/v1/definitions?name=two", "/v1/definitions?name=one", "/v1/definitions?name=main",
        "/v1/definitions/def_big/runs"]


def test_input(played, tmp_path):
    (tmp_path / "in.json").write_text('{"play": "well", "kept": 1, "n": 0}')
    (tmp_path / "dir").mkdir()
    played("run", str(played.file), "--input-file", str(tmp_path / "in.json"), "--input", "n=2", "--input", "text=a b",
           "--input", "repo=dir", "--input", "none=null", "--input", "quoted=\"3\"", cwd=tmp_path)
    body = json.loads(played.server.state["calls"][-1][2])
    assert body == {"input": {"play": "well", "kept": 1, "n": 2, "text": "a b", "repo": str(tmp_path / "dir"),
                              "none": None, "quoted": "3"}}
    for bad in (["--input", "x"], ["--input", "=x"], ["--input-file", "/nonexistent"],
                ["--input-file", str(played.file)]):
        played("run", str(played.file), *bad, status=2)
    played("run", "/nonexistent.yaml", status=2)
    assert "cannot read /nonexistent.yaml" in played.err


def test_an_approval_tells_how_to_give_it(played):
    played("run", str(played.file), "--input", "play=approval", "--data", played.data)
    assert f"baton approvals approve appr_7 --data {played.data}" in played.err


def test_ctrl_c_leaves_the_run_alone(played):
    process = played.start("run", str(played.file), "--input", "play=for ever")
    while "started" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert process.returncode == 130 and out == "" and "baton runs cancel run_1" in err


def test_following_goes_on_after_the_server_was_away(played):
    process = played.start("run", str(played.file), "--input", "play=slow")
    while "started" not in process.stderr.readline():
        pass
    played.server.kill()
    time.sleep(0.5)
    played.server.start()
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0 and "run run_1 completed" in out, (out, err)
    assert err.count("look (execute_command) completed") == 1


def test_on_a_terminal_the_list_is_redrawn(played):
    out, status = on_terminal(["run", str(played.file), "--input", "play=branches", "--data", played.data])
    assert status == 0
    assert re.search(r"\x1b\[\d+A", out)
    assert re.search(r"▸ 0/inner \(noop\) +0\.\ds", out) and "✓ look (execute_command)" in out
    last = out.split("\x1b[J")[-1]
    assert "✓ fan (parallel)" in last and "inner" not in last
    small, status = on_terminal(["run", str(played.file), "--input", "play=branches", "--data", played.data],
                                size=(6, 30))
    assert status == 0 and max(int(n) for n in re.findall(r"\x1b\[(\d+)A", small)) <= 5


def test_ctrl_c_at_the_terminal(played):
    out, status = on_terminal(["run", str(played.file), "--input", "play=for ever", "--data", played.data],
                              keys=("look".encode(), b"\x03"))
    assert status == 130 and f"baton runs cancel run_1 --data {played.data}" in out


# ---- definitions, against the real server ----

def test_definitions_are_created_listed_shown(definitions, cli, tmp_path, unique):
    file = tmp_path / (unique + ".yaml")
    file.write_text("description: a test\n" + STEPS)
    made = cli.json("definition", "create", str(file))
    assert made["name"] == unique and made["version"] == 1
    assert unique in cli("definition", "list") and unique in cli("task", "list-definitions")
    assert cli.json("definition", "get", unique)["id"] == made["id"]
    assert cli.json("definition", "get", made["id"], "--version", "1")["version"] == 1
    assert "noop" in cli("definition", "get", unique)
    cli("definition", "create", str(file), status=5)
    cli("definition", "get", "nope", status=3)
    named = cli.json("definition", "create", str(file), "--name", unique + "-2")
    assert named["name"] == unique + "-2"


def test_a_document_is_validated(definitions, cli, tmp_path):
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(STEPS)
    bad.write_text("steps:\n  - { id: a, action: nop }\n")
    assert "is valid" in cli("definition", "validate", str(good))
    out = cli("definition", "validate", str(bad), status=2)
    assert "steps[0].action" in out and "noop" in out
    assert cli.json("definition", "validate", str(bad), status=2)["valid"] is False


def test_a_definition_that_starts_itself_is_invalid_without_a_server_too(cli, tmp_path):
    file = tmp_path / "again.yaml"
    file.write_text("name: again\nsteps:\n  - { id: a, action: sub_task, parameters: { referenced_task_id: again } }\n")
    for where in (), ("--data", str(tmp_path / "none")):
        assert "leads back to this definition (subtask_cycle)" in cli("definition", "validate", str(file), *where, status=2)


def test_a_stored_definition_runs(definitions, cli, tmp_path, unique):
    file = tmp_path / (unique + ".yaml")
    file.write_text(STEPS)
    made = cli.json("definition", "create", str(file))
    started = cli.json("task", "run", unique)
    assert started["run"]["task_id"] == started["task"]["id"]
    assert " completed" in cli("task", "run", unique, "--wait")
    assert " completed" in cli("task", "run", unique, "--stream") and "a (noop) completed" in cli.err
    given = cli.json("task", "create", "--title", "t", "--definition", made["id"], "--start", "--input", "n=3",
                     "--input", "s=three=3", "--input", "l=[1]", "--input", "t=true")["run"]
    assert given["input"] == {"n": 3, "s": "three=3", "l": [1], "t": True}
    run = cli.json("task", "run", unique, "--wait")
    steps = cli.json("runs", "steps", run["id"])["items"]
    assert [(s["id"], s["status"]) for s in steps] == [("a", "completed")]


def test_one_shot_starts_a_server_that_ends(definitions, tmp_path):
    cli = Cli(tmp_path / "data")
    file = tmp_path / "shot.yaml"
    file.write_text("steps:\n  - { id: w, action: write_file, parameters: { path: r.md, content: the report } }\n")
    out = cli("run", str(file))
    assert "the report\n" in out and " completed" in out
    assert (tmp_path / "data" / "server.log").exists()
    for _ in range(2):
        cli("run", str(file))  # whether it still runs or not
    wait_until(lambda: not (tmp_path / "data" / "listen").exists(), seconds=60)


def kill_server(data):
    """The server that listens on the data directory's socket."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(f"{data}/baton.sock")
        pid = struct.unpack("3i", s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("started_by", ["itself", "an earlier run"])
def test_one_shot_survives_a_killed_server(definitions, tmp_path, started_by):
    cli = Cli(tmp_path / "data")
    file = tmp_path / "slow.yaml"
    if started_by == "an earlier run":
        file.write_text(STEPS)
        cli("run", str(file))
    file.write_text("steps:\n  - { id: d, action: delay, parameters: { seconds: 4 } }\n  - { id: e, action: noop }\n")
    process = cli.start("run", str(file))
    while "started" not in process.stderr.readline():
        pass
    kill_server(tmp_path / "data")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and " completed" in out, (out, err)


def test_one_shot_gets_a_server_that_may_read_its_directory(definitions, tmp_path):
    cli = Cli(tmp_path / "data")
    file = tmp_path / "clone.yaml"
    file.write_text("input: { type: object, properties: { repo: { type: string } } }\n"
                    "steps:\n  - { action: git_clone, parameters: { repo: \"${{ input.repo }}\" } }\n")
    for name in ["one", "two"]:
        repo = tmp_path / name
        subprocess.run(f"git init -q {repo} && cd {repo} && git -c user.name=t -c user.email=t@t commit -q"
                       " --allow-empty -m x", shell=True, check=True)
        assert " completed" in cli("run", str(file), "--input", f"repo={repo}")
    assert "waiting for another run's server to end" in cli.err


def test_logs(definitions, cli, tmp_path, unique):
    file = tmp_path / (unique + ".yaml")
    file.write_text("steps:\n  - { action: execute_command, parameters: { command: \"echo first; sleep 1; echo second\" } }\n")
    cli("definition", "create", str(file))
    run = cli.json("task", "run", unique)["run"]["id"]
    followed = cli("runs", "logs", run, "--follow")
    assert "first" in followed and "second" in followed
    assert "first" in cli("runs", "logs", run)
    assert cli.json("runs", "logs", run) == {"run_id": run, "text": "first\nsecond\n"}
    assert cli.lines("runs", "logs", run) == [cli.json("runs", "logs", run)]
    assert [line["text"] for line in cli.lines("runs", "logs", run, "--follow")] == ["first\n", "second\n"]


def test_the_version_is_told_in_every_form(cli):
    said = cli.json("version")
    assert said["name"] == "baton" and cli.lines("version") == [said]
    assert cli("version") == cli("--version") == f"baton {said['version']}\n"
    cli("version", "now", status=2)


# ---- secrets ----

def set_secret(cli, name, value, status=0):
    process = cli.start("secret", "set", name, stdin=subprocess.PIPE)
    cli.out, cli.err = process.communicate(value, timeout=60)
    assert process.returncode == status, (cli.out, cli.err)


def test_secrets_are_set_from_standard_input_listed_and_deleted(cli, unique):
    set_secret(cli, unique, "a value of\ntwo lines\n")
    assert cli.out == "" and cli.err == "set\n"
    assert unique in cli("secret", "list")
    assert [s for s in cli.json("secret", "list")["items"] if s["name"] == unique][0].keys() == {"name", "created_at", "updated_at"}
    cli("secret", "delete", unique)
    assert cli.err == "deleted\n"
    cli("secret", "delete", unique, status=3)
    assert "no such secret (not_found)" in cli.err


def test_only_the_last_line_end_is_left_out(cli, unique):
    set_secret(cli, unique, "abc\n", status=2)
    assert "field: value" in cli.err
    set_secret(cli, unique, "abcd\n")
    set_secret(cli, unique, "x" * 16384 + "\n")
    set_secret(cli, unique, "x" * 16385, status=7)
    set_secret(cli, "1bad", "a value", status=2)
    assert "field: name" in cli.err
    cli("secret", "set", unique, "value", status=2)
    assert 'does not take "value"' in cli.err


def test_a_secret_is_asked_for_and_not_shown_on_a_terminal(cli, server, unique):
    out, status = on_terminal(["secret", "set", unique], keys=(b"value of ", b"typed-value-1\n"), BATON_DATA=str(server.data))
    assert status == 0 and f"value of {unique}: " in out and "typed-value" not in out
    assert unique in cli("secret", "list")


# ---- options and completion ----

def test_config_shows_where_each_option_comes_from(cli):
    shown = {o["name"]: o for o in json.loads(cli("config", "--listen", "127.0.0.1:1", "-o", "json", "--git-local-root", "/a", "--git-local-root=/b",
                                                  env={"BATON_CONCURRENCY": "5", "BATON_LISTEN": "127.0.0.1:2"}))["items"]}
    assert shown["listen"] == {"name": "listen", "value": "127.0.0.1:1", "source": "flag"}
    assert shown["concurrency"] == {"name": "concurrency", "value": 5, "source": "BATON_CONCURRENCY"}
    assert shown["data"] == {"name": "data", "value": cli.data, "source": "BATON_DATA"}
    assert shown["drain-seconds"] == {"name": "drain-seconds", "value": 300, "source": "default"}
    assert shown["git-local-root"]["value"] == ["/a", "/b"] and shown["exit-when-idle"]["value"] is False
    lines = cli("config").splitlines()
    assert len(lines) == len(shown) and re.search(r"^http-threads +2 +default$", "\n".join(lines), re.M)
    cli("config", "--nope", status=2)
    cli("config", env={"BATON_CONCURRENCY": "many"}, status=2)
    assert "--concurrency must be a number" in cli.err


COMPLETE = {
    "bash": "source <({0} completion bash); COMP_WORDS=({1}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _baton; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
    "zsh": "compdef() {{ :; }}; _files() {{ :; }}; _describe() {{ print -l -- ${{${{(P)2}}%%:*}}; }}; source <({0} completion zsh); "
           "words=({1}); CURRENT=$#words; _baton",
    "fish": "{0} completion fish | source; complete -C \"{2}\" | string replace -r '\\t.*' ''",
}


@pytest.mark.parametrize("shell", sorted(COMPLETE))
@pytest.mark.parametrize("typed, there, elsewhere", [
    ("baton ", "runs", "steps"), ("baton runs ", "explain", "serve"), ("baton secret ", "set", "steps"),
    ("baton runs list --", "--status", "--reason"), ("baton runs cancel run_1 --", "--reason", "--status"),
    ("baton task cancel --", "--workspace", "--stream")])
def test_shells_complete_commands_and_options(cli, shell, typed, there, elsewhere):
    words = " ".join(typed.split()) + (" ''" if typed.endswith(" ") else "")
    script = COMPLETE[shell].format(BATON, words, typed)
    flags = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    done = subprocess.run([shell, *flags, "-c", script], capture_output=True, text=True, timeout=30 * SLOW, env=environment())
    given = done.stdout.split()
    assert there in given and elsewhere not in given, (done.stdout, done.stderr)
    assert done.stderr == ""


def test_there_are_scripts_for_three_shells(cli):
    cli("completion", "tcsh", status=2)
    assert "bash, zsh and fish" in cli.err
