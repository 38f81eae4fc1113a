"""The inbox, triage and the dashboard from the command line."""


def test_the_inbox_and_its_marks_from_the_command_line(cli):
    task = cli.json("task", "create", "--title", "a sign of life", "--approval", "manual")
    found = cli.lines("inbox", "--lane", "approvals", "--query", "sign of life")
    assert [(i["lane"], i["task"]["id"], i["unread"]) for i in found] == [("approvals", task["id"], True)]
    table = cli("inbox", "--query", "sign of life").splitlines()
    assert table[0].split() == ["LANE", "TASK", "STATUS", "UNREAD", "WHY", "ACTIVITY", "TITLE"]
    assert task["id"] in table[1] and "awaiting_approval" in table[1] and table[1].endswith("a sign of life")
    assert cli.json("task", "triage", "read", task["id"])["read"]
    assert cli.json("inbox", "--unread", "--query", "sign of life") == {"items": [], "next_cursor": None}
    assert cli.json("task", "triage", "archive", task["id"])["archived"]
    assert [i["lane"] for i in cli.lines("inbox", "--lane", "archived", "--query", "sign of life")] == ["archived"]
    assert "dismissed" in cli("task", "triage", "dismiss", task["id"])
    cli("task", "triage", "eat", task["id"], status=2)
    assert "read, archive or dismiss" in cli.err


def test_the_dashboard_from_the_command_line(cli, api):
    run = api.started(title="under way", required_capabilities=["dashboard-cli"])["run"]
    claim = api.post(f"/v1/runs/{run['id']}/claim", {"capabilities": ["dashboard-cli"]}, 200)["claims"][0]
    shown = cli.json("dashboard")
    assert shown["totals"]["active_runs"] >= 1 and run["id"] in [r["id"] for r in shown["active_runs"]]
    text = cli("dashboard")
    assert "awaiting_approval" in text and "in_progress" in text and "as_of" in text
    assert any(run["id"] in line and "under way" in line for line in text.split("Active runs")[1].splitlines())
    api.post(f"/v1/runs/{run['id']}/complete", {"claim_token": claim["claim_token"], "result": {}}, 200)
