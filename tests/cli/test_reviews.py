"""The commands for reviews."""


def done(cli, *options):
    """A run of a task that was claimed and completed from the command line."""
    made = cli.json("task", "create", "--title", "judged", "--start", "--capabilities", "judged", *options)
    claim = cli.json("runs", "claim", made["run"]["id"], "--capabilities", "judged")["claims"][0]
    return made["task"], cli.json("runs", "complete", claim["run"]["id"], "--token", claim["claim_token"], "--result", "1")


def test_reviews_are_asked_for_listed_and_given_a_verdict_from_the_command_line(cli):
    task, run = done(cli, "--review", "on_success")
    [review] = cli.lines("reviews", "list", "--run", run["id"])
    assert review["status"] in ("requested", "in_review") and cli.json("reviews", "get", review["id"])["id"] == review["id"]
    assert [r["id"] for r in cli.lines("reviews", "list", "--task", task["id"])] == [review["id"]]
    assert cli.json("reviews", "bind", review["id"], "--session", "s-cli")["session_id"] == "s-cli"
    assert review["id"] in cli("reviews", "list", "--session", "s-cli")
    cli("reviews", "reject", review["id"], "--reason", "not yet", status=2)
    cli("reviews", "approve", review["id"], "--reason", "good", "--confidence", "2", status=2)
    answer = cli.json("reviews", "reject", review["id"], "--reason", "not yet", "--missing", "tests, all", "--missing", "docs",
                      "--guidance", "go on", "--delivery", "d1")
    assert answer["continuation_run"]["review"]["missing_work"] == ["tests, all", "docs"]
    assert cli.json("reviews", "reject", review["id"], "--reason", "not yet", "--missing", "tests, all", "--missing", "docs",
                    "--guidance", "go on", "--delivery", "d1") == answer
    cli("task", "cancel", task["id"])


def test_a_review_by_hand_ends_with_any_outcome(cli):
    task, run = done(cli)
    asked = cli.json("reviews", "request", run["id"], "--reason", "look", "--deadline", "60", "--policy", "on_success")
    assert asked["created"] and cli.json("reviews", "request", run["id"])["created"] is False
    ended = cli.json("reviews", "submit", asked["review"]["id"], "--outcome", "error", "--reason", "cannot", "--confidence", "0.5")
    assert ended["review"]["outcome"] == "error" and ended["review"]["confidence"] == 0.5
    other = cli.json("reviews", "request", run["id"], "--attempt", "2")["review"]
    assert cli.json("reviews", "approve", other["id"], "--reason", "good")["review"]["outcome"] == "approved"
