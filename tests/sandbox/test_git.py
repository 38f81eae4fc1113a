"""git_clone and git_pull in sandboxes of every kind: the same repository, whoever started the server."""
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest
from conftest import CONTROL, USER, WORLDS, command, make_world, output, web


def git(where, *arguments):
    return subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "safe.directory=*", "-C", str(where), *arguments],
                          check=True, capture_output=True, text=True).stdout.strip()


def commit(path, text):
    (path / "file").write_text(text + "\n")
    git(path, "add", "file")
    git(path, "commit", "-qm", text)
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", str(USER), str(path)], check=True)
    return git(path, "rev-parse", "HEAD")


@pytest.fixture
def served():
    """A directory of repositories, theirs who is none of the workspaces."""
    root = pathlib.Path(tempfile.mkdtemp(prefix="served-", dir="/var/tmp"))
    root.chmod(0o755)
    project = root / "project"
    project.mkdir()
    git(project, "init", "-q", "-b", "trunk")
    commit(project, "first")
    yield root
    shutil.rmtree(root)


@pytest.fixture(params=[*WORLDS, *CONTROL])
def world(request, served):
    world = make_world(request.param, "--git-local-root", str(served), "--egress-allow", "127.0.0.1")
    yield world
    world.stop()


@pytest.fixture
def planted():
    """What another user of the machine could have left where git once kept its settings."""
    place = pathlib.Path("/tmp/git")
    try:
        place.mkdir()
    except FileExistsError:  # a test beside this one
        yield
        return
    (place / "config").write_text("[core]\n\trepositoryformatversion = 99\n")
    yield
    shutil.rmtree(place)


def clone(repo, **parameters):
    return {"action": "git_clone", "parameters": {"repo": str(repo), **parameters}}


def commit_of(step):
    assert step["status"] == "completed", step.get("error")
    return step["output"]["commit"]


def test_a_local_repository_is_cloned_and_brought_up_to_date(world, served, planted):
    space = world.api.post("/v1/workspaces", {"name": "g", "slug": "g"})["id"]
    tip = git(served / "project", "rev-parse", "HEAD")
    made, again = world.perform(clone(served / "project"), clone(served / "project"), workspace=space)
    assert commit_of(made) == tip and made["output"]["cached"] is False
    assert commit_of(again) == tip and again["output"]["cached"] is True
    tip = commit(served / "project", "second")
    pulled, again, other, seen, left = world.perform(
        {"action": "git_pull", "parameters": {"path": "repos/project", "repo": str(served / "project")}},
        clone(served / "project"), clone(served / "project", path="repos/other"), command("cat repos/*/file"),
        command("ls -A \"${TMPDIR:-/tmp}\""), workspace=space)
    assert [commit_of(step) for step in (pulled, again, other)] == [tip] * 3
    assert output(seen) == "second\nsecond\n" and output(left) == ""


def test_a_remote_one_is_too_with_its_token(world, served, planted):
    space = world.api.post("/v1/workspaces", {"name": "g", "slug": "g"})["id"]
    world.api.request("PUT", "/v1/secrets/token", {"value": "the-token"}, 204, headers={"X-Workspace-ID": space})
    (served / "project").rename(served / "private")
    with web.Site(web.Git) as site:
        site.root, site.password = served, "x-access-token:the-token"
        step = clone(site.url + "/private/.git", path="repos/project", token_secret="token")
        made, again, left = world.perform(step, step, command("ls -A \"${TMPDIR:-/tmp}\""), workspace=space)
    if world.view == "bare":  # as documented
        assert "Landlock without namespaces has no network to give" in made["error"]["message"]
        return
    tip = git(served / "private", "rev-parse", "HEAD")
    assert [commit_of(made), commit_of(again)] == [tip] * 2 and again["output"]["cached"] is True
    assert output(left) == "" and "the-token" not in str([made, again])
