"""Servers whose clocks, processor or disk are disturbed from outside."""
import importlib.util
import pathlib
import subprocess

import pytest

HERE = pathlib.Path(__file__).parent
_spec = importlib.util.spec_from_file_location("api_conftest", HERE.parent / "api" / "conftest.py")
api_conftest = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(api_conftest)

BATON, SLOW, wait_until = api_conftest.BATON, api_conftest.SLOW, api_conftest.wait_until
Client = api_conftest.Client
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"


class Server(api_conftest.Server):
    def client(self):
        return Client(self, headers={"X-Workspace-ID": self.workspace})

    def start(self):
        super().start()
        if not hasattr(self, "workspace"):
            self.workspace = Client(self).get("/v1/workspaces")["items"][0]["id"]


class WallClock:
    """What the server takes for the time of day: the true one plus an offset."""

    def __init__(self, path):
        self.path = path
        self.set(0)

    def set(self, seconds):
        new = self.path.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.rename(self.path)
        self.seconds = seconds

    def prefix(self):
        return ["env", f"LD_PRELOAD={FAKETIME}", f"FAKETIME_TIMESTAMP_FILE={self.path}",
                "FAKETIME_NO_CACHE=1", "DONT_FAKE_MONOTONIC=1"]


@pytest.fixture
def wall(tmp_path):
    return WallClock(tmp_path / "offset")


@pytest.fixture
def slow_sync(tmp_path):
    """(prefix, the file that makes every sync of the database slow)."""
    shim, mark = tmp_path / "slow_sync.so", tmp_path / "slow"
    subprocess.run(["gcc", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", shim, HERE / "slow_sync.c"], check=True)
    return ["env", f"LD_PRELOAD={shim}", f"SLOW_SYNC={mark}"], mark


@pytest.fixture
def launch(tmp_path):
    """Starts servers and ends them."""
    servers = []

    def start(prefix=(), *options):
        servers.append(Server(tmp_path / f"data{len(servers)}", *options, program=(*prefix, BATON)))
        return servers[-1]
    yield start
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
