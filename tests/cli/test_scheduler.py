"""The scheduler's commands, on a server of their own."""
import pytest
from conftest import Cli, api_conftest


@pytest.fixture
def cli(own_server):
    return Cli(own_server.data)


def test_pause_status_backlog_and_resume_from_the_command_line(cli):
    made = cli.json("task", "create", "--title", "waits", "--start")
    assert cli.json("scheduler", "pause", "--reason", "release")["paused"]
    assert "release" in cli("scheduler", "status")
    assert cli.json("scheduler", "status")["queued_run_count"] == 1
    assert "waits" in cli("scheduler", "backlog", "--include-paused")
    assert [i["run"]["id"] for i in cli.lines("scheduler", "backlog", "--limit", "1")] == [made["run"]["id"]]
    assert not cli.json("scheduler", "resume")["paused"]


def test_a_drain_says_by_its_exit_status_whether_nobody_works_any_more(cli, own_server):
    api = api_conftest.Client(own_server)
    api.started()
    claim = api.claim()[0]
    cli("scheduler", "drain", "--timeout", "1", "-o", "json", status=1)
    assert '"timed_out":true' in cli.out
    api.post(f"/v1/runs/{claim['run']['id']}/complete", {"claim_token": claim["claim_token"]}, 200)
    assert cli.json("scheduler", "drain", "--reason", "release")["completed"]
    cli("scheduler", "drain", "--timeout", "-1", status=2)
    cli("scheduler", "drain", "--timeout", "soon", status=2)
