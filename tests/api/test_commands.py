import json
import os
import subprocess
import time

import pytest
import requests
from conftest import SLOW, Client, Server, wait_until
from flows import (action, approval_of, begun, children_of, completed, decide, define, ended, failed, found,
                   launch, noop, outputs, reaches, result, run_of, step_is, steps_of, types_of)
from repository import git, repository


@pytest.fixture(scope="module")
def repos(tmp_path_factory):
    """Local repositories: one with three commits and a branch, and one outside the allowed root."""
    root = tmp_path_factory.mktemp("git")
    for place in ("root/project", "outside/project"):
        repository(root / place, "main", "line %d\n", range(3))
    return root


@pytest.fixture(scope="module")
def server(tmp_path_factory, repos):
    os.environ["SECRET_OF_THE_SERVER"] = "do-not-show-me"
    try:
        server = Server(tmp_path_factory.mktemp("commands") / "data", "--concurrency", "6",
                        "--git-local-root", str(repos / "root"))
    finally:
        del os.environ["SECRET_OF_THE_SERVER"]
    yield server
    server.process.kill()
    server.process.wait()


def argv(*words, fields=None, **parameters):
    return action("execute_command", fields, argv=list(words), **parameters)


def shell(text, fields=None, **parameters):
    return action("execute_command", fields, command=text, **parameters)


def stdout(api, text, **parameters):
    return result(api, shell(text, **parameters))["stdout"]


# Commands.

def test_a_command_gives_its_output(api):
    got = result(api, shell("echo out; echo err >&2; sleep 0.1"))
    assert set(got) == {"exit_code", "stdout", "stderr", "duration_ms", "truncated"}
    assert got["exit_code"] == 0 and got["stdout"] == "out\n" and got["stderr"] == "err\n"
    assert got["truncated"] is False and 100 <= got["duration_ms"] < 5000


def test_a_command_is_read_by_a_shell_and_arguments_are_not(api):
    assert stdout(api, "x=1; echo $x | tr 1 2") == "2\n"
    assert result(api, argv("printf", "%s|", "$HOME", "a b", "", "*"))["stdout"] == "$HOME|a b||*|"
    assert result(api, noop("a; b"), argv("echo", "${{ last.output }}"))["stdout"] == "a; b\n"


def test_a_program_that_is_missing_fails_the_step(api):
    run = failed(api, argv("/no/such/program"))
    assert steps_of(api, run)[0]["status"] == "failed"
    run = failed(api, shell("no-such-program"))
    assert steps_of(api, run)[0]["output"]["exit_code"] == 127


def test_the_environment_is_given_and_otherwise_clean(api):
    text = stdout(api, "env", env={"GREETING": "hi there", "PATH_LIKE": "a:b"})
    names = dict(line.split("=", 1) for line in text.splitlines())
    assert names["GREETING"] == "hi there" and names["PATH_LIKE"] == "a:b"
    assert set(names) <= {"GREETING", "PATH_LIKE", "PATH", "HOME", "LANG", "PWD", "SHLVL", "_", "USER", "TMPDIR", "OLDPWD"}
    seen = stdout(api, "cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'; env")
    assert "do-not-show-me" not in seen and str(api.server.data) not in seen


def test_a_command_runs_where_it_is_told(api):
    run = completed(api, action("create_directory", path="sub/dir"), shell("pwd; echo x > here", cwd="sub/dir"),
                    action("list_directory", path="sub/dir"))
    assert outputs(api, run)[1]["stdout"].strip().endswith("/sub/dir")
    assert [e["name"] for e in outputs(api, run)[2]["entries"]] == ["here"]
    for cwd in ("nowhere", "../..", "/etc", "sub/dir/here"):
        failed(api, shell("true", cwd=cwd))


def test_another_exit_code_fails_unless_it_is_good(api):
    assert result(api, shell("exit 3", ok_exit_codes=[0, 3]))["exit_code"] == 3
    run = failed(api, shell("exit 0", ok_exit_codes=[3]))
    assert steps_of(api, run)[0]["output"]["exit_code"] == 0
    run = failed(api, shell("echo seen; exit 255"), kind="failed")
    assert steps_of(api, run)[0]["output"] | {"duration_ms": 0} == {
        "exit_code": 255, "stdout": "seen\n", "stderr": "", "duration_ms": 0, "truncated": False}


def test_a_command_killed_by_a_signal_fails(api):
    run = failed(api, shell("kill -9 $$"))
    assert steps_of(api, run)[0]["output"]["exit_code"] in (137, -9)


def test_output_is_cut_at_its_limits(api):
    got = result(api, shell("head -c 200000 /dev/zero | tr '\\0' o; head -c 200000 /dev/zero | tr '\\0' e >&2"))
    assert got["stdout"] == "o" * 100000 and got["stderr"] == "e" * 50000 and got["truncated"] is True
    got = result(api, shell("head -c 100000 /dev/zero | tr '\\0' o; head -c 50000 /dev/zero | tr '\\0' e >&2"))
    assert len(got["stdout"]) == 100000 and len(got["stderr"]) == 50000 and got["truncated"] is False


def test_a_cut_does_not_break_a_character(api):
    got = result(api, shell("printf a; for i in $(seq 60000); do printf '\u00e9'; done"))
    assert got["truncated"] is True and got["stdout"].rstrip("\ufffd") == "a" + "\u00e9" * 49999


def test_bytes_that_are_no_text_are_replaced(api):
    got = result(api, shell("printf 'a\\377\\000\\200b\\n\\001'"))
    assert got["stdout"].startswith("a\ufffd") and "b\n" in got["stdout"]
    got = result(api, shell("head -c 3000 /dev/urandom"))
    assert got["exit_code"] == 0 and got["truncated"] is False


def test_a_command_that_leaves_processes_behind_ends(api):
    mark = "301.%d" % time.monotonic_ns()
    began = time.monotonic()
    got = result(api, shell(f"(setsid sleep {mark} >/dev/null 2>&1 &) ; echo done"))
    assert got["stdout"] == "done\n" and time.monotonic() - began < 5 * SLOW
    wait_until(lambda: not found(mark), 2)


def test_a_command_has_no_input_to_read(api):
    assert result(api, shell("cat; echo end", {"timeout_seconds": 5}))["stdout"] == "end\n"


def test_runs_of_a_workspace_share_its_files(api):
    result(api, shell("echo shared > note"))
    assert stdout(api, "cat note") == "shared\n"


def test_workspaces_do_not_share_files(api):
    result(api, shell("echo mine > note"))
    space = Client(api.server).post("/v1/workspaces", {"name": "o", "slug": "o-%d" % time.monotonic_ns()})
    other = Client(api.server, headers={"X-Workspace-ID": space["id"]})
    assert "note" not in [e["name"] for e in result(other, action("list_directory", path="."))["entries"]]
    assert "mine" not in stdout(other, "cat note ../*/note /var/lib/*/*/note 2>/dev/null; find / -name note 2>/dev/null; true")


def test_the_sandbox_is_recorded(api):
    run = completed(api, shell("id -u"))
    assert steps_of(api, run)[0]["sandbox"]["runtime"] and outputs(api, run)[0]["stdout"] != "0\n"


# What a command may not do.

def test_there_is_no_network(api):
    host, port = api.server.address.rsplit(":", 1)
    for target in (f"{host}/{port}", "192.0.2.1/80"):
        assert stdout(api, f"timeout 2 bash -c 'exec 3<>/dev/tcp/{target}' 2>/dev/null && echo open || echo closed") == "closed\n"
    assert stdout(api, "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ' | grep -v '^lo$'; true") == ""


def test_the_servers_directory_is_out_of_reach(api):
    data = str(api.server.data)
    assert stdout(api, f"cat {data}/admin.key {data}/baton.db {data}/../*.log 2>/dev/null | head -c 100; ls -A {data} 2>/dev/null; true") == ""
    assert stdout(api, "test -S %s/baton.sock && echo there; grep -c baton.sock /proc/net/unix; true" % data).strip() in ("0", "")


def test_nothing_outside_the_workspace_can_be_written(api):
    text = "for d in / /etc /usr /usr/bin /dev /proc/sys/kernel /sys; do (echo x > $d/mark_$$) 2>/dev/null && echo $d; done; true"
    assert stdout(api, text) == ""
    assert stdout(api, "cat /etc/shadow 2>/dev/null; true") == ""


# Files.

def test_a_file_is_written_and_read(api):
    text = "h\u00e9llo\n"
    run = completed(api, action("write_file", path="a/b/c.txt", content=text), action("read_file", path="a/b/c.txt"),
                    action("write_file", path="a/b/c.txt", content="2"), action("read_file", path="a/b/c.txt"))
    wrote, read, _, again = outputs(api, run)
    assert wrote == {"written": True, "path": "a/b/c.txt", "size_bytes": 7}
    assert read == {"content": text, "size_bytes": 7, "truncated": False, "path": "a/b/c.txt"}
    assert again["content"] == "2"


def test_commands_and_files_are_in_the_same_place(api):
    run = completed(api, action("write_file", path="in", content="x"), shell("cat in; echo y > out"), action("read_file", path="out"))
    assert outputs(api, run)[1]["stdout"] == "x" and outputs(api, run)[2]["content"] == "y\n"


def test_a_large_file_is_read_in_part(api):
    run = completed(api, shell("head -c 600000 /dev/zero | tr '\\0' x > big; head -c 500000 big > fits"),
                    action("read_file", path="big"), action("read_file", path="fits"))
    big, fits = outputs(api, run)[1:]
    assert big["content"] == "x" * 500000 and big["truncated"] is True and big["size_bytes"] == 600000
    assert len(fits["content"]) == 500000 and fits["truncated"] is False


def test_what_was_read_can_be_written_whole(api):
    run = completed(api, shell("head -c 400000 /dev/zero | tr '\\0' x > big"), action("read_file", {"id": "r"}, path="big"),
                    action("write_file", path="copy", content="${{ steps.r.output.content }}"))
    assert outputs(api, run)[2]["size_bytes"] == 400000


def test_bytes_of_a_file_that_are_no_text_are_replaced(api):
    run = completed(api, shell("printf 'a\\377b' > raw"), action("read_file", path="raw"))
    assert outputs(api, run)[1]["content"] == "a\ufffdb" and outputs(api, run)[1]["size_bytes"] == 3


def test_a_directory_is_listed_by_name(api):
    run = completed(api, shell("mkdir -p here/d; cd here; echo 12345 > b; touch c a B .hidden"), action("list_directory", path="here"))
    listing = outputs(api, run)[1]
    names = [e["name"] for e in listing["entries"]]
    assert names == sorted(names) == sorted(["d", "b", "c", "a", "B", ".hidden"]) and listing["count"] == 6
    kinds = {e["name"]: (e["type"], e["size"]) for e in listing["entries"]}
    assert kinds["d"] == ("dir", None) and kinds["b"] == ("file", 6) and kinds["a"] == ("file", 0)
    top = result(api, action("list_directory"))
    assert top["path"] == "." and "here" in [e["name"] for e in top["entries"]]


def test_a_directory_is_created_with_its_parents_and_may_exist(api):
    run = completed(api, action("create_directory", path="x/y/z"), action("create_directory", path="x/y/z"), shell("test -d x/y/z"))
    assert outputs(api, run)[0] == outputs(api, run)[1] == {"created": True, "path": "x/y/z"}


def test_missing_things_fail_the_step(api):
    result(api, shell("mkdir dir; echo x > file"))
    for step in (action("read_file", path="none"), action("read_file", path="dir"), action("list_directory", path="none"),
                 action("list_directory", path="file"), action("create_directory", path="file"),
                 action("write_file", path="file/x", content=""), action("write_file", path="dir", content="")):
        run = failed(api, step)
        assert steps_of(api, run)[0]["error"]["message"]


OUTSIDE = ["../x", "a/../../x", "/etc/passwd", "..", "a/../../../etc/passwd", "./../x", "a/b/../../../x"]


@pytest.mark.parametrize("path", OUTSIDE)
def test_paths_stay_inside(api, path):
    made = define(api, action("read_file", path="${{ input.path }}"))
    for step in (action("read_file", path=path), action("list_directory", path=path), action("create_directory", path=path),
                 action("write_file", path=path, content="x")):
        answer = api.request("POST", "/v1/definitions", {"name": "p%d" % time.monotonic_ns(), "retry": {"max_attempts": 1}, "steps": [step]})
        if answer.status_code == 201:
            run = api.post(f"/v1/definitions/{answer.json()['id']}/runs")["run"]
            assert "root:" not in json.dumps(steps_of(api, reaches(api, run, "failed")))
        else:
            assert answer.status_code == 400
    run = api.post(f"/v1/definitions/{made['id']}/runs", {"input": {"path": path}})["run"]
    reaches(api, run, "failed")


def test_odd_paths_are_refused(api):
    for path in ("", "a" * 5000, "/".join(["d"] * 3000), "a\u0000b"):
        made = api.request("POST", "/v1/definitions", {"name": "o%d" % time.monotonic_ns(), "retry": {"max_attempts": 1},
                                                       "steps": [action("write_file", path=path, content="x")]})
        if made.status_code == 201:
            reaches(api, api.post(f"/v1/definitions/{made.json()['id']}/runs")["run"], "failed")


def test_links_do_not_lead_outside(api, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("do-not-show-me")
    os.chmod(tmp_path, 0o777)
    result(api, shell(f"ln -s {tmp_path} away; ln -s {secret} file; ln -s ../../../../../../etc up; ln -s {tmp_path}/new new; "
                      "ln -s /proc/self/root proc; mkdir d; ln -s ../../.. d/far"))
    for path in ("away/secret", "file", "up/passwd", "proc/etc/passwd", "d/far/etc/passwd"):
        run = failed(api, action("read_file", path=path))
        assert "do-not-show-me" not in json.dumps(steps_of(api, run)) and "root:" not in json.dumps(steps_of(api, run))
    for step in (action("write_file", path="away/made", content="x"), action("write_file", path="new", content="x"),
                 action("write_file", path="file", content="x"), action("create_directory", path="away/dir"),
                 action("list_directory", path="away"), action("list_directory", path="proc/"), shell("true", cwd="away")):
        run = ended(api, launch(api, step))
        if step["action"] == "write_file" and step["parameters"]["path"] in ("new", "file"):
            continue  # replacing the link itself is as good as refusing
        assert run["status"] == "failed", step
    assert os.listdir(tmp_path) == ["secret"] and secret.read_text() == "do-not-show-me"


def test_links_that_stay_inside_may_be_followed_or_not_but_never_harm(api):
    result(api, shell("mkdir real; echo x > real/f; ln -s real link"))
    run = ended(api, launch(api, action("read_file", path="link/f")))
    assert run["status"] in ("completed", "failed")


def test_pipes_in_the_workspace_block_nobody(api):
    result(api, shell("mkfifo pipe; mkdir full"))
    began = time.monotonic()
    for step in (action("read_file", path="pipe"), action("write_file", path="pipe", content="x"), action("list_directory", path="pipe")):
        run = ended(api, launch(api, step), 5)
        assert run["status"] == "failed" or step["action"] == "write_file"
    assert time.monotonic() - began < 5 * SLOW


def test_odd_trees_block_nobody(api):
    result(api, shell("i=0; while [ $i -lt 1500 ]; do mkdir d; cd d; i=$((i+1)); done; touch end"))
    result(api, shell("mkdir many; cd many; seq -f 'a-rather-long-name-of-a-file-number-%g' 20000 | xargs touch; printf x > \"$(printf 'bad\\377\\nname')\""))
    space = api.session.headers["X-Workspace-ID"]
    assert api.get(f"/v1/workspaces/{space}/usage")["files"] >= 20000
    run = ended(api, launch(api, action("list_directory", path="many")), 10)
    if run["status"] == "completed":
        listing = outputs(api, run)[0]
        assert len(listing["entries"]) == 20001 == listing["count"] or listing.get("truncated") is True
    else:
        assert run["error"]
    result(api, shell("rm -rf d many"))  # deeper than what cleans up after the tests can go


@pytest.mark.parametrize("parameters", [
    '{ command: "echo a\\0b" }', '{ argv: [echo, "a\\0b"] }', '{ command: "true", env: { A: "x\\0y" } }', '{ command: "true", cwd: "a\\0b" }'])
def test_a_nul_does_not_cut_anything(api, parameters):
    text = "name: nul\nretry: { max_attempts: 1 }\nsteps: [ { action: execute_command, parameters: %s } ]" % parameters
    answer = api.request("POST", "/v1/definitions", data=text, headers={"Content-Type": "application/yaml"})
    if answer.status_code == 201:
        reaches(api, api.post("/v1/definitions/nul/runs")["run"], "failed")
    else:
        assert answer.status_code == 400


# Git.

def test_a_repository_is_cloned(api, repos):
    run = completed(api, action("git_clone", {"id": "clone"}, repo=str(repos / "root/project"), shallow=False),
                    shell("git log --format=%s; cat file", cwd="${{ steps.clone.output.repo_path }}"))
    clone, log = outputs(api, run)
    assert clone["exit_code"] == 0 and clone["repo_path"] == "repos/project" and clone["cached"] is False
    assert log["stdout"] == "commit 2\ncommit 1\ncommit 0\nline 2\n"


def test_a_clone_is_shallow_unless_asked(api, repos):
    run = completed(api, action("git_clone", repo=str(repos / "root/project")), shell("git rev-list --count HEAD", cwd="repos/project"))
    assert outputs(api, run)[1]["stdout"] == "1\n"


def test_a_second_clone_brings_what_is_new(api, repos, tmp_path_factory):
    mine = repos / "root" / ("grows%d" % time.monotonic_ns())
    subprocess.run(["git", "clone", "-q", str(repos / "root/project"), str(mine)], check=True, capture_output=True)
    step = action("git_clone", repo=str(mine), shallow=False)
    first = result(api, step)
    (mine / "file").write_text("fresh\n")
    git(mine, "commit", "-qam", "more")
    run = completed(api, step, shell("cat file", cwd=first["repo_path"]))
    assert first["cached"] is False and outputs(api, run)[0]["cached"] is True
    assert outputs(api, run)[1]["stdout"] == "fresh\n"


def test_repositories_of_one_name_are_not_confused(api, repos):
    other = repos / "root" / ("other%d" % time.monotonic_ns()) / "project"
    other.parent.mkdir()
    subprocess.run(["git", "clone", "-q", str(repos / "root/project"), str(other)], check=True, capture_output=True)
    (other / "file").write_text("other\n")
    git(other, "commit", "-qam", "other")
    result(api, action("git_clone", repo=str(repos / "root/project")))
    run = ended(api, launch(api, action("git_clone", {"id": "c"}, repo=str(other)), shell("cat file", cwd="${{ steps.c.output.repo_path }}")))
    assert run["status"] == "failed" or outputs(api, run)[1]["stdout"] == "other\n"


def test_a_branch_may_be_chosen(api, repos):
    run = completed(api, action("git_clone", repo=str(repos / "root/project"), branch="side"), shell("cat file", cwd="repos/project"))
    assert outputs(api, run)[1]["stdout"] == "line 1\n"


def test_a_branch_that_is_missing_fails(api, repos):
    run = failed(api, action("git_clone", repo=str(repos / "root/project"), branch="nowhere"))
    assert steps_of(api, run)[0]["error"]["message"]


@pytest.mark.parametrize("branch", ["--upload-pack=touch x", "-b", "a..b", "a b", "a~1", "a^", "a:b", "a\\b", "/a", "a.lock", "a\nb", "", "@{u}"])
def test_names_that_are_no_branch_are_refused(api, repos, branch):
    made = define(api, action("git_clone", repo=str(repos / "root/project"), branch="${{ input.branch }}"))
    run = api.post(f"/v1/definitions/{made['id']}/runs", {"input": {"branch": branch}})["run"]
    reaches(api, run, "failed")


@pytest.mark.parametrize("place", ["outside/project", "root/../outside/project", "root", "root/none", "outside"])
def test_only_repositories_below_the_root_are_cloned(api, repos, place):
    for repo in (str(repos / place) if ".." not in place else f"{repos}/{place}", f"file://{repos}/{place}"):
        run = failed(api, action("git_clone", repo=repo))
        assert steps_of(api, run)[0]["error"]["message"]
    assert "project" not in json.dumps(result(api, action("list_directory", path=".")))


def test_a_link_below_the_root_does_not_lead_out(api, repos):
    link = repos / "root" / ("link%d" % time.monotonic_ns())
    link.symlink_to(repos / "outside/project")
    failed(api, action("git_clone", repo=str(link)))


@pytest.mark.parametrize("repo", ["--upload-pack=touch /tmp/x", "ext::sh -c 'touch x'", "ssh://192.0.2.1/x", "a@192.0.2.1:x", "../x", ""])
def test_other_sources_are_refused(api, repo):
    answer = api.request("POST", "/v1/definitions", {"name": "x", "retry": {"max_attempts": 1}, "steps": [action("git_clone", repo=repo)]})
    if answer.status_code == 201:
        reaches(api, api.post("/v1/definitions/x/runs")["run"], "failed")


def test_a_prepared_clone_does_not_run_its_hooks(api, repos):
    source = str(repos / "root/project")
    result(api, action("git_clone", repo=source, shallow=False))
    result(api, shell("printf '#!/bin/sh\\ntouch /workspace/hooked; touch hooked' > .git/hooks/post-merge; chmod +x .git/hooks/post-merge; "
                      "cp .git/hooks/post-merge .git/hooks/post-checkout; cp .git/hooks/post-merge .git/hooks/reference-transaction; "
                      "git config core.fsmonitor /workspace/repos/project/.git/hooks/post-merge", cwd="repos/project"))
    ended(api, launch(api, action("git_clone", repo=source, shallow=False)))
    assert stdout(api, "find . -name hooked") == ""


# Quota.

def small_workspace(server, size):
    space = Client(server).post("/v1/workspaces", {"name": "q", "slug": "q-%d" % time.monotonic_ns(), "quota_bytes": size})
    return Client(server, headers={"X-Workspace-ID": space["id"]}), space["id"]


def test_the_usage_of_a_workspace_is_told(api):
    api, space = small_workspace(api.server, 5000000)
    result(api, action("write_file", path="f", content="x" * 10000))
    usage = api.get(f"/v1/workspaces/{space}/usage")
    assert set(usage) == {"bytes", "quota_bytes", "files", "tasks", "runs_active"}
    assert usage["bytes"] >= 10000 and usage["quota_bytes"] == 5000000 and usage["files"] >= 1
    assert usage["tasks"] == 1 and usage["runs_active"] == 0


def test_a_workspace_does_not_grow_past_its_quota(api):
    api, space = small_workspace(api.server, 1000000)
    result(api, action("write_file", path="ok", content="x" * 1000))
    result(api, shell("head -c 800000 /dev/zero > most"))
    run = failed(api, action("write_file", path="more", content="x" * 400000))
    assert "1000000" in run["error"]
    result(api, shell("rm most"))
    result(api, action("write_file", path="more", content="x" * 400000))


@pytest.mark.parametrize("text", [
    "head -c 100000000 /dev/zero > huge; sleep 20",
    "for i in $(seq 100); do head -c 1000000 /dev/zero > part$i; sleep 0.02; done; sleep 20"], ids=["one", "many"])
def test_a_command_that_fills_the_workspace_is_stopped(api, text):
    api, space = small_workspace(api.server, 2000000)
    run = ended(api, launch(api, shell(text)), 15)
    assert run["status"] == "failed" and "2000000" in run["error"]
    assert api.get(f"/v1/workspaces/{space}/usage")["bytes"] < 50000000


def test_a_full_workspace_performs_nothing_more(api):
    api, space = small_workspace(api.server, 2000000)
    ended(api, launch(api, shell("for i in 1 2 3; do head -c 1000000 /dev/zero > part$i; done")), 15)
    run = ended(api, launch(api, shell("echo more >> more")))
    assert run["status"] == "failed" and "2000000" in run["error"]


# Logs.

def logs(api, run, **query):
    answer = api.request("GET", f"/v1/runs/{run['id']}/logs", status=200, params=query)
    assert answer.headers["Content-Type"].startswith("text/plain")
    return answer.content


def follow(api, run, last=None, after=None, stop=None):
    """Frames of the log, as (id, data), until it ends or `stop` of them came."""
    headers = dict(api.session.headers)
    if last is not None:
        headers["Last-Event-ID"] = str(last)
    query = "?follow=1" + (f"&after={after}" if after is not None else "")
    out, event = [], {}
    with requests.get(f"{api.server.url}/v1/runs/{run['id']}/logs{query}", headers=headers, stream=True, timeout=20) as answer:
        if answer.status_code == 204:
            return out
        assert answer.status_code == 200 and answer.headers["Content-Type"] == "text/event-stream"
        for line in answer.iter_lines(chunk_size=1, decode_unicode=False):
            name, _, value = line.decode().partition(": ")
            if name:
                event[name] = value
            elif event.get("event") == "log":
                out.append((int(event["id"]), json.loads(event["data"])))
                if len(out) == stop:
                    return out
            if not line:
                event = {}
    return out


def test_the_log_holds_everything(api):
    run = completed(api, shell("echo one; echo zwei >&2; head -c 150000 /dev/zero | tr '\\0' x"), noop(1), shell("echo three"))
    text = logs(api, run)
    assert b"one\n" in text and b"zwei\n" in text and b"three\n" in text and text.count(b"x") == 150000
    assert logs(api, run, after=10) == text[10:] and logs(api, run, after=len(text)) == b""


def test_a_log_is_followed_while_it_grows(api):
    run = launch(api, shell("echo first; sleep 1; echo \u00e9nd; echo err >&2"))
    frames = follow(api, run, stop=1)
    assert frames[0][1]["text"] == "first\n" and frames[0][1]["step"] == 0 and frames[0][1]["stream"] == "stdout"
    assert frames[0][0] == 6 and frames[0][1]["at"]
    assert run_of(api, run)["status"] == "running"
    rest = follow(api, run, last=frames[0][0])
    run = reaches(api, run, "completed")
    text = logs(api, run)
    assert "".join(d["text"] for _, d in frames + rest).encode() == text
    assert rest[-1][0] == len(text) and {d["stream"] for _, d in rest} == {"stdout", "stderr"}


def test_a_log_is_resumed_after_any_frame(api):
    run = completed(api, shell("for i in 1 2 3 4 5; do echo line $i; sleep 0.05; done; echo \u00e9 >&2"), shell("echo two"))
    whole, text = follow(api, run), logs(api, run)
    assert [i for i, _ in whole] == sorted({i for i, _ in whole}) and whole[-1][0] == len(text)
    assert {d["step"] for _, d in whole} == {0, 1}
    for place, _ in whole:
        assert "".join(d["text"] for _, d in follow(api, run, last=place)).encode() == text[place:]
        assert "".join(d["text"] for _, d in follow(api, run, after=place)).encode() == text[place:]


def test_the_log_of_a_run_without_commands_is_empty(api):
    run = completed(api, noop(1))
    assert logs(api, run) == b"" and follow(api, run) == []


def test_each_branch_has_its_own_log(api):
    run = completed(api, action("parallel", branches=[{"steps": [shell("echo left")]}, {"steps": [shell("echo right")]}]))
    assert [logs(api, c) for c in children_of(api, run)] == [b"left\n", b"right\n"]


# Crashes.

@pytest.fixture
def mortal(tmp_path):
    server = Server(tmp_path / "data")
    yield server
    if server.process.poll() is None:
        server.kill()


def restarted(server):
    server.kill()
    server.start()
    return Client(server)


def test_a_killed_server_goes_on_where_it_was(mortal):
    api, mark = Client(mortal), "302.%d" % time.monotonic_ns()
    run = launch(api, shell("echo x >> once"), shell(f"echo x >> twice; test $(wc -l < twice) -ge 2 || sleep {mark}", {"id": "long"}),
                 shell("echo x >> after"))
    begun(mark)
    first = steps_of(api, run)[0]
    api = restarted(mortal)
    wait_until(lambda: not found(mark), 4)
    run = reaches(api, run, "completed", 20)
    assert steps_of(api, run)[0] == first
    assert stdout(api, "wc -l < once; wc -l < twice; wc -l < after").split() == ["1", "2", "1"]
    assert run["epoch"] == 2 and "run.resumed" in types_of(api, run)
    assert types_of(api, run).count("run.step_completed") == 3


def test_a_step_that_may_not_run_twice_fails_after_a_crash(mortal):
    api, mark = Client(mortal), "303.%d" % time.monotonic_ns()
    run = launch(api, shell("echo x >> once"), shell(f"echo x >> risky; sleep {mark}", {"on_interrupt": "fail"}), noop(1))
    begun(mark)
    api = restarted(mortal)
    run = reaches(api, run, "failed", 20)
    assert [s["status"] for s in steps_of(api, run)] == ["completed", "failed", "pending"]
    assert stdout(api, "wc -l < once; wc -l < risky").split() == ["1", "1"]


def test_an_interrupted_step_may_be_passed_over(mortal):
    api, mark = Client(mortal), "304.%d" % time.monotonic_ns()
    run = launch(api, shell(f"sleep {mark}", {"on_interrupt": "fail", "on_error": "continue"}), noop("on"))
    begun(mark)
    api = restarted(mortal)
    assert outputs(api, reaches(api, run, "completed", 20))[1] == "on"


def test_what_waits_survives_a_crash(mortal):
    api, mark = Client(mortal), "305.%d" % time.monotonic_ns()
    asking = launch(api, action("approval", message="?"), noop("asked"))
    sleeping = launch(api, action("delay", seconds=1), noop("slept"))
    fan = launch(api, action("parallel", branches=[
        {"steps": [noop("done")]}, {"steps": [shell(f"echo x >> n; test $(wc -l < n) -ge 2 || sleep {mark}"), noop("again")]}]))
    approval = approval_of(api, asking)
    reaches(api, sleeping, "sleeping")
    begun(mark)
    wait_until(lambda: children_of(api, fan)[0]["status"] == "completed")
    before = children_of(api, fan)
    api = restarted(mortal)
    decide(api, approval, "approve")
    assert outputs(api, reaches(api, asking, "completed"))[1] == "asked"
    assert outputs(api, reaches(api, sleeping, "completed"))[1] == "slept"
    fan = reaches(api, fan, "completed")
    assert [b["output"] for b in outputs(api, fan)[0]["branches"]] == ["done", "again"]
    after = children_of(api, fan)
    assert [c["id"] for c in after] == [c["id"] for c in before] and after[0] == before[0]


def test_a_cancel_before_the_crash_holds_after_it(mortal):
    api, mark = Client(mortal), "306.%d" % time.monotonic_ns()
    run = launch(api, shell(f"sleep {mark}"))
    begun(mark)
    api.post(f"/v1/runs/{run['id']}/cancel", {}, 200)
    api = restarted(mortal)
    assert reaches(api, run, "canceled", 5) and not found(mark)


def test_the_log_survives_a_crash(mortal):
    api, mark = Client(mortal), "307.%d" % time.monotonic_ns()
    run = launch(api, shell("echo kept"), shell(f"echo begun; echo x >> n; test $(wc -l < n) -ge 2 || sleep {mark}"))
    begun(mark)
    wait_until(lambda: b"begun" in logs(api, run))
    api = restarted(mortal)
    run = reaches(api, run, "completed")
    text = logs(api, run)
    assert text.startswith(b"kept\n") and text.endswith(b"begun\n")
    frames = follow(api, run)
    assert "".join(d["text"] for _, d in frames).encode() == text


def test_a_run_that_is_killed_again_and_again_repeats_only_what_was_interrupted(mortal):
    api = Client(mortal)
    run = launch(api, *[shell(f"echo {n} >> steps.txt; sleep 0.1") for n in range(15)])
    for reached in (3, 6, 10):
        wait_until(lambda: len([s for s in steps_of(api, run) if s["status"] == "completed"]) >= reached)
        api = restarted(mortal)
    run = reaches(api, run, "completed", 20)
    lines = [int(n) for n in stdout(api, "cat steps.txt").split()]
    assert lines == sorted(lines) and set(lines) == set(range(15)) and len(lines) <= 15 + 3
    numbers = sorted(e["sequence"] for e in api.get(f"/v1/tasks/{run['task_id']}/timeline?limit=500")["items"])
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_stop_lets_the_step_under_way_finish(mortal):
    api = Client(mortal)
    run = launch(api, shell("echo x >> n; sleep 1; echo done"), shell("echo next"))
    step_is(api, run, 0, "running")
    mortal.stop()
    mortal.start()
    api = Client(mortal)
    run = reaches(api, run, "completed")
    assert steps_of(api, run)[0]["attempt"] == 1 and stdout(api, "wc -l < n") == "1\n"
