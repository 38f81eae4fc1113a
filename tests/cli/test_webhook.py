"""The commands for webhooks."""


def test_webhooks_from_the_command_line(cli):
    made = cli.json("webhook", "create", "https://example.com/in", "--events", "run.completed,task.run.failed")
    assert made["secret"].startswith("whsec_") and made["events"] == ["run.completed", "task.run.failed"]
    assert made["id"] in cli("webhook", "list") and "secret" not in cli.out
    assert cli.json("webhook", "update", made["id"], "--events", "", "--disable")["enabled"] is False
    shown = cli.json("webhook", "get", made["id"])
    assert "events" not in shown and shown["url"] == "https://example.com/in"
    assert cli.json("webhook", "update", made["id"], "--enable", "--description", "mine")["enabled"]
    cli("webhook", "update", made["id"], "--enable", "--disable", status=2)
    assert cli.lines("webhook", "deliveries", made["id"], "--status", "dead") == []
    cli("webhook", "replay", made["id"], "dlv_0000000000001", status=3)
    cli("webhook", "create", "ftp://example.com/", status=2)
    assert "url" in cli.err
    cli("webhook", "delete", made["id"])
    cli("webhook", "get", made["id"], status=3)
    cli("webhook", "create", "https://example.com/in")
    assert "whsec_" in cli.out and "not shown again" in cli.err
