"""
A real server in a directory of its own, and a client that knows the contract.  With STORE=postgres in the
environment each server has a PostgreSQL database of its own instead of a file.
"""
import importlib.util
import inspect
import json
import os
import pathlib
import re
import signal
import socket
import sqlite3
import subprocess
import time

import pytest
import requests

BATON = os.environ.get("BATON", str(pathlib.Path(__file__).parents[2] / "build" / "baton"))

ON_POSTGRES = os.environ.get("STORE") == "postgres"
SANITIZED = "ASAN_OPTIONS" in os.environ  # by either sanitizer: the Makefile sets it for both
QUARANTINE_MIB = 192 if SANITIZED else 0  # so much of what was freed the address sanitizer keeps, and of what it knows about it


def _load(name, path):
    spec = importlib.util.spec_from_file_location(name, pathlib.Path(__file__).parents[1] / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if ON_POSTGRES:
    import psycopg2
    postgres = _load("postgres_cluster", "postgres/cluster.py")


def _looks_into_the_file(function, seen):
    """Itself, or by a function, fixture or class of its module that it names."""
    source, others = inspect.getsource(function), vars(inspect.getmodule(function))
    seen.add(function)
    return bool(re.search(r"baton\.db|copy_live|all_bytes|--database|sqlite_schema|PRAGMA|pragma_|EXPLAIN QUERY| MATCH ", source)) or any(
        _looks_into_the_file(others[name], seen) for name in set(re.findall(r"\b(\w+)\b", source))
        if (inspect.isfunction(others.get(name)) or inspect.isclass(others.get(name))) and others[name].__module__ == function.__module__
        and others[name] not in seen)


def pytest_sessionfinish():
    if ON_POSTGRES:
        postgres.finish()


def pytest_collection_modifyitems(items):
    for item in items:
        if ON_POSTGRES and _looks_into_the_file(item.function, set()):
            item.add_marker(pytest.mark.skip(reason="it looks into SQLite's file"))


def _slowness():
    """How much longer than usual this machine takes just now; patience is stretched by it."""
    began, total = time.monotonic(), 0
    for i in range(1000000):
        total += i
    return min(10.0, max(2.0, (time.monotonic() - began) / 0.03))


SLOW = _slowness()


def wait_until(check, seconds=10, every=0.02):
    deadline = time.monotonic() + seconds * SLOW
    while True:
        value = check()
        if value:
            return value
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(every)


def number_of(id):
    """An id such as task_0c5q8v2k7m1xa as the database has it."""
    value = 0
    for digit in id.split("_")[1]:
        value = value * 32 + "0123456789abcdefghjkmnpqrstvwxyz".index(digit)
    return value


class Server:
    keys = {}  # of a database that several use: its secret.key

    def __init__(self, data, *options, program=(BATON,)):
        self.data = pathlib.Path(data)
        self.program = program
        self.options = options
        if ON_POSTGRES and "--store" not in options:
            self.options = (*options, "--store", postgres.cluster().database())
        self.process = None
        self.start()

    def rows(self, query, *arguments):
        """Of its database, whether it runs or not; the query is what both kinds of them take."""
        if ON_POSTGRES:
            db = psycopg2.connect(self.store())
            try:
                with db.cursor() as cursor:
                    cursor.execute(query.replace("%", "%%").replace("?", "%s"), arguments)
                    return [tuple(bytes(v) if isinstance(v, memoryview) else v for v in row) for row in cursor]
            finally:
                db.close()
        db = sqlite3.connect(f"file:{self.data}/baton.db?mode=ro", uri=True, timeout=20)
        try:
            return db.execute(query, arguments).fetchall()
        finally:
            db.close()

    def cpu_seconds(self):
        """That it has taken of the processors until now."""
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def store(self):
        return self.options[self.options.index("--store") + 1]

    def analyze(self):
        """What PostgreSQL does by itself within a minute: it plans by the numbers of rows that it has seen."""
        if ON_POSTGRES:
            postgres.cluster().sql(self.store(), "ANALYZE")

    def columns(self):
        """Those of each table of the schema, but for the index of texts and what an engine has of its own."""
        of_file = "SELECT t.name, c.name FROM sqlite_schema AS t, pragma_table_info(t.name) AS c WHERE t.type = 'table'"
        of_server = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
        tables = {}
        for table, column in self.rows(of_server if ON_POSTGRES else of_file):
            if not table.startswith(("task_text", "commit_mark", "server")):
                tables.setdefault(table, set()).add(column)
        return tables

    def count(self, what, *arguments):
        return self.rows("SELECT count(*) FROM " + what, *arguments)[0][0]

    def share_key(self):
        """Who uses a database has the same secret.key."""
        store = self.options[self.options.index("--store") + 1] if "--store" in self.options else None
        path = self.data / "secret.key"
        if store and path.exists():
            self.keys.setdefault(store, path.read_bytes())
        elif store in self.keys:
            self.data.mkdir(0o700, exist_ok=True)
            path.touch(0o600)
            path.write_bytes(self.keys[store])

    def start(self, ready=True):
        self.share_key()
        listen = self.data / "listen"
        if listen.exists():
            listen.unlink()
        self.log = open(str(self.data) + ".log", "ab")
        self.process = subprocess.Popen(
            [*self.program, "serve", "--data", str(self.data), "--listen", "127.0.0.1:0", *self.options],
            stdout=self.log, stderr=self.log)
        wait_until(lambda: self.process.poll() is not None or listen.exists())
        assert self.process.poll() is None, open(self.log.name).read()
        self.address = listen.read_text()
        self.url = "http://" + self.address
        self.key = (self.data / "admin.key").read_text()
        self.share_key()
        if ready:
            wait_until(self.is_ready)

    def is_ready(self):
        try:
            return requests.get(self.url + "/readyz", timeout=2).status_code == 200
        except requests.ConnectionError:
            return False

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        self.process.terminate()
        assert self.process.wait(timeout=20 * SLOW) == 0

    def raw(self, data, seconds=5):
        """Sends bytes as they are and returns everything that comes back."""
        host, port = self.address.rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=seconds) as s:
            s.sendall(data)
            out = b""
            try:
                while True:
                    piece = s.recv(65536)
                    if not piece:
                        break
                    out += piece
            except (socket.timeout, ConnectionResetError):
                pass
            return out


class Client:
    watch = staticmethod(lambda server, answer: None)  # is shown every answer that was read whole

    def __init__(self, server, key=None, headers=None):
        self.server = server
        self.session = requests.Session()
        self.session.headers["Authorization"] = "Bearer " + (key or server.key)
        self.session.headers.update(headers or {})

    def again(self):
        """The same client with connections of its own, for another thread."""
        return Client(self.server, headers={"X-Workspace-ID": self.session.headers["X-Workspace-ID"]})

    def request(self, method, path, body=None, status=None, **options):
        if body is not None:
            options["data"] = json.dumps(body)
            options.setdefault("headers", {})["Content-Type"] = "application/json"
        options.setdefault("timeout", 20)
        answer = self.session.request(method, self.server.url + path, **options)
        if not options.get("stream"):
            self.watch(self.server, answer)
        if status is not None:
            assert answer.status_code == status, (method, path, answer.status_code, answer.text)
        return answer

    def get(self, path, status=200, **options):
        return self.request("GET", path, status=status, **options).json()

    def post(self, path, body=None, status=201, **options):
        answer = self.request("POST", path, body if body is not None else {}, status, **options)
        return answer.json() if answer.content else None

    def problem(self, method, path, status, code, body=None, **options):
        answer = self.request(method, path, body, status, **options)
        assert answer.headers["Content-Type"] == "application/problem+json"
        problem = answer.json()
        assert problem["code"] == code, problem
        assert problem["status"] == status and problem["title"] and problem["detail"]
        return problem

    # Shorthands of the domain.
    def task(self, **fields):
        return self.post("/v1/tasks", {"title": "a task", **fields})

    def started(self, **fields):
        return self.task(start=True, **fields)

    def claim(self, **fields):
        answer = self.request("POST", "/v1/runs/claim", fields)
        return answer.json()["claims"] if answer.status_code == 200 else []

    def claimed(self, capability, **fields):
        """A run of its own: nobody else of this test process has the capability."""
        made = self.started(required_capabilities=[capability])
        claim = self.claim(capabilities=[capability], **fields)[0]
        assert claim["run"]["id"] == made["run"]["id"]
        return claim

    def key_for(self, **fields):
        body = {"name": "test", "actor_kind": "agent_session", "ref": "agent",
                "scopes": ["tasks:read", "tasks:write", "runs:claim"], **fields}
        return self.post("/v1/keys", body)


@pytest.fixture(scope="session", autouse=True)
def described():
    """Whatever the tests ask, the server's own description must say."""
    from description import Watch
    Client.watch = staticmethod(Watch())


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server") / "data")
    yield server
    server.stop()


@pytest.fixture
def api(server):
    """A client in a workspace of its own: tests do not see each other's work."""
    space = Client(server).post("/v1/workspaces", {"name": "w", "slug": "w-%d" % time.monotonic_ns()})
    return Client(server, headers={"X-Workspace-ID": space["id"]})


@pytest.fixture
def capability(request):
    return "cap-" + str(abs(hash(request.node.nodeid + str(time.monotonic_ns()))))


@pytest.fixture
def own_server(tmp_path):
    server = Server(tmp_path / "data")
    yield server
    if server.process.poll() is None:
        server.stop()
