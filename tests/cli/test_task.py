"""The commands for tasks, their children, dependencies, approvals and pauses."""
import re


def test_children_dependencies_and_trees_from_the_command_line(cli):
    root = cli.json("task", "create", "--title", "root", "--owner", "pool:builders", "--channel", "ops")
    assert root["owner"] == {"kind": "pool", "ref": "builders"} and root["network_channel"] == "ops"
    below = cli.json("task", "child", root["id"], "--title", "below", "--auto-enqueue")
    assert below["parent_task_id"] == root["id"] and below["auto_enqueue_on_ready"]
    assert [t["id"] for t in cli.lines("task", "tree", root["id"])] == [root["id"], below["id"]]
    assert [t["id"] for t in cli.lines("task", "list", "--parent", root["id"])] == [below["id"]]
    first = cli.json("task", "create", "--title", "first")
    waits = cli.json("task", "depend", below["id"], first["id"], "--on-failure", "proceed")
    assert waits["status"] == "blocked"
    edges = cli.lines("task", "dependencies", below["id"])
    assert [(e["depends_on_task_id"], e["on_failure"]) for e in edges] == [(first["id"], "proceed")]
    cli("task", "start", below["id"], status=5)
    assert cli.json("task", "enqueue", below["id"])["status"] == "queued"
    cli("task", "undepend", below["id"], first["id"])
    assert cli.json("task", "get", below["id"])["status"] == "ready"
    cli("task", "delete", first["id"])
    cli("task", "get", first["id"], status=3)
    cli("task", "cancel", root["id"])


def test_drafts_approvals_and_pauses_from_the_command_line(cli):
    draft = cli.json("task", "create", "--title", "later", "--draft")
    assert cli.json("task", "publish", draft["id"])["run"]["status"] == "queued"
    task = cli.json("task", "create", "--title", "careful", "--approval", "manual")
    approved = cli.json("task", "approve", task["id"], "--comment", "fine")
    assert approved["task"]["approval_state"] == "approved"
    other = cli.json("task", "create", "--title", "never", "--approval", "manual")
    assert cli.json("task", "reject", other["id"])["approval_state"] == "rejected"
    cli("task", "pause", task["id"], status=2)
    assert "reason_required" in cli.err
    assert cli.json("task", "pause", task["id"], "--reason", "lunch")["paused"]
    assert not cli.json("task", "resume", task["id"])["paused"]
    for made in (draft, task, other):
        cli("task", "cancel", made["id"])


def test_a_task_that_is_started_at_once_names_its_run(cli):
    out = cli("task", "create", "--title", "at once", "--start")
    run = re.search(r"run_\w{13}", out)[0]
    task = cli.json("runs", "get", run)["task_id"]
    assert task in out
    cli("task", "cancel", task)
    assert "run_" not in cli("task", "create", "--title", "not yet")


def test_a_task_is_changed_from_the_command_line(cli):
    task = cli.json("task", "create", "--title", "old", "--owner", "human:ann")["id"]
    changed = cli.json("task", "update", task, "--title", "new", "--priority", "high", "--capabilities", "b,a",
                       "--max-attempts", "5", "--clear-owner")
    assert (changed["title"], changed["priority"], changed["max_attempts"]) == ("new", "high", 5)
    assert changed["required_capabilities"] == ["a", "b"] and "owner" not in changed
    cli("task", "update", task, status=2)
    cli("task", "update", task, "--max-attempts", "many", status=2)
    cli("task", "update", task, "--owner", "nobody", status=2)
