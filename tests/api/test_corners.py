"""Corners of the task domain that the model-based test (tests/model) has found."""
from conftest import Client
from test_runs import holder


def test_a_session_of_the_same_name_in_another_workspace_does_not_stand_in_the_way(api, server):
    here, there = (Client(server, headers={"X-Workspace-ID": api.post("/v1/workspaces", {"name": n})["id"]}) for n in "ab")
    for one in here, there:
        run = one.started()["run"]
        assert one.claim(session_id="s")[0]["run"]["id"] == run["id"]
        again = one.started()["run"]["id"]
        for path in "/v1/runs/claim", f"/v1/runs/{again}/claim":
            one.problem("POST", path, 409, "active_lease_exists", {"session_id": "s"})
