"""`baton db` on databases in files: what it says of them, backups and what comes of them, copies."""
import json
import os
import pathlib
import shutil
import sqlite3
import subprocess
import threading

import pytest

from conftest import Cli, api_conftest, wait_until

Server, Client = api_conftest.Server, api_conftest.Client
CONFLICT, FULL, MISSING = 5, 7, 3


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A data directory with something of everything that is quickly made; no server."""
    server = Server(tmp_path_factory.mktemp("db") / "data")
    api = Client(server)
    for n in range(20):
        api.started(title=f"tâche {n}", required_capabilities=[f"cap-{n}"])
    claim = api.claim(capabilities=["cap-1"])[0]
    api.post(f"/v1/runs/{claim['run']['id']}/complete", {"claim_token": claim["claim_token"], "result": {"a": "é"}}, 200)
    api.key_for(name="another")
    server.stop()
    return server.data


def another(made, to):
    return shutil.copytree(made, to, ignore=lambda *_: ["baton.sock", "reserve"])


@pytest.fixture
def data(made, tmp_path):
    return another(made, tmp_path / "data")


@pytest.fixture
def large(data):
    """So large that a copy takes a while."""
    with sqlite3.connect(data / "baton.db") as db:
        db.executemany("INSERT INTO name (text) VALUES (?)", ((f"{n} " + "x" * 5000,) for n in range(20000)))
    db.close()
    return data


@pytest.fixture
def cli(data):
    return Cli(data)


@pytest.fixture
def served(data):
    server = Server(data)
    yield server
    if server.process.poll() is None:
        server.stop()


def rows(path, sql):
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return db.execute(sql).fetchall()
    finally:
        db.close()


def change(path, *statements):
    with sqlite3.connect(path) as db:
        for statement in statements:
            db.execute(statement)
    db.close()


NEWER = "INSERT INTO migration VALUES (999, 999, 'sum', 'later', 0)"


# ---- status and migrations ----

def test_status_tells_engine_schema_size_and_rows(cli, data):
    seen = cli.json("db", "status")
    assert seen["engine"].startswith("SQLite 3.") and seen["database"] == str(data / "baton.db")
    assert seen["schema"] == seen["program_schema"] and seen["pending"] == [] and not seen["served"]
    counted = {table["name"]: table["rows"] for table in seen["tables"]}
    assert counted["task"] == 20 and counted["key"] == 2 and seen["bytes"] >= 100000
    assert set(counted) == {name for name, in rows(data / "baton.db", "SELECT name FROM sqlite_master WHERE type = 'table'"
                                                   " AND name NOT LIKE 'task_text%'")}
    assert "task" in cli("db", "status") and "TABLE" in cli.out


def test_status_sees_the_server_that_uses_the_database(cli, served):
    assert cli.json("db", "status")["served"]


def test_status_of_no_database_ends_with_3(cli, data):
    (data / "baton.db").unlink()
    cli("db", "status", status=MISSING)
    assert not (data / "baton.db").exists()


def test_a_database_of_a_newer_program_is_told_and_left_alone(cli, data, tmp_path):
    change(data / "baton.db", NEWER)
    assert cli.json("db", "status", status=CONFLICT)["needs_schema"] == 999
    for words in (["migrate", "--plan"], ["migrate", "--apply"]):
        cli("db", *words, status=CONFLICT)
        assert "use a newer baton" in cli.err
    cli("db", "copy", "--to", tmp_path / "copy.db", status=6)
    assert "use a newer baton" in cli.err and not (tmp_path / "copy.db").exists()


def test_a_plan_lists_every_migration_and_makes_nothing(cli, data):
    shutil.rmtree(data)
    plan = cli.json("db", "migrate", "--plan")
    assert [m["number"] for m in plan["pending"]] == list(range(1, plan["program_schema"] + 1))
    assert not data.exists()


def test_migrations_are_applied_once_and_a_server_finds_them(cli, data):
    shutil.rmtree(data)
    done = cli.json("db", "migrate", "--apply")
    assert len(done["applied"]) == done["program_schema"]
    assert cli.json("db", "migrate", "--apply")["applied"] == []
    assert cli.json("db", "status")["schema"] == done["program_schema"]
    server = Server(data)
    Client(server).task()
    server.stop()


def test_migrations_are_not_applied_under_a_server(cli, served):
    cli("db", "migrate", "--apply", status=CONFLICT)
    assert "stop it first" in cli.err
    cli("db", "migrate", "--plan")


def test_either_plan_or_apply_must_be_said(cli):
    cli("db", "migrate", status=2)
    cli("db", "migrate", "--plan", "--apply", status=2)


# ---- backups ----

def test_a_backup_beside_a_server_that_writes_has_all_that_was_acknowledged_before(cli, served, tmp_path):
    acknowledged, over = [], threading.Event()

    def create():
        api = Client(served)
        while not over.is_set():
            acknowledged.append(api.task(title="more")["id"])

    writer = threading.Thread(target=create)
    writer.start()
    for n in range(3):
        wait_until(lambda: len(acknowledged) > 30 * (n + 1))
        before = len(acknowledged)
        cli("db", "backup", tmp_path / f"{n}.db")
        found, = rows(tmp_path / f"{n}.db", "SELECT count(*) FROM task WHERE title = 'more'")
        assert before <= found[0] <= len(acknowledged) + 1
        cli("db", "restore", tmp_path / f"{n}.db", "--verify")
    over.set()
    writer.join()


def test_a_backup_is_one_private_file_and_is_not_replaced_unless_forced(cli, tmp_path):
    to = tmp_path / "backup" / "b.db"
    to.parent.mkdir()
    assert cli.json("db", "backup", to) == {"file": str(to), "bytes": to.stat().st_size}
    assert os.listdir(to.parent) == ["b.db"] and to.stat().st_mode & 0o777 == 0o600
    first = to.stat().st_ino
    cli("db", "backup", to, status=CONFLICT)
    assert to.stat().st_ino == first
    cli("db", "backup", to, "--force")
    assert to.stat().st_ino != first and os.listdir(to.parent) == ["b.db"]


def killed_midway(cli, part, *words):
    process = cli.start(*words)
    wait_until(lambda: process.poll() is not None or (part.exists() and part.stat().st_size > 1000000), every=0.001)
    assert process.poll() is None, "it was over too soon"
    process.kill()
    process.communicate()


def test_a_backup_that_is_killed_leaves_no_file_of_that_name_and_the_next_succeeds(large, cli, tmp_path):
    to = tmp_path / "b.db"
    killed_midway(cli, tmp_path / "b.db.part", "db", "backup", to)
    assert not to.exists()
    cli("db", "backup", to)
    cli("db", "restore", to, "--verify")
    assert not (tmp_path / "b.db.part").exists()


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place]).returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.parametrize("words", [["backup"], ["copy", "--to"]])
def test_a_full_disk_at_the_target_is_told_and_nothing_is_left_there(large, cli, small_disk, words):
    cli("db", *words, small_disk / "b.db", status=FULL)
    assert "full" in cli.err
    assert os.listdir(small_disk) == []


def test_a_restore_onto_a_full_disk_keeps_the_database_that_was_there(large, cli, small_disk, made, tmp_path):
    cli("db", "backup", tmp_path / "b.db")
    small = another(made, small_disk / "data")
    before = sorted(os.listdir(small))
    cli("db", "restore", tmp_path / "b.db", "--data", small, "--force", status=FULL)
    assert sorted(set(os.listdir(small)) | {"lock"}) == sorted(set(before) | {"lock"})
    cli("db", "restore", small / "baton.db", "--verify")


# ---- what is wrong with a backup ----

def damage_page(path):
    with open(path, "r+b") as file:
        file.seek(path.stat().st_size // 4096 // 2 * 4096)
        file.write(b"\xff" * 4096)


def cut_in_half(path):
    os.truncate(path, path.stat().st_size // 2)


def no_database(path):
    path.write_bytes(b"something else\n" * 1000)


FAULTS = {
    "a page that was overwritten": (damage_page, ""),
    "a file that was cut": (cut_in_half, ""),
    "another kind of file": (no_database, "not a database"),
    "a row of the audit log that was changed": (lambda p: change(p, "UPDATE audit SET resource = 'key_0' WHERE id ="
                                                                    " (SELECT min(id) FROM audit)"), "audit log"),
    "a row of the audit log that was removed": (lambda p: change(p, "DELETE FROM audit WHERE id ="
                                                                    " (SELECT max(id) FROM audit)"), "audit log"),
    "a table that is missing": (lambda p: change(p, "DROP TABLE idempotency"), "table idempotency is missing"),
    "a column that nobody knows": (lambda p: change(p, "ALTER TABLE task ADD COLUMN extra TEXT"), "table task"),
    "the schema of a newer program": (lambda p: change(p, NEWER), "use a newer baton"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_verifying_finds_and_restoring_refuses(fault, cli, tmp_path):
    harm, told = FAULTS[fault]
    backup = tmp_path / "b.db"
    cli("db", "backup", backup)
    assert cli.json("db", "restore", backup, "--verify") == {"file": str(backup), "ok": True, "faults": []}
    harm(backup)
    before = backup.read_bytes()
    found = cli.json("db", "restore", backup, "--verify", status=1)
    assert not found["ok"] and any(told in sentence for sentence in found["faults"]), found
    cli("db", "restore", backup, "--data", tmp_path / "new", status=1)
    assert not (tmp_path / "new" / "baton.db").exists()
    assert backup.read_bytes() == before


def test_verifying_no_file_ends_with_3(cli, tmp_path):
    cli("db", "restore", tmp_path / "none.db", "--verify", status=MISSING)


# ---- restoring ----

def test_a_server_goes_on_from_what_was_restored_and_the_other_is_kept_aside(cli, served, data, tmp_path):
    api = Client(served)
    before = api.task(title="before")["id"]
    cli("db", "backup", tmp_path / "b.db")
    after = api.task(title="after")["id"]
    cli("db", "restore", tmp_path / "b.db", "--force", status=CONFLICT)
    assert "stop it first" in cli.err
    served.kill()
    cli("db", "restore", tmp_path / "b.db", status=CONFLICT)
    assert "is there already" in cli.err
    aside = pathlib.Path(cli.json("db", "restore", tmp_path / "b.db", "--force")["aside"])
    served.start()
    api = Client(served)
    assert api.get(f"/v1/tasks/{before}")["title"] == "before"
    api.get(f"/v1/tasks/{after}", status=404)
    api.task(title="later")
    assert rows(aside, "SELECT count(*) FROM task WHERE title = 'after'") == [(1,)]


def test_a_backup_becomes_the_database_of_a_new_directory(cli, data, tmp_path):
    cli("db", "backup", tmp_path / "b.db")
    cli("db", "restore", tmp_path / "b.db", "--data", tmp_path / "a" / "new")
    shutil.copy(data / "secret.key", tmp_path / "a" / "new")
    server = Server(tmp_path / "a" / "new")
    assert len(Client(server).get("/v1/tasks")["items"]) == 20
    server.stop()


def test_a_restore_that_is_killed_leaves_the_database_as_it_was(large, cli, data, tmp_path):
    cli("db", "backup", tmp_path / "b.db")
    change(data / "baton.db", "DELETE FROM name WHERE text LIKE '% x%'", "UPDATE task SET title = 'mine'")
    killed_midway(cli, data / "baton.db.part", "db", "restore", tmp_path / "b.db", "--force")
    assert set(rows(data / "baton.db", "SELECT title FROM task")) == {("mine",)}
    cli("db", "restore", tmp_path / "b.db", "--force")
    assert ("mine",) not in rows(data / "baton.db", "SELECT title FROM task")


# ---- copies ----

def digests(text):
    return {table["name"]: (table["rows"], table["digest"]) for table in json.loads(text)["tables"]}


def test_a_copy_has_every_table_and_is_equal(cli, data, tmp_path):
    first = digests(cli("db", "copy", "--to", tmp_path / "copy.db", "-o", "json"))
    assert first["task"][0] == 20
    for table in first:
        assert rows(tmp_path / "copy.db", f"SELECT * FROM {table}") == rows(data / "baton.db", f"SELECT * FROM {table}")
    schema = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'task_text%' ORDER BY type, name"
    assert rows(tmp_path / "copy.db", schema) == rows(data / "baton.db", schema)
    cli("db", "restore", tmp_path / "copy.db", "--verify")
    assert "DIGEST EQUAL" in cli("db", "copy", "--to", tmp_path / "again.db")


def test_one_changed_character_changes_the_digest_of_its_table_alone(cli, data, tmp_path):
    first = digests(cli("db", "copy", "--to", tmp_path / "1.db", "-o", "json"))
    change(data / "baton.db", "UPDATE task SET title = title || '.' WHERE id = (SELECT max(id) FROM task)")
    second = digests(cli("db", "copy", "--to", tmp_path / "2.db", "-o", "json"))
    assert [name for name in first if first[name] != second[name]] == ["task"]


def test_a_table_that_no_copy_would_have_is_refused(cli, data, tmp_path):
    change(data / "baton.db", "CREATE TABLE forgotten (id INTEGER PRIMARY KEY)")
    cli("db", "copy", "--to", tmp_path / "copy.db", status=CONFLICT)
    assert "table forgotten" in cli.err and not (tmp_path / "copy.db").exists()


def test_a_copy_is_not_written_over_a_file_nor_under_a_server(cli, made, data, tmp_path):
    (tmp_path / "copy.db").touch()
    cli("db", "copy", "--to", tmp_path / "copy.db", status=CONFLICT)
    other = Server(tmp_path / "other")
    cli("db", "copy", "--to", other.data, status=CONFLICT)
    assert "stop it first" in cli.err
    other.stop()
    cli("db", "copy", "--to", other.data, status=CONFLICT)
    assert "is there already" in cli.err


def test_a_copy_that_is_killed_leaves_no_file_of_that_name(large, cli, tmp_path):
    killed_midway(cli, tmp_path / "c.db.part-wal", "db", "copy", "--to", tmp_path / "c.db")
    assert not (tmp_path / "c.db").exists()
    cli("db", "copy", "--to", tmp_path / "c.db")
    assert not list(tmp_path.glob("c.db.*")) and not list(tmp_path.glob("c.db-*"))


def test_a_store_that_is_no_url_is_refused(cli):
    cli("db", "status", "--store", "somewhere", status=2)
    assert "--store must be a URL" in cli.err
