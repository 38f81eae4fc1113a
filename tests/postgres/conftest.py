"""Servers on PostgreSQL databases, which the tests start, stop and look into."""
import importlib.util
import os
import pathlib

import pytest

os.environ["STORE"] = "postgres"
_spec = importlib.util.spec_from_file_location("postgres_api",
                                               pathlib.Path(__file__).parents[1] / "api" / "conftest.py")
_api = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_api)
Server, Client, wait_until, BATON = _api.Server, _api.Client, _api.wait_until, _api.BATON
Cluster, cluster = _api.postgres.Cluster, _api.postgres.cluster
pytest_sessionfinish = _api.pytest_sessionfinish


@pytest.fixture
def database():
    return cluster().database()


@pytest.fixture
def server(tmp_path, database):
    server = Server(tmp_path / "data", "--store", database)
    yield server
    if server.process.poll() is None:
        server.stop()


@pytest.fixture
def api(server):
    return Client(server)
