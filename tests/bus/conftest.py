"""Servers with a Redis, and several servers on one PostgreSQL database."""
import importlib.util
import os
import pathlib
import signal
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent


def _load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


_api = _load("bus_api", HERE.parent / "api" / "conftest.py")
_postgres = _load("bus_postgres", HERE.parent / "postgres" / "cluster.py")
_redis = _load("bus_redis", HERE / "redis_server.py")
Server, Client, wait_until, BATON, SANITIZED = _api.Server, _api.Client, _api.wait_until, _api.BATON, _api.SANITIZED
Redis, Listener = _redis.Redis, _redis.Listener
cluster, Cluster = _postgres.cluster, _postgres.Cluster


def pytest_sessionfinish():
    _postgres.finish()


class Worker:
    """`baton worker` beside the servers of a database."""

    def __init__(self, data, database, *options, **environment):
        data.mkdir(0o700, exist_ok=True)
        if not (data / "secret.key").exists():
            (data / "secret.key").touch(0o600)
            (data / "secret.key").write_bytes(Server.keys[database])
        self.data, self.log = data, pathlib.Path(f"{data}.log")
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([BATON, "worker", "--data", data, "--store", database, *options],
                                            stdout=subprocess.PIPE, stderr=log, text=True,
                                            env={**os.environ, **environment})
        said = self.process.stdout.readline()
        assert said.startswith("working as "), self.log.read_text()
        self.name = said.split(":")[1].strip()

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(timeout=60)


@pytest.fixture
def workers(tmp_path):
    """Makes workers, which end with the test."""
    made = []

    def make(database, *options, **environment):
        made.append(Worker(tmp_path / f"worker{len(made)}", database, *options, **environment))
        return made[-1]

    yield make
    for worker in made:
        if worker.process.poll() is None:
            worker.end(signal.SIGKILL)


@pytest.fixture
def redis():
    made = Redis()
    yield made
    made.remove()


@pytest.fixture
def servers(tmp_path):
    """Makes servers, which end with the test."""
    made = []

    def make(*options, **how):
        made.append(Server(tmp_path / f"data{len(made)}", *options, **how))
        return made[-1]

    yield make
    for server in made:
        if server.process.poll() is None:
            server.stop()
