"""`baton db` where PostgreSQL is one end: copies to it and back, and what may not be copied."""
import json
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import sys

import pytest

sys.path[:0] = [str(pathlib.Path(__file__).parent)]
import large

from conftest import BATON, Client, Server, cluster, wait_until

CONFLICT = 5
INDEX = ("searched", "task_text")  # made anew where the copy is
TABLES = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"


def baton(*words, status=0):
    done = subprocess.run([BATON, "db", *map(str, words)], capture_output=True, text=True, timeout=300)
    assert done.returncode == status, (words, done.returncode, done.stdout, done.stderr)
    return done.stdout if status == 0 else done.stderr


def copied(*words):
    return {table["name"]: (table["rows"], table["digest"]) for table in json.loads(baton("copy", *words, "-o", "json"))["tables"]}


@pytest.fixture
def file(tmp_path):
    """The data directory of a stopped server with a file."""
    server = Server(tmp_path / "file", "--store", "", "--concurrency", "0")
    api = Client(server)
    for n in range(5):
        api.started(title=f"tâche {n}")
    claim = api.claim()[0]
    api.post(f"/v1/runs/{claim['run']['id']}/complete", {"claim_token": claim["claim_token"]}, 200)
    server.stop()
    return server.data


def test_a_copy_of_5000_events_and_its_copy_back_have_the_same_digests(file, database, tmp_path):
    assert large.multiply(file / "baton.db", 100, 10) == {"task": 500, "run": 500, "event": 5000}
    first = copied("--data", file, "--to", database)
    back = copied("--store", database, "--to", tmp_path / "back.db")
    assert first == back and first["event"][0] == 5000
    baton("restore", tmp_path / "back.db", "--verify")


def test_a_server_goes_on_where_the_other_engine_stopped(file, database, tmp_path):
    copied("--data", file, "--to", database)
    for name in ("admin.key", "secret.key"):
        (tmp_path / "data").mkdir(exist_ok=True, mode=0o700)
        (tmp_path / "data" / name).write_bytes((file / name).read_bytes())
        (tmp_path / "data" / name).chmod(0o600)
    server = Server(tmp_path / "data", "--store", database)
    api = Client(server)
    seen = {task["title"]: task["status"] for task in api.get("/v1/tasks")["items"]}
    assert len(seen) == 5 and list(seen.values()).count("completed") == 1
    made = api.started(title="new", required_capabilities=["a-new-name"])
    claims = [api.claim(capabilities=["a-new-name"])[0] for _ in range(5)]
    for claim in claims:
        api.post(f"/v1/runs/{claim['run']['id']}/complete", {"claim_token": claim["claim_token"]}, 200)
    assert made["run"]["id"] in [claim["run"]["id"] for claim in claims]
    server.stop()
    back = copied("--store", database, "--to", tmp_path / "back.db")
    assert back["task"][0] == 6
    baton("restore", tmp_path / "back.db", "--verify")
    baton("restore", tmp_path / "back.db", "--data", tmp_path / "again")
    shutil.copy(file / "secret.key", tmp_path / "again")
    server = Server(tmp_path / "again", "--store", "")
    assert len(Client(server).get("/v1/tasks")["items"]) == 6
    server.stop()


def test_a_freshly_migrated_database_is_a_target_and_one_with_rows_is_none(file, database):
    baton("migrate", "--apply", "--store", database)
    first = copied("--data", file, "--to", database)
    assert "the target is not empty" in baton("copy", "--data", file, "--to", database, status=CONFLICT)
    state = json.loads(baton("status", "--store", database, "-o", "json"))
    there = {table["name"]: table["rows"] for table in state["tables"]}
    assert {name: rows for name, rows in there.items() if name not in INDEX} == {name: rows for name, (rows, _) in first.items()}


def test_a_database_that_a_server_uses_is_no_target(file, server, database):
    assert json.loads(baton("status", "--store", database, "-o", "json"))["served"]
    assert "a server uses the target" in baton("copy", "--data", file, "--to", database, status=6)


def test_a_copy_that_is_killed_leaves_the_target_empty(file, database):
    large.multiply(file / "baton.db", 2000, 10)
    process = subprocess.Popen([BATON, "db", "copy", "--data", file, "--to", database])
    wait_until(lambda: process.poll() is not None or cluster().sql(database, "SELECT 1 FROM pg_stat_progress_copy"
                                                                   " WHERE tuples_processed > 1000"))
    assert process.poll() is None, "it was over too soon"
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: cluster().sql(database, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                                     " AND application_name = 'baton'") == ["0"], 30)
    assert cluster().sql(database, TABLES) == ["0"]
    assert copied("--data", file, "--to", database)["task"][0] == 10000


def test_a_copy_that_fails_in_the_last_of_its_tables_leaves_the_target_empty(file, database):
    with sqlite3.connect(file / "baton.db") as db:
        db.execute("UPDATE workspace SET name = 'a' || char(0) || 'b' WHERE id = (SELECT max(id) FROM workspace)")
    db.close()
    error = baton("copy", "--data", file, "--to", database, status=2)
    assert "table workspace: a text holds the character NUL" in error
    assert cluster().sql(database, TABLES) == ["0"]


def test_a_table_that_no_copy_would_have_is_refused(file, database, tmp_path):
    copied("--data", file, "--to", database)
    cluster().sql(database, "CREATE TABLE forgotten (id bigint PRIMARY KEY)")
    assert "table forgotten" in baton("copy", "--store", database, "--to", tmp_path / "back.db", status=CONFLICT)
    assert not (tmp_path / "back.db").exists()


def test_numbers_that_postgres_gives_go_on_after_those_that_were_copied(file, database):
    copied("--data", file, "--to", database)
    most, = cluster().sql(database, "SELECT max(id) FROM name")
    given, = cluster().sql(database, "INSERT INTO name (text) VALUES ('a new one') RETURNING id")[:1]
    assert int(given) == int(most) + 1


def test_a_backup_of_a_postgres_database_is_left_to_pg_dump(database, tmp_path):
    assert "pg_dump" in baton("backup", tmp_path / "b", "--store", database, status=2)
    assert not list(tmp_path.iterdir())
