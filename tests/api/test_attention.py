"""Runs that a person should look at: marked, never hindered, freed by what happens to them or by recover."""
import pytest
from conftest import Client, Server, wait_until
from flows import events_of, run_of, types_of
from test_force import path_of, refused, stranger_of
from test_runs import holder


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path / "data", "--attention-seconds", "2")
    yield server
    if server.process.poll() is None:
        server.stop()


@pytest.fixture
def api(server):
    return Client(server)


def marked(api, run, mark):
    return wait_until(lambda: run_of(api, run).get("attention") == mark and run_of(api, run))


def mark_of(api, run):
    """The same of a run and its task."""
    marks = run_of(api, run).get("attention"), api.get("/v1/tasks/" + run["task_id"]).get("attention")
    assert marks[0] == marks[1]
    return marks[0]


def test_given_a_starved_run_then_it_is_told_once_across_a_kill_and_the_mark_goes_when_it_is_claimed(server, api):
    run, behind = api.started()["run"], api.started()["run"]
    marked(api, run, "starved")
    assert mark_of(api, run) == "starved"
    server.kill()
    server.start()
    api = Client(server)
    other = api.started(priority="low")["run"]
    marked(api, other, "starved")
    assert types_of(api, run) == ["run.queued", "run.starved"]
    assert "attention" not in run_of(api, behind)
    claim = api.claim()[0]
    assert claim["run"]["id"] == run["id"] and "attention" not in claim["run"] and "attention" not in claim["task"]
    assert mark_of(api, run) is None
    marked(api, behind, "starved")
    api.post(path_of(run, "release"), holder(claim), 200)
    marked(api, run, "starved")
    assert types_of(api, run).count("run.starved") == 2


def test_a_run_that_is_held_back_does_not_starve(api):
    paused, free = api.started(priority="low")["run"], api.started()["run"]
    api.post(f"/v1/tasks/{paused['task_id']}/pause", {"reason": "later"}, 200)
    marked(api, free, "starved")
    api.claim()
    second = api.started()["run"]
    marked(api, second, "starved")
    assert types_of(api, paused) == ["run.queued"]
    api.post(f"/v1/tasks/{paused['task_id']}/resume", {}, 200)
    marked(api, paused, "starved")


def test_a_holder_that_neither_begins_nor_is_heard_of_is_stuck_until_it_is(api, capability):
    claim = api.claimed(capability, lease_seconds=600)
    run = claim["run"]
    marked(api, run, "stuck")
    assert mark_of(api, run) == "stuck" and types_of(api, run)[-1] == "run.stuck"
    api.post(path_of(run, "heartbeat"), holder(claim), 200)
    assert mark_of(api, run) is None
    marked(api, run, "stuck")
    api.post(path_of(run, "start"), holder(claim), 200)
    assert mark_of(api, run) is None
    other = api.claimed(capability, lease_seconds=600)["run"]
    marked(api, other, "stuck")
    assert mark_of(api, run) is None
    assert types_of(api, run) == ["run.queued", "run.claimed", "run.stuck", "run.stuck", "run.starting", "run.started"]


def test_recover_takes_a_stuck_run_from_its_silent_holder(api, capability):
    claim = api.claimed(capability, lease_seconds=600)
    run = claim["run"]
    refused(api, run, "recover", "task_run_not_recoverable")
    marked(api, run, "stuck")
    stranger_of(api).problem("POST", path_of(run, "recover"), 404, "not_found")
    freed = api.post(path_of(run, "recover"), {"reason": "silent"}, 200)
    assert freed["status"] == "queued" and freed["queued_at"] == run["queued_at"] and "attention" not in freed
    assert events_of(api, run)[-1]["payload"] == {"manual": True, "previous_status": "claimed", "attention": "stuck",
                                                  "reason": "silent"}
    api.problem("POST", path_of(run, "complete"), 409, "stale_claim_token", holder(claim))
    again = api.claim(capabilities=[capability])[0]
    assert again["run"]["id"] == run["id"] and again["run"]["recoveries"] == 0


def test_recover_gives_a_starved_run_another_while(api):
    run = api.started()["run"]
    marked(api, run, "starved")
    freed = api.post(path_of(run, "recover"), {}, 200)
    assert freed["status"] == "queued" and mark_of(api, run) is None
    marked(api, run, "starved")
    assert types_of(api, run) == ["run.queued", "run.starved", "run.recovered", "run.starved"]
    assert api.claim()[0]["run"]["id"] == run["id"]


def test_a_mark_blocks_neither_cancel_nor_failure_nor_deletion(api):
    canceled, failed = api.started()["run"], api.started(priority="low")["run"]
    for run in canceled, failed:
        marked(api, run, "starved")
    api.post(path_of(canceled, "cancel"), {}, 200)
    assert api.post(path_of(failed, "force-fail"), {"reason": "x"}, 200)["status"] == "failed"
    for run in canceled, failed:
        assert mark_of(api, run) is None
        refused(api, run, "recover", "task_run_already_terminal")
        api.request("DELETE", "/v1/tasks/" + run["task_id"], status=204)
