"""What a PostgreSQL store promises beside what the API's tests say of every store (STORE=postgres)."""
import subprocess
import threading
import time

import pytest
import requests

from conftest import BATON, Client, Cluster, Server, cluster, wait_until


def test_every_statement_is_prepared_when_the_server_starts(server, database):
    """A start prepares all of them on the migrated schema; the log names each that PostgreSQL does not take."""
    log = open(str(server.data) + ".log").read()
    assert "level=error" not in log, log
    assert not (server.data / "baton.db").exists()


def test_the_schema_has_the_numbers_and_checksums_of_the_file(server, database, tmp_path):
    other = Server(tmp_path / "file", "--store", "")
    other.stop()
    rows = "SELECT number, min_compatible, checksum, name FROM migration ORDER BY number"
    of_file = subprocess.run(["sqlite3", tmp_path / "file" / "baton.db", rows], check=True, capture_output=True,
                             text=True).stdout.splitlines()
    assert of_file and cluster().sql(database, rows) == of_file


def test_a_store_that_is_no_url_is_refused(tmp_path):
    wrong = subprocess.run([BATON, "serve", "--data", tmp_path / "data", "--store", "tasks"], capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "--store must be a URL" in wrong.stderr


def test_what_asks_the_database_nothing_may_be_asked_any_number_of_times(server, api):
    """Such a transaction leaves answers that nobody waits for; they filled the queue, and the server ended."""
    for _ in range(1500):
        assert api.request("GET", "/livez").status_code == 200
    assert api.task()["id"] and server.is_ready()


def test_what_was_acknowledged_is_there_after_the_server_was_killed(server, api):
    made = [api.started(title=f"task {n}")["task"]["id"] for n in range(20)]
    claim = api.claim()[0]
    server.kill()
    server.start()
    api = Client(server)
    assert [api.get(f"/v1/tasks/{task}")["id"] for task in made] == made
    api.post(f"/v1/runs/{claim['run']['id']}/complete", {"claim_token": claim["claim_token"]}, 200)


@pytest.fixture
def own_cluster():
    made = Cluster()
    yield made
    made.remove()


def test_a_database_that_restarts_loses_nothing_acknowledged_and_is_used_again(own_cluster, tmp_path):
    """Creates go on while PostgreSQL is stopped three times: refused ones may be there, acknowledged ones are."""
    server = Server(tmp_path / "data", "--store", own_cluster.database())
    acknowledged, refused, over = [], [], threading.Event()

    def create(worker):
        api = Client(server)
        n = 0
        while not over.is_set():
            n += 1
            title = f"{worker}-{n}"
            answer = api.request("POST", "/v1/tasks", {"title": title, "start": True,
                                                       "required_capabilities": [f"cap-{title}"]})
            assert answer.status_code in (201, 429, 503), answer.text
            (acknowledged if answer.status_code == 201 else refused).append(title)

    workers = [threading.Thread(target=create, args=(n,)) for n in range(4)]
    for worker in workers:
        worker.start()
    for _ in range(3):
        before = len(acknowledged)
        wait_until(lambda: len(acknowledged) > before + 50, 60)
        own_cluster.stop()
        wait_until(lambda: not server.is_ready())
        own_cluster.start()
        wait_until(server.is_ready, 30)
    over.set()
    for worker in workers:
        worker.join()
    api, found, cursor = Client(server), set(), None
    while True:
        page = api.get("/v1/tasks?limit=200" + (f"&cursor={cursor}" if cursor else ""))
        found |= {task["title"] for task in page["items"]}
        cursor = page.get("next_cursor")
        if not cursor:
            break
    assert set(acknowledged) <= found <= set(acknowledged) | set(refused)
    assert refused
    claimed = api.request("POST", "/v1/runs/claim", {"capabilities": [f"cap-{acknowledged[-1]}"]})
    assert claimed.status_code == 200
    server.stop()


@pytest.mark.parametrize("q, title", [("needle", "a NEEDLE in hay"), ("a.b(c)", "see A.B(C) there"),
                                      ("50%_*?[x]", "costs 50%_*?[X] more"), ("größe", "die GRÖSSE, GRÖßE"),
                                      ("a\\b^$|{}", "A\\B^$|{}")])
def test_text_is_found_whatever_it_holds(server, api, q, title):
    api.task(title=title)
    api.task(title="something else")
    found = requests.get(server.url + "/v1/tasks", params={"q": q},
                         headers={"Authorization": f"Bearer {server.key}"}).json()["items"]
    assert [task["title"] for task in found] == [title]


def test_a_row_that_was_not_changed_as_a_batch_expects_refuses_its_own_call_alone(server, api, database):
    """Rows of a batch are written by one statement that counts them; here PostgreSQL leaves one out."""
    for n in range(3):
        api.started(title=f"task {n}")
    claims = api.claim(max=3)
    stubborn = claims[1]["run"]["id"]
    cluster().sql(database, """
        CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS
          $f$ BEGIN IF NEW.result = '"stubborn"' THEN RETURN NULL; END IF; RETURN NEW; END $f$;
        CREATE TRIGGER leave_out BEFORE UPDATE ON run FOR EACH ROW EXECUTE FUNCTION leave_out()""")
    done = api.post("/v1/runs/complete", {"items": [
        {"run_id": c["run"]["id"], "claim_token": c["claim_token"], "result": "stubborn" if c["run"]["id"] == stubborn else "ok"}
        for c in claims]}, 200)["items"]
    assert [item.get("error", {}).get("code") for item in done] == [None, "stale_claim_token", None]
    assert [api.get(f"/v1/runs/{c['run']['id']}")["status"] for c in claims] == ["completed", "claimed", "completed"]
    cluster().sql(database, "DROP TRIGGER leave_out ON run")
    api.post(f"/v1/runs/{stubborn}/complete", {"claim_token": claims[1]["claim_token"]}, 200)


def test_what_a_step_leaves_is_undone_with_it_when_its_run_was_not_changed(server, api, database):
    """The count of the rows is known before COMMIT: here PostgreSQL leaves out the run's second step."""
    cluster().sql(database, """
        CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS
          $f$ BEGIN IF NEW.current_step = 2 THEN RETURN NULL; END IF; RETURN NEW; END $f$;
        CREATE TRIGGER leave_out BEFORE UPDATE ON run FOR EACH ROW EXECUTE FUNCTION leave_out()""")
    api.post("/v1/definitions", {"name": "four", "steps": [{"action": "noop"}] * 4}, 201)
    run = api.post("/v1/definitions/four/runs")["run"]

    def lines():
        return [(e["type"], e["payload"].get("step_index"))
                for e in api.get(f"/v1/runs/{run['id']}/events")["items"] if "step" in e["type"]]

    wait_until(lambda: len(lines()) >= 3)
    time.sleep(1)  # the worker has given it up
    assert lines() == [("run.step_started", 0), ("run.step_completed", 0), ("run.step_started", 1)]
    assert cluster().sql(database, "SELECT step_index, status FROM step ORDER BY 1") == ["0|3", "1|1"]
