"""Servers with a Redis, and several servers on one PostgreSQL database."""
import importlib.util
import pathlib
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
Server, Client, wait_until, BATON = _api.Server, _api.Client, _api.wait_until, _api.BATON
Redis, Listener = _redis.Redis, _redis.Listener
cluster, Cluster = _postgres.cluster, _postgres.Cluster


def pytest_sessionfinish():
    _postgres.finish()


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
