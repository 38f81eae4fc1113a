"""Programs of several ages on one database: what the older ones could not go on with waits for their end."""
import subprocess

import psycopg2

from conftest import BATON, Client, Server, cluster, wait_until

SCHEMA_LOCK = 1650554996  # src/store/engine.h
KNOWN = f"SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND classid = {SCHEMA_LOCK} AND objsubid = 2"
NEWEST = "SELECT max(number) FROM migration"


def refused(*words):
    done = subprocess.run([BATON, *map(str, words)], capture_output=True, text=True, timeout=60)
    assert done.returncode, done.stdout
    return done.stderr


def test_a_server_says_which_schema_it_knows(server, database):
    assert cluster().sql(database, KNOWN) == cluster().sql(database, NEWEST)
    server.stop()
    assert cluster().sql(database, KNOWN) == []


def test_a_newer_program_does_not_migrate_under_an_older_one(database, tmp_path):
    older = psycopg2.connect(database)
    older.cursor().execute(f"SELECT pg_advisory_lock_shared({SCHEMA_LOCK}, 1)")
    for words in (["serve", "--data", tmp_path / "d", "--listen", "127.0.0.1:0"], ["db", "migrate", "--apply"]):
        told = refused(*words, "--store", database)
        assert "use the database (1)" in told and "stop them first" in told
    assert cluster().sql(database, "SELECT 1 FROM pg_tables WHERE schemaname = 'public'") == []
    older.close()
    server = Server(tmp_path / "d", "--store", database)
    Client(server).task()
    server.stop()


def test_a_server_whose_database_was_migrated_meanwhile_stays_away(server, api, database):
    made = api.task()["id"]
    cluster().sql(database, "INSERT INTO migration SELECT 99, 99, '', 'newer', 0")
    cluster().sql(database, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                            " AND pid <> pg_backend_pid()")
    wait_until(lambda: api.request("POST", "/v1/tasks", {"title": "t"}).status_code == 503)
    wait_until(lambda: "needs a program that knows schema 99" in open(server.log.name).read())
    assert api.request("POST", "/v1/tasks", {"title": "t"}).status_code == 503
    cluster().sql(database, "DELETE FROM migration WHERE number = 99")
    wait_until(lambda: api.request("POST", "/v1/tasks", {"title": "t"}).status_code == 201)
    assert api.get("/v1/tasks/" + made)["id"] == made
    assert cluster().sql(database, KNOWN) == cluster().sql(database, NEWEST)
