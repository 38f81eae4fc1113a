"""The commands for workspaces."""


def test_a_workspace_is_made_changed_and_deleted_from_the_command_line(cli, unique):
    made = cli.json("workspace", "create", "Place", "--slug", unique)
    changed = cli.json("workspace", "update", unique, "--name", "Better", "--slug", unique + "-b", "--quota", "4096")
    assert changed == {**made, "name": "Better", "slug": unique + "-b", "quota_bytes": 4096}
    task = cli.json("task", "create", "--title", "open", "--workspace", made["id"])
    cli("workspace", "delete", made["id"], status=5)
    assert "not ended: 1, open runs: 0" in cli.err
    cli("task", "cancel", task["id"], "--workspace", made["id"])
    cli("workspace", "delete", unique + "-b")
    cli("workspace", "get", made["id"], status=3)
    cli("workspace", "update", "default", "--quota", "much", status=2)
