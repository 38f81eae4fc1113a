"""The commands as a user types them, against a real server or a stand-in that plays a script."""
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import time

import pytest

HERE = pathlib.Path(__file__).parent
_spec = importlib.util.spec_from_file_location("api_conftest", HERE.parent / "api" / "conftest.py")
api_conftest = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(api_conftest)

BATON = api_conftest.BATON
SLOW = api_conftest.SLOW
wait_until = api_conftest.wait_until


def environment(**more):
    """Nothing of the developer's own settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("BATON") and k not in ("NO_COLOR", "TERM")}
    return {**kept, "TERM": "xterm", **more}


class Cli:
    def __init__(self, data):
        self.data = str(data)

    def start(self, *words, env=None, **options):
        return subprocess.Popen([BATON, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env=environment(**{"BATON_DATA": self.data, **(env or {})}), **options)

    def __call__(self, *words, status=0, env=None, **options):
        process = self.start(*words, env=env, **options)
        out, err = process.communicate(timeout=60)
        assert process.returncode == status, (words, process.returncode, out, err)
        self.out, self.err = out, err
        return out

    def json(self, *words, **options):
        return json.loads(self(*words, "-o", "json", **options))

    def lines(self, *words, **options):
        return [json.loads(line) for line in self(*words, "-o", "jsonl", **options).splitlines()]


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = api_conftest.Server(tmp_path_factory.mktemp("cli") / "data")
    yield server
    server.stop()


@pytest.fixture
def api(server):
    return api_conftest.Client(server)


@pytest.fixture
def cli(server):
    return Cli(server.data)


@pytest.fixture
def own_server(tmp_path):
    server = api_conftest.Server(tmp_path / "data")
    yield server
    if server.process.poll() is None:
        server.stop()


class StandIn:
    def __init__(self, data):
        self.data = data
        self.start()

    def start(self):
        self.process = subprocess.Popen([sys.executable, str(HERE / "stand_in.py"), "--data", str(self.data)])
        try:
            wait_until(self.answers)
        except BaseException:
            self.kill()
            raise

    def answers(self):
        return subprocess.run([BATON, "task", "get", "x", "--server", f"unix:{self.data}/baton.sock"],
                              env=environment(), capture_output=True).returncode == 3

    def kill(self):
        self.process.kill()
        self.process.wait()

    @property
    def state(self):
        return json.loads((self.data / "state.json").read_text())


@pytest.fixture
def stand_in(tmp_path):
    data = tmp_path / "stand-in"
    data.mkdir()
    server = StandIn(data)
    yield server
    server.kill()


@pytest.fixture
def unique():
    return "n%d" % time.monotonic_ns()
