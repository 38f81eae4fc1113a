"""The commands for execution profiles and the channels of a workspace."""
import json


def test_a_profile_is_said_shown_replaced_and_ended_from_the_command_line(cli, tmp_path):
    task = cli.json("task", "create", "--title", "profiled")["id"]
    made = cli.json("task", "profile", "update", task, "--agents", "bob,ann lee", "--preferred-agents", "bob",
                    "--capabilities", "gpu", "--preferred", "net", "--model", "m-1", "--guidance", "be kind")
    assert made["worker"] == {"mode": "select", "model": "m-1", "allowed_agent_names": ["ann lee", "bob"],
                              "preferred_agent_names": ["bob"], "required_capabilities": ["gpu"],
                              "preferred_capabilities": ["net"]}
    assert made["coordinator"] == {"mode": "guided", "guidance": "be kind"}
    assert cli.json("task", "profile", "inspect", task) == made
    assert "worker" in cli("task", "profile", "inspect", task)
    run = cli.json("task", "start", task)["run"]["id"]
    cli("runs", "claim", run, "--agent", "eve", "--capabilities", "gpu", status=4)
    assert "named one of ann lee, bob" in cli.err
    assert "named one of ann lee, bob" in cli("runs", "explain", run)
    file = tmp_path / "profile.json"
    file.write_text(json.dumps({"worker": {"agent_name": "eve"}}))
    assert cli.json("task", "profile", "update", task, "--file", str(file))["worker"]["agent_name"] == "eve"
    cli("task", "profile", "update", task, "--file", str(file), "--agent", "bob", status=2)
    assert cli.json("runs", "claim", run, "--agent", "eve")["claims"][0]["run"]["id"] == run
    cli("task", "profile", "delete", task, status=5)
    cli("task", "cancel", task)
    cli("task", "profile", "delete", task)
    cli("task", "profile", "delete", task, status=3)


def test_a_workspaces_channels_are_listed_from_the_command_line(cli, unique):
    made = cli.json("workspace", "create", "Place", "--slug", unique, "--channels", "ops,dev")
    assert made["network_channels"] == ["dev", "ops"]
    cli("task", "create", "--title", "x", "--channel", "red", "--workspace", unique, status=2)
    assert "network_channels" not in cli.json("workspace", "update", unique, "--channels", "")
    cli("workspace", "delete", unique)
