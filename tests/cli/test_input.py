"""baton task input and what waits for it."""
import pathlib
import re

EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "ask-a-person.yaml"


def test_an_input_is_sent_listed_and_taken_from_the_command_line(cli, api):
    made = cli.json("task", "create", "--title", "listens", "--capabilities", "listening", "--start")
    task, run = made["task"]["id"], made["run"]["id"]
    sent = cli.json("task", "input", task, "--message", "a\x1b[31mlert", "--value", '{"n": 1}', "--name", "n")
    assert sent["status"] == "pending" and sent["data"] == {"n": 1}
    shown = cli("task", "inputs", task, "--status", "pending")
    assert sent["id"] in shown and "lert" in shown and "\x1b" not in shown
    claim = cli.json("runs", "claim", run, "--capabilities", "listening")["claims"][0]
    taken = cli.json("runs", "consume", run, sent["id"], "--token", claim["claim_token"])
    assert taken["status"] == "consumed"
    assert [i["run_id"] for i in cli.lines("task", "inputs", task, "--name", "n")] == [run]
    cli("task", "input", task, "--value", "{", status=2)
    cli("task", "input", task, status=2)
    assert "message" in cli.err
    cli("task", "cancel", task)
    cli("task", "input", task, "--message", "late", status=5)


def test_the_example_that_asks_a_person_says_how_to_answer_and_goes_on_with_the_answer(cli, unique):
    cli("definition", "validate", str(EXAMPLE))
    running = cli.start("run", str(EXAMPLE), "--input", "topic=" + unique)
    lines = []
    for line in running.stderr:
        lines.append(line)
        if "waits for an input" in line:
            break
    assert f"What is to be done about {unique}?" in lines[-1], lines
    words = re.search(r"baton (task input task_\w+) --message TEXT", lines[-1])[1].split()
    assert cli.json(*words, "--message", "raise it")["status"] == "consumed"
    out, err = running.communicate(timeout=60)
    assert running.returncode == 0, (out, err)
    assert "raise it" in out
