"""git_clone and git_pull over HTTP: real git, a real smart-HTTP server, tokens by reference."""
import base64
import json
import time

import pytest
from conftest import Client, Server
from flows import action, completed, definition, ended, events_of, failed, found, launch, outputs, reaches, result, steps_of
from repository import git, repository
from web import Git, Site

TOKEN = "tok-3n/Zq+81 vXw"
CODED = base64.b64encode(("x-access-token:" + TOKEN).encode()).decode()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    root = tmp_path_factory.mktemp("served")
    for name in ("public/project", "private/project"):
        path = root / name
        repository(path, "trunk", "version %d\n", range(1, 4))
        git(path, "tag", "v1", "HEAD~2")
    with Site(Git) as site:
        site.root, site.password = root, "x-access-token:" + TOKEN
        yield site


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("git") / "data", "--egress-allow", "127.0.0.1", "--concurrency", "4")
    yield server
    server.process.kill()
    server.process.wait()


@pytest.fixture
def api(api):
    api.request("PUT", "/v1/secrets/token", {"value": TOKEN}, 204)
    return api


def shell(text, **parameters):
    return action("execute_command", command=text, **parameters)


def commit_more(path):
    (path / "file").write_text("version %d\n" % time.monotonic_ns())
    git(path, "commit", "-qam", "more")
    return git(path, "rev-parse", "HEAD").strip()


def test_a_public_repository_is_cloned_without_a_token(api, site):
    run = completed(api, action("git_clone", {"id": "c"}, repo=site.url + "/public/project", shallow=False),
                    shell("git log --format=%s; cat file; git status --porcelain; git branch -a; git config -l --local",
                          cwd="${{ steps.c.output.repo_path }}"))
    clone, log = outputs(api, run)
    assert clone["repo_path"] == "repos/project" and clone["cached"] is False and clone["branch"] == "trunk"
    assert clone["commit"] == git(site.root / "public/project", "rev-parse", "HEAD").strip()
    lines = log["stdout"].splitlines()
    assert lines[:4] == ["commit 3", "commit 2", "commit 1", "version 3"]
    assert "* trunk" in lines and "  remotes/origin/side" in lines
    assert f"remote.origin.url={site.url}/public/project" in lines
    assert not any("worktree" in line for line in lines)


def test_a_repository_at_an_ipv6_address_is_cloned(tmp_path, site):
    server = Server(tmp_path / "data", "--egress-allow", "::1")
    try:
        with Site(Git, "::1") as other:
            other.root = site.root
            run = completed(Client(server), action("git_clone", repo=other.url + "/public/project"),
                            action("git_clone", {"on_error": "continue"}, repo=site.url + "/public/project", path="repos/other"))
        made, refused = steps_of(Client(server), run)
        assert made["output"]["branch"] == "trunk" and "--egress-allow" in refused["error"]["message"]
    finally:
        server.stop()


@pytest.mark.parametrize("branch, version", [("side", "version 2\n"), ("v1", "version 1\n")])
def test_a_branch_or_tag_is_taken_when_named(api, site, branch, version):
    run = completed(api, action("git_clone", repo=site.url + "/public/project", branch=branch),
                    shell("cat file; git rev-list --count HEAD", cwd="repos/project"))
    assert outputs(api, run)[1]["stdout"] == version + "1\n"


def test_a_private_repository_is_cloned_with_a_token_that_nobody_sees(api, site):
    repo = site.url + "/private/project"
    run = completed(api, action("git_clone", {"id": "c"}, repo=repo, token_secret="token", shallow=False),
                    shell("cat file; cat .git/config; grep -rc tok- .git | grep -v :0; true", cwd="repos/project"))
    out = outputs(api, run)[1]["stdout"]
    assert out.startswith("version 3\n") and "extraHeader" not in out and ":1" not in out
    assert any(r["authorization"] == "Basic " + CODED for r in site.requests)
    told = json.dumps([steps_of(api, run), events_of(api, run)])
    assert TOKEN not in told and CODED not in told
    assert steps_of(api, run)[0]["input"] == {"repo": repo, "token_secret": "token", "shallow": False}


def test_a_private_repository_without_or_with_a_wrong_token_says_what_is_missing(api, site):
    repo = site.url + "/private/project"
    run = failed(api, action("git_clone", repo=repo))
    assert "name a secret in token_secret" in run["error"]
    api.request("PUT", "/v1/secrets/wrong", {"value": "not-the-token"}, 204)
    run = failed(api, action("git_clone", repo=repo, token_secret="wrong"))
    assert "refuses the token" in run["error"]
    run = failed(api, action("git_clone", repo=repo, token_secret="nowhere"), kind="policy")
    assert 'no secret "nowhere"' in run["error"]
    assert result(api, action("list_directory", path="repos"))["entries"] == [{"name": "project.lock", "type": "file", "size": 0}]


def test_the_user_name_of_the_token_can_be_given(api, site):
    with Site(Git) as other:
        other.root, other.password = site.root, "me:" + TOKEN
        result(api, action("git_clone", repo=other.url + "/private/project", token_secret="token", username="me"))
    api.problem("POST", "/v1/definitions", 400, "validation_failed",
                definition(action("git_clone", repo="https://x/y", token_secret="token", username="a:b")))


def test_the_token_is_in_no_argument_of_a_process(api, site):
    """A server that holds the answer back gives time to look."""
    import threading
    gate, there = threading.Event(), threading.Event()

    class Held(Git):
        def serve(self):
            there.set()
            gate.wait(20)
            super().serve()
        do_GET = do_POST = serve
    with Site(Held) as held:
        held.root, held.password = site.root, site.password
        run = launch(api, action("git_clone", repo=held.url + "/private/project", token_secret="token"))
        assert there.wait(20)
        assert found(held.url + "/private/project")
        assert not found(TOKEN) and not found(CODED)
        gate.set()
        reaches(api, run, "completed")


def test_cloning_again_brings_it_up_to_date(api, site):
    path, repo = site.root / "private/project", site.url + "/private/project"
    step = action("git_clone", repo=repo, token_secret="token", shallow=False)
    result(api, step)
    tip = commit_more(path)
    again = result(api, step)
    assert again["cached"] is True and again["commit"] == tip
    assert result(api, shell("git rev-list --count HEAD; git status --porcelain", cwd="repos/project"))["stdout"] == \
        git(path, "rev-list", "--count", "HEAD")


@pytest.mark.parametrize("shallow", [True, False])
def test_a_pull_follows_the_remote_and_drops_local_changes(api, site, shallow):
    path, repo = site.root / "public/project", site.url + "/public/project"
    result(api, action("git_clone", repo=repo, shallow=shallow))
    tip = commit_more(path)
    result(api, shell("echo mine > file", cwd="repos/project"))
    pulled = result(api, action("git_pull", path="repos/project"))
    assert pulled["commit"] == tip and pulled["cached"] is True
    assert result(api, shell("git status --porcelain; git fsck", cwd="repos/project"))["stdout"] == ""


def test_a_private_clone_is_pulled_with_a_token_for_the_named_repo(api, site):
    path, repo = site.root / "private/project", site.url + "/private/project"
    result(api, action("git_clone", repo=repo, token_secret="token"))
    tip = commit_more(path)
    assert result(api, action("git_pull", path="repos/project", repo=repo, token_secret="token"))["commit"] == tip
    problem = api.problem("POST", "/v1/definitions", 400, "validation_failed",
                          definition(action("git_pull", path="repos/project", token_secret="token")))
    assert "only to a repo that the step names" in json.dumps(problem)


def test_a_pull_of_nothing_asks_to_clone_first(api, site):
    run = failed(api, action("git_pull", path="repos/none"))
    assert "git_clone it first" in run["error"]
    run = failed(api, action("git_pull", path="repos/none", repo=site.url + "/public/project"))
    assert "git_clone it first" in run["error"]


def test_a_prepared_clone_gets_no_token_and_leads_nowhere_else(api, site):
    """What a command can write into a clone has no say in where the token goes or what sees it."""
    repo = site.url + "/private/project"
    result(api, action("git_clone", repo=repo, token_secret="token", shallow=False))
    with Site(Git) as thief:
        thief.root, thief.password = site.root, "-"
        spy = "printf '#!/bin/sh\\nenv >> /workspace/seen; cat' > /workspace/spy; chmod +x /workspace/spy; "
        traps = [f"url.{thief.url}/.insteadOf {site.url}/", f"http.proxy {thief.url}", "core.fsmonitor /workspace/spy",
                 "core.hooksPath /workspace/hooks", "credential.helper '!/workspace/spy'", "core.sshCommand /workspace/spy",
                 "filter.x.smudge /workspace/spy", "filter.x.process /workspace/spy", "core.askPass /workspace/spy",
                 "remote.origin.uploadpack /workspace/spy", "core.gitProxy /workspace/spy", "http.sslVerify false"]
        result(api, shell(spy + "mkdir -p /workspace/hooks; cp /workspace/spy /workspace/hooks/reference-transaction; "
                          "cp /workspace/spy /workspace/hooks/post-checkout; echo '* filter=x' > .git/info/attributes; "
                          + "".join(f"git config {trap}; " for trap in traps), cwd="repos/project"))
        commit_more(site.root / "private/project")
        for step in (action("git_clone", repo=repo, token_secret="token", shallow=False),
                     action("git_pull", path="repos/project", repo=repo, token_secret="token")):
            ended(api, launch(api, step))
        assert thief.requests == []
    seen = result(api, shell("cat /workspace/seen; true"))["stdout"]
    assert "***" not in seen and "Basic" not in seen and "http.extraHeader" not in seen


def test_an_origin_that_was_changed_is_judged_like_any_other(api, site):
    result(api, action("git_clone", repo=site.url + "/public/project"))
    for url in ("http://10.0.0.1/x", "http://169.254.169.254/x", "ext::sh -c id", "/etc", "http://[::1]:1/x", ""):
        result(api, shell(f"git config remote.origin.url '{url}'", cwd="repos/project"))
        failed(api, action("git_pull", path="repos/project"))


def test_redirects_are_not_followed(api, site):
    with Site(Git) as other:
        other.root, other.password = site.root, site.password
        site.elsewhere = other.url
        failed(api, action("git_clone", repo=site.url + "/moved/private/project", token_secret="token"))
        assert other.requests == []


@pytest.mark.parametrize("repo", ["ssh://192.0.2.1/x", "git@192.0.2.1:x", "ext::sh -c 'touch x'", "git://127.0.0.1/x", "ftp://127.0.0.1/x",
                                  "http://u:p@127.0.0.1/x", "http://10.1.2.3/x", "http://192.168.0.1/x", "http://[::1]/x",
                                  "http://169.254.169.254/latest/x", "http://0/x", "http://127.0.0.1:22/x", "-u./x", "http://"])
def test_other_sources_are_refused(api, repo):
    run = failed(api, action("git_clone", repo=repo, token_secret="token"), kind="policy")
    assert "p@" not in run["error"]


def test_without_permission_loopback_is_out_of_reach(tmp_path, site):
    server = Server(tmp_path / "data")
    try:
        before = len(site.requests)
        api = Client(server)
        for host in ("127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[::ffff:127.0.0.1]"):
            run = failed(api, action("git_clone", repo=f"http://{host}:{site.port}/public/project"), kind="policy")
            assert "--egress-allow" in run["error"] or "port" in run["error"], run["error"]
        assert len(site.requests) == before
    finally:
        server.stop()


def test_branches_that_clone_the_same_repository_at_once_end_well(api, site):
    branch = {"steps": [action("git_clone", repo=site.url + "/public/project", shallow=False)]}
    run = completed(api, action("parallel", branches=[branch] * 4), shell("git status --porcelain; git fsck; ls ..", cwd="repos/project"))
    assert outputs(api, run)[1]["stdout"] == "project\nproject.lock\n"


def test_a_clone_that_does_not_answer_is_canceled_at_once(api, site):
    import threading
    gate, there = threading.Event(), threading.Event()

    class Held(Git):
        def serve(self):
            there.set()
            gate.wait(30)
        do_GET = do_POST = serve
    with Site(Held) as held:
        run = launch(api, action("git_clone", repo=held.url + "/public/project"))
        assert there.wait(20)
        api.post(f"/v1/runs/{run['id']}/cancel", {}, 200)
        assert ended(api, run, 5)["status"] == "canceled"
        run = launch(api, action("git_clone", {"timeout_seconds": 1}, repo=held.url + "/public/project"))
        assert ended(api, run)["failure_kind"] == "timed_out"
        assert "no end within 1 s" in steps_of(api, run)[0]["error"]["message"]
        gate.set()
