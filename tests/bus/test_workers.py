"""`baton worker`: processes that perform runs beside the servers of a database, and where the files of workspaces are."""
import itertools
import pathlib
import re
import signal
import string
import subprocess
import time

import pytest
import yaml

from conftest import BATON, Client, cluster, wait_until

numbers = itertools.count()
DEPLOY = pathlib.Path(__file__).parents[2] / "deploy"
GONE = 15  # seconds after which a silent process is given up


@pytest.fixture
def database():
    return cluster().database()


@pytest.fixture
def api(servers, database):
    """Of a server that only serves."""
    return Client(servers("--store", database, "--concurrency", "0"))


def run(*arguments):
    done = subprocess.run([BATON, "worker", *map(str, arguments)], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


def command(text, **parameters):
    return {"action": "execute_command", "parameters": {"command": text, **parameters}}


def launch(api, *steps, **fields):
    made = api.post("/v1/definitions", {"name": f"d{next(numbers)}", "steps": list(steps), **fields})
    return api.post(f"/v1/definitions/{made['id']}/runs", {})["run"]["id"]


def found(api, run):
    return api.get("/v1/runs/" + run)


def reaches(api, run, status, seconds=30):
    wait_until(lambda: found(api, run)["status"] == status, seconds)
    return found(api, run)


def reasons(api, run):
    return [r["detail"] for r in api.get(f"/v1/runs/{run}/explain")["reasons"] if r["code"] == "no_claimer"]


def test_a_run_of_a_server_without_a_worker_is_performed_by_a_worker_process(api, workers, database):
    early = launch(api, command("echo early"))
    assert reasons(api, early) == ["waiting for a free worker"]
    worker = workers(database, "--concurrency", "2")
    assert reaches(api, early, "completed")["result"]["stdout"] == "early\n"
    late = launch(api, command("echo late"))  # the worker waits by now and is told
    assert reaches(api, late, "completed")["claimed_by"] == {"kind": "daemon", "ref": worker.name}
    listed = api.get("/v1/workers")["items"]
    assert [(w["concurrency"], w["active_runs"]) for w in listed] == [(2, 0)]
    assert listed[0]["id"].replace("_", "-") == worker.name and listed[0]["volume"]
    assert worker.end() == 0
    assert api.get("/v1/workers")["items"] == []


def test_a_worker_goes_on_while_no_server_runs(api, workers, database):
    """Leases, timers and the join of branches are looked after by whoever is there."""
    workers(database)
    slept = launch(api, {"action": "delay", "parameters": {"seconds": 3}}, {"action": "parallel", "parameters": {
        "branches": [{"steps": [command("echo a")]}, {"steps": [command("echo b")]}]}})
    reaches(api, slept, "sleeping")
    api.server.stop()
    wait_until(lambda: cluster().sql(database, "SELECT count(*) FROM run WHERE status = 9") == ["3"], 30)


def test_another_worker_takes_over_what_a_killed_one_held_and_repeats_no_recorded_step(api, workers, database, tmp_path):
    """And one that stood still as long is somebody else when it goes on: its number is given to the next."""
    shared = (database, "--concurrency", "1", "--workspaces", str(tmp_path / "shared"))
    first = workers(*shared)
    held = launch(api, command("echo once >> log"), command("test -e again || { touch again; sleep 120; }"),
                  command("cat log"))
    wait_until(lambda: list((tmp_path / "shared").glob("*/again")), 30)
    still, second = workers(*shared), workers(*shared)
    still.process.send_signal(signal.SIGSTOP)
    first.end(signal.SIGKILL)
    began = time.monotonic()
    ended = reaches(api, held, "completed", 60)
    assert time.monotonic() - began > GONE - 6  # it was given up, and not taken from somebody who lives
    assert ended["claimed_by"]["ref"] == second.name and ended["result"]["stdout"] == "once\n"
    wait_until(lambda: len(api.get("/v1/workers")["items"]) == 1)
    assert {workers(*shared).name, workers(*shared).name} == {first.name, still.name}
    still.process.send_signal(signal.SIGCONT)
    for _ in range(4):
        launch(api, command("sleep 5"))
    wait_until(lambda: [w["active_runs"] for w in api.get("/v1/workers")["items"]] == [1] * 4, 30)


def test_sigterm_lets_a_step_end_and_a_second_one_does_not(api, workers, database, tmp_path):
    options = (database, "--concurrency", "1", "--workspaces", str(tmp_path / "shared"))
    worker = workers(*options)
    held = launch(api, command("sleep 2; echo done"), command("echo next"))
    reaches(api, held, "running")
    worker.process.send_signal(signal.SIGTERM)
    waiting = launch(api, {"action": "noop"})
    assert worker.process.wait(timeout=60) == 0
    assert found(api, held)["status"] == "completed"  # --drain-seconds is 300
    assert found(api, waiting)["status"] == "queued"  # nothing new was claimed
    worker = workers(*options)
    reaches(api, waiting, "completed")
    cut = launch(api, command("sleep 120"))
    reaches(api, cut, "running")
    worker.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert worker.process.poll() is None
    assert worker.end() == 0
    assert found(api, cut)["status"] == "queued"


def test_the_drain_time_bounds_how_long_a_worker_goes_on(api, workers, database):
    worker = workers(database, "--drain-seconds", "1")
    held = launch(api, command("sleep 120"))
    reaches(api, held, "running")
    assert worker.end() == 0
    assert found(api, held)["status"] == "queued"


def test_what_a_worker_cannot_be_is_said_clearly(api, database, tmp_path):
    status, said = run("--data", tmp_path / "w")
    assert status == 2 and "a file has one process" in said and "--store postgres://" in said
    status, said = run("--data", tmp_path / "w", "--store", "somewhere")
    assert status == 2 and "--store must be a URL" in said
    status, said = run("--data", tmp_path / "w", "--store", database, "--concurrency", "0")
    assert status == 2 and "--concurrency" in said
    status, said = run("--data", tmp_path / "w", "--store", database, "--listen", "127.0.0.1:0")
    assert status == 2 and "unknown option --listen; see baton worker --help" in said
    status, said = run("--data", tmp_path / "w", "--store", database)  # without secret.key
    assert status == 5 and "copy it here from the data directory of another server" in said
    assert not (tmp_path / "w" / "secret.key").exists()
    status, said = run("--data", api.server.data, "--store", database)
    assert status == 6 and "already uses" in said


def compose(name, **instead):
    """The environment of a service of deploy/compose.yaml, with what is another outside of containers."""
    sample = dict(re.findall(r"^(\w+)=(.*)$", (DEPLOY / "compose.env").read_text(), re.M))
    variables = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"][name]["environment"]
    return {key: instead.get(key) or string.Template(value).substitute(sample) for key, value in variables.items()}


def test_the_services_of_the_compose_file_work_together(servers, workers, redis, database, tmp_path):
    here = {"BATON_STORE": database, "BATON_REDIS": redis.url, "BATON_WORKSPACES": str(tmp_path / "workspaces")}
    served = compose("serve", **here)
    api = Client(servers("--store", database, program=("env", *(f"{k}={v}" for k, v in served.items()), BATON)))
    assert api.get("/v1/workers")["items"] == []
    assert api.get("/readyz")["status"] == "ready"
    worker = workers(database, **compose("worker", **here))
    made = launch(api, command("echo hello > file; cat file"))
    assert reaches(api, made, "completed")["claimed_by"]["ref"] == worker.name
    assert api.get("/v1/workspaces/default/usage")["bytes"] == len("hello\n")  # the server sees the worker's files
    wait_until(lambda: redis.command("EXISTS", f"workspace:worker:daemon:{worker.name}:heartbeat") == ["1"])
    assert worker.end() == 0


# ---- volumes ----

class Places:
    """Two workers, each with files of its own; the workspace is where the first of them is."""

    def __init__(self, api, workers, database):
        self.api = api
        self.here = workers(database, "--concurrency", "1")
        reaches(api, launch(api, command("echo mine > file")), "completed")
        self.there = workers(database, "--concurrency", "1")
        self.volume = {w["id"].replace("_", "-"): w["volume"] for w in api.get("/v1/workers")["items"]}

    def workspace(self):
        return self.api.get("/v1/workspaces/default").get("volume")


@pytest.fixture
def places(api, workers, database):
    return Places(api, workers, database)


def test_steps_that_touch_files_are_performed_where_the_files_are_and_others_anywhere(places):
    api = places.api
    assert places.volume[places.here.name] != places.volume[places.there.name]
    assert places.workspace() == places.volume[places.here.name]
    held = launch(api, command("sleep 3"))  # the one with the files is busy
    reaches(api, held, "running")
    free = launch(api, {"action": "noop", "parameters": {"output": 1}})
    assert reaches(api, free, "completed")["claimed_by"]["ref"] == places.there.name
    mixed = launch(api, {"action": "noop"}, command("cat file"))
    ended = reaches(api, mixed, "completed")
    assert ended["claimed_by"]["ref"] == places.here.name and ended["result"]["stdout"] == "mine\n"
    events = api.get(f"/v1/runs/{mixed}/events?limit=100")["items"]
    assert [e["payload"]["reason"] for e in events if e["type"] == "run.released"] == ["another worker has the files"]


def test_a_run_waits_for_a_worker_that_has_its_files_and_explain_says_so(places, workers, database):
    api = places.api
    assert places.here.end() == 0
    waiting = launch(api, command("cat file"))
    wait_until(lambda: "none that is there has it" in str(reasons(api, waiting)))
    assert f"with the volume {places.workspace()}" in reasons(api, waiting)[0]
    assert "baton workspace update --volume" in reasons(api, waiting)[0]
    assert found(api, waiting)["status"] == "queued"
    answer = api.problem("GET", "/v1/workspaces/default/usage", 503, "unavailable")
    assert places.workspace() in answer["detail"]
    back = workers(database, "--workspaces", str(places.here.data / "workspaces"))  # elsewhere, on the same files
    ended = reaches(api, waiting, "completed")
    assert ended["claimed_by"]["ref"] == back.name and ended["result"]["stdout"] == "mine\n"


@pytest.mark.parametrize("to", ["there", "none"])
def test_an_operator_gives_a_workspace_another_volume(places, to):
    api = places.api
    assert places.here.end() == 0
    waiting = [launch(api, command("test ! -e file && echo gone")) for _ in range(3)]
    for run in waiting:
        wait_until(lambda: "with the volume" in str(reasons(api, run)))
    refused = api.problem("PATCH", "/v1/workspaces/default", 400, "validation_failed", {"volume": "nowhere"})
    assert refused["field"] == "volume" and "no worker that is there has" in refused["detail"]
    name = places.volume[places.there.name] if to == "there" else "none"
    subprocess.run([BATON, "workspace", "update", "default", "--volume", name, "--server", api.server.url,
                    "--key", api.server.key], check=True, capture_output=True, timeout=60)
    for run in waiting:
        assert reaches(api, run, "completed")["claimed_by"]["ref"] == places.there.name
    assert places.workspace() == places.volume[places.there.name]
