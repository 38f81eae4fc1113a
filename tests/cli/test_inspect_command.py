"""baton task inspect and baton runs inspect."""


def test_inspect_shows_what_comes_next_and_what_happened(cli):
    made = cli.json("task", "create", "--title", "look at me", "--capabilities", "nobody", "--start")
    task, run = made["task"]["id"], made["run"]["id"]
    shown = cli("runs", "inspect", run)
    assert shown.startswith("NEXT ACTION  waiting_for_session\n")
    for word in (task, run, "look at me", "no_claimer", "run.queued", "REASON", "EVENT", "required_capabilities"):
        assert word in shown, word
    assert "DIAGNOSTIC" not in shown
    seen = cli.json("task", "inspect", task)
    assert seen["target"] == {"kind": "task", "id": task} and seen["current_run"]["id"] == run
    # The id says what it is of, whatever the noun.
    assert cli.json("task", "inspect", run)["target"]["kind"] == "run"
    cli("task", "cancel", task)
    assert cli("task", "inspect", task).startswith("NEXT ACTION  terminal\n")


def test_inspect_proposes_a_command_that_works(cli, api):
    run = api.started(required_capabilities=["inspected"])["run"]["id"]
    claim = api.post(f"/v1/runs/{run}/claim", {"capabilities": ["inspected"]}, 200)["claims"][0]
    api.post(f"/v1/runs/{run}/fail", {"claim_token": claim["claim_token"], "error": "bad\x1b[31m luck"}, 200)
    shown = cli("runs", "inspect", run)
    assert "task_run_crashed" in shown and f"baton runs retry {run}" in shown and "\x1b" not in shown
    cli(*f"runs retry {run}".split())
    assert cli("runs", "inspect", run).startswith("NEXT ACTION  terminal\n")


def test_an_id_of_something_else_is_refused_before_any_server_is_asked(cli):
    cli("runs", "inspect", "def_0000000000001", "--server", "http://127.0.0.1:1", status=2)
    assert "task_" in cli.err and "run_" in cli.err
    cli("runs", "inspect", "run_0000000000001", status=3)


def test_tasks_are_searched_by_their_titles(cli):
    task = cli.json("task", "create", "--title", "Größe of Needles")
    assert [t["id"] for t in cli.lines("task", "list", "--search", "GRÖSSE of n".replace("SS", "ß"))] == [task["id"]]
