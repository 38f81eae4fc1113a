"""Servers of every kind: who started them, how they keep commands apart, and a hostile command's view."""
import importlib.util
import os
import pathlib
import shutil
import signal
import tempfile
import threading
import time

import pytest
import requests

HERE = pathlib.Path(__file__).parent


def of_the_api(name, file):
    """A module beside the tests of the API."""
    spec = importlib.util.spec_from_file_location(name, HERE.parent / "api" / file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


api_conftest = of_the_api("api_conftest", "conftest.py")
web = of_the_api("web", "web.py")

BATON = api_conftest.BATON
SLOW, QUARANTINE_MIB = api_conftest.SLOW, api_conftest.QUARANTINE_MIB
Client = api_conftest.Client
wait_until = api_conftest.wait_until

# An ordinary user that nothing else of this machine runs as.
USER = 61917
SECRET = "secret-of-the-server"


def command_line(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def parent(pid):
    """0 when it is gone."""
    try:
        return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def perform(api, *steps):
    """Runs the steps, each whatever became of those before, and returns them as recorded."""
    body = {"name": f"attack-{os.urandom(6).hex()}", "retry": {"max_attempts": 1},
            "steps": [{"on_error": "continue", **step} for step in steps]}
    made = api.post("/v1/definitions", body)
    run = api.post(f"/v1/definitions/{made['id']}/runs", {"input": {}})["run"]
    wait_until(lambda: api.get("/v1/runs/" + run["id"])["status"] in ("completed", "failed"), 120)
    return api.get(f"/v1/runs/{run['id']}/steps?limit=500")["items"]


class World:
    """A server and what its commands are allowed to be: `view` says which outcomes to expect."""

    def __init__(self, user, runtime, view, options=(), without_user_namespaces=False):
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="sandbox-", dir="/var/tmp"))
        self.view = view
        program = [str(self.home / "baton")]
        shutil.copy(BATON, program[0])
        if without_user_namespaces:
            program = ["bwrap", "--unshare-user", "--uid", str(USER), "--gid", str(USER), "--dev-bind", "/", "/",
                       "--disable-userns", "--", *program]
        if user and os.geteuid() == 0:
            program = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *program]
            os.chown(self.home, USER, USER)
        os.chmod(self.home, 0o755)
        os.environ["SERVER_SECRET"] = SECRET
        try:
            self.server = api_conftest.Server(self.home / "data", "--sandbox", runtime, *options, program=program)
        finally:
            del os.environ["SERVER_SECRET"]
        self.api = Client(self.server)
        # Below setpriv it is the process itself, below bwrap a child of its child; what it starts looks like it.
        own = {pid for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
               if command_line(pid).startswith(program[-1] + " serve")}
        self.pid, = (pid for pid in own if parent(pid) not in {0, *own})

    def perform(self, *steps, workspace=None):
        api = self.api
        if workspace:
            api = Client(self.server, headers={"X-Workspace-ID": workspace})
        return perform(api, *steps)

    def stop(self):
        # The one that was started may be bubblewrap: it is told by its child's end.
        os.kill(self.pid, signal.SIGTERM)
        self.server.process.wait(timeout=20 * SLOW)
        shutil.rmtree(self.home, ignore_errors=True)


def command(text, **fields):
    return {"action": "execute_command", "parameters": {"command": text}, "timeout_seconds": 60, **fields}


def python(text, **fields):
    return {"action": "execute_command", "parameters": {"argv": [sys_python, "-c", text]}, "timeout_seconds": 60, **fields}


sys_python = "/usr/bin/python3"

#        name: who, runtime, view, user namespaces off
WORLDS = {
    "root-bwrap": (False, "bwrap", "bwrap", False),
    "root-landlock": (False, "landlock", "landlock", False),
    "user-bwrap": (True, "bwrap", "bwrap", False),
    "user-landlock": (True, "landlock", "landlock", False),
    "user-landlock-bare": (True, "landlock", "bare", True),
}
# What the attempts of the others are measured by: here they succeed.
CONTROL = {"user-trusted": (True, "trusted", "trusted", False), "root-trusted": (False, "trusted", "trusted", False)}


def make_world(name, *options):
    user, runtime, view, off = (WORLDS | CONTROL)[name]
    if not user and os.geteuid():
        pytest.skip("needs root")
    world = World(user, runtime, view, options, off)
    world.user = user
    return world


def output(step):
    assert step.get("output"), step.get("error")
    return step["output"]["stdout"]


@pytest.fixture
def the_server_answers(world):
    """Asks all the while; a healthy answer may be late on a busy machine, but it comes."""
    over, worst = threading.Event(), [0.0]

    def ask():
        while not over.wait(0.05):
            began = time.monotonic()
            requests.get(world.server.url + "/livez", timeout=5 * SLOW).raise_for_status()
            worst[0] = max(worst[0], time.monotonic() - began)
        worst.append(True)

    asking = threading.Thread(target=ask)
    asking.start()
    yield
    over.set()
    asking.join()
    assert worst[1:] and worst[0] < SLOW, f"/livez took {worst[0]:.2f} s"
