import datetime
import json
import time

import pytest
from conftest import BATON, SLOW, Client, Server, wait_until
from flows import (OVER, action, approval_of, begun, children_of, command, completed, decide, define,
                   elapsed_since, ended, events_of, failed, found, launch, noop, outputs, reaches, result,
                   run_of, step_is, steps_of, types_of)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("flow") / "data", "--concurrency", "8", "--capabilities", "zip,zap")
    yield server
    server.process.kill()
    server.process.wait()


def gate(condition, then, other, **fields):
    return action("conditional", fields, condition=condition, then_step_index=then, else_step_index=other)


def parallel(*branches, fields=None, **parameters):
    """Branches are lists of steps, or whole branch objects."""
    made = [b if isinstance(b, dict) else {"steps": b} for b in branches]
    return action("parallel", fields, branches=made, **parameters)


def ask(fields=None, **parameters):
    return action("approval", fields, message="go on?", **parameters)


def statuses(api, run):
    return [s["status"] for s in steps_of(api, run)]


def cancel(api, run):
    return api.post(f"/v1/runs/{run['id']}/cancel", {}, 200)


def moment(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def sleeper(**fields):
    """A command that can be found from outside, and its mark."""
    mark = "300.%d" % time.monotonic_ns()
    return mark, command(f"sleep {mark} & sleep {mark}; true", **fields)


# Conditions.

@pytest.mark.parametrize("needs, expected", [(True, ["then", "after"]), (False, [None, "after"])])
def test_a_condition_goes_both_ways(api, needs, expected):
    run = completed(api, noop({"needs_follow_up": needs}), gate("needs_follow_up == true", 2, 3),
                    noop("then"), noop("after"))
    assert outputs(api, run)[2:] == expected
    assert statuses(api, run)[2] == ("completed" if needs else "skipped")


def test_a_condition_reads_the_input_and_targets_may_be_ids(api):
    made = define(api, gate("n > 3 && input.n < 10", "high", "low"), noop("high", id="high"), noop("low", id="low"))
    for n, first in ((5, "completed"), (1, "skipped"), (11, "skipped")):
        run = api.post(f"/v1/definitions/{made['id']}/runs", {"input": {"n": n}})["run"]
        run = reaches(api, run, "completed")
        assert statuses(api, run) == ["completed", first, "completed"]


def test_the_last_output_hides_the_input(api):
    made = define(api, noop({"n": 1}), gate("n == 1 && input.n == 2", 2, 3), noop("last"), noop("end"))
    run = api.post(f"/v1/definitions/{made['id']}/runs", {"input": {"n": 2}})["run"]
    assert outputs(api, reaches(api, run, "completed"))[2] == "last"


def test_a_condition_must_be_true_or_false(api):
    failed(api, gate("'yes'", 1, 1), noop(1), kind="condition_error")
    failed(api, gate("1 / 0 == 1", 1, 1), noop(1), kind="condition_error")


def test_a_missing_name_is_an_error_that_lists_the_known_ones(api):
    run = failed(api, noop({"alpha": 1}), gate("needs_follow_up == true", 2, 2), noop(1),
                 kind="condition_error")
    step = steps_of(api, run)[1]
    assert step["error"]["kind"] == "condition_error"
    for name in ("needs_follow_up", "alpha", "input", "steps", "last", "run", "task"):
        assert name in step["error"]["message"]


def test_a_missing_name_in_a_template_is_an_error_too(api):
    run = failed(api, noop("${{ nope }}"), kind="condition_error")
    assert "nope" in steps_of(api, run)[0]["error"]["message"]
    failed(api, noop("a ${{ input.nope }} b"), kind="condition_error")


SEED = """
name: seed
retry: { max_attempts: 1 }
steps:
- index: 0
  action: ACTION
  label: Draft plan
  parameters: FIRST
- index: 1
  action: conditional
  label: Needs follow-up?
  parameters:
    condition: needs_follow_up == true
    then_step_index: 2
    else_step_index: 3
- index: 2
  action: sub_task
  label: Open follow-up task
  parameters:
    referenced_task_id: FOLLOW
- index: 3
  action: parallel
  label: Fan out verification
  parameters:
    branches:
    - referenced_task_id: QA
    - steps:
      - index: 0
        action: ACTION
        label: Inline security review
        parameters: SECOND
"""


def seed(api, **names):
    follow, qa = define(api, noop("followed")), define(api, noop("checked"))
    text = SEED
    for name, value in {"FOLLOW": follow["id"], "QA": qa["id"], **names}.items():
        text = text.replace(name, value)
    return text.encode()


@pytest.mark.parametrize("needs", [True, False])
def test_the_four_step_example_takes_both_branches(api, needs):
    text = seed(api, ACTION="noop", FIRST="{ output: { needs_follow_up: %s } }" % str(needs).lower(),
                SECOND="{ output: secure }")
    api.request("POST", "/v1/definitions", data=text, status=201, headers={"Content-Type": "application/yaml"})
    run = reaches(api, api.post("/v1/definitions/seed/runs")["run"], "completed")
    steps = steps_of(api, run)
    assert [s["label"] for s in steps] == ["Draft plan", "Needs follow-up?", "Open follow-up task", "Fan out verification"]
    assert steps[2]["status"] == ("completed" if needs else "skipped")
    assert steps[2].get("output") == ("followed" if needs else None)
    assert [b["output"] for b in steps[3]["output"]["branches"]] == ["checked", "secure"]


def test_the_four_step_example_validates_unchanged(api):
    text = seed(api, ACTION="llm_call", FIRST="{ prompt: Summarize the request and propose the next action. }",
                SECOND="{ prompt: Review the findings for security issues. }")
    answer = api.request("POST", "/v1/definitions/validate", data=text, status=200, headers={"Content-Type": "application/yaml"})
    assert answer.json()["valid"] is True
    api.request("POST", "/v1/definitions", data=text, status=201, headers={"Content-Type": "application/yaml"})
    run = reaches(api, api.post("/v1/definitions/seed/runs")["run"], "failed")
    assert run["failure_kind"] == "no_provider"


# Parallel.

def test_branches_are_joined_in_their_order(api):
    run = completed(api, parallel({"name": "slow", "steps": [action("delay", seconds=1), noop("s")]},
                                  {"name": "fast", "steps": [noop("f")]}, [noop("nameless")]))
    step = steps_of(api, run)[0]
    branches = step["output"]["branches"]
    assert [(b["index"], b.get("name"), b["status"], b["output"]) for b in branches] == [
        (0, "slow", "completed", "s"), (1, "fast", "completed", "f"), (2, None, "completed", "nameless")]
    assert [b["run_id"] for b in branches] == step["child_run_ids"]
    assert "run.awaiting_parallel" in types_of(api, run) and "run.resumed" in types_of(api, run)


def test_child_runs_belong_to_the_parents_task(api):
    run = completed(api, noop(0), parallel([noop(1)], [noop(2)]))
    children = children_of(api, run)
    assert [c["kind"] for c in children] == ["branch", "branch"]
    assert children[1]["branch_index"] == 1
    for child in children:
        assert child["task_id"] == run["task_id"] and child["parent_run_id"] == run["id"]
        assert child["parent_step_index"] == 1
    assert [r["id"] for r in api.get(f"/v1/tasks/{run['task_id']}")["runs"] if r["kind"] == "root"] == [run["id"]]


def test_any_ends_with_the_first_and_stops_the_others(api):
    mark, slow = sleeper()
    began = time.monotonic()
    run = completed(api, parallel([slow], [action("delay", seconds=60)], [noop("first")], join="any"))
    assert elapsed_since(began) < 8 * SLOW
    branches = outputs(api, run)[0]["branches"]
    assert [b["status"] for b in branches][2] == "completed" and branches[2]["output"] == "first"
    wait_until(lambda: [c["status"] for c in children_of(api, run)] == ["canceled", "canceled", "completed"], 5)
    wait_until(lambda: not found(mark), 4)


def test_any_survives_a_branch_that_fails(api):
    run = completed(api, parallel([command("exit 1")], [action("delay", seconds=1), noop("late")], join="any"))
    assert [b["status"] for b in outputs(api, run)[0]["branches"]] == ["failed", "completed"]


def test_any_fails_when_all_fail(api):
    failed(api, parallel([command("exit 1")], [command("exit 2")], join="any"))


def test_a_failing_branch_stops_the_others(api):
    began = time.monotonic()
    run = failed(api, parallel([action("delay", seconds=60)], [command("exit 3")], on_failure="fail_fast"), noop(1))
    assert elapsed_since(began) < 8 * SLOW
    wait_until(lambda: [c["status"] for c in children_of(api, run)] == ["canceled", "failed"], 5)
    assert "branch 1" in steps_of(api, run)[0]["error"]["message"]
    assert steps_of(api, run)[1]["status"] == "pending"


def test_wait_all_lets_the_others_finish_and_then_fails(api):
    run = failed(api, parallel([action("delay", seconds=1), noop("done")], [command("exit 3")], on_failure="wait_all"))
    assert [c["status"] for c in children_of(api, run)] == ["completed", "failed"]


def test_what_the_branches_did_is_readable_after_a_failure(api):
    run = completed(api, parallel([noop("good")], [command("exit 3")], on_failure="wait_all", fields={"id": "fan", "on_error": "continue"}),
                    noop("${{ steps.fan.output.branches.map(b, b.status) }}"))
    assert outputs(api, run)[1] == ["completed", "failed"]


def test_inline_branches_see_the_parents_input_and_steps(api):
    made = define(api, noop({"n": 1}, id="one"),
                  parallel([noop("${{ input.a }} ${{ steps.one.output.n }}")],
                           [noop("mine", id="two"), noop("${{ steps.two.output }} ${{ steps.one.output.n }}")]))
    run = api.post(f"/v1/definitions/{made['id']}/runs", {"input": {"a": "x"}})["run"]
    run = reaches(api, run, "completed")
    assert [b["output"] for b in outputs(api, run)[1]["branches"]] == ["x 1", "mine 1"]


def test_a_branch_may_be_another_definition_with_its_own_input(api):
    child = define(api, noop("${{ input.n + 1 }}"), input={"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}})
    run = completed(api, noop(4, id="four"),
                    parallel({"name": "a", "referenced_task_id": child["name"], "input": {"n": "${{ steps.four.output }}"}},
                             {"name": "b", "referenced_task_id": child["id"], "input": {"n": 1}}))
    assert [b["output"] for b in outputs(api, run)[1]["branches"]] == [5, 2]
    assert [c["definition_id"] for c in children_of(api, run)] == [child["id"]] * 2


def test_parallels_nest(api):
    inner = parallel([noop("${{ input.x }}a")], [noop("${{ input.x }}b")])
    made = define(api, parallel([inner, noop("${{ last.output.branches.map(b, b.output) }}")], [noop("c")]))
    run = reaches(api, api.post(f"/v1/definitions/{made['id']}/runs", {"input": {"x": "x"}})["run"], "completed")
    assert [b["output"] for b in outputs(api, run)[0]["branches"]] == [["xa", "xb"], "c"]


def test_a_hundred_branches_are_joined(api):
    run = completed(api, parallel(*[[noop(n)] for n in range(100)]))
    assert [b["output"] for b in outputs(api, run)[0]["branches"]] == list(range(100))
    assert len(children_of(api, run)) == 100


# For each.

def each(items, *steps, fields=None, **parameters):
    inner = {"steps": list(steps)} if steps else {}
    return action("for_each", fields, items=items, **inner, **parameters)


def test_each_item_has_its_run_and_names(api):
    run = completed(api, noop(["a", "b", "c"], id="list"), each("${{ steps.list.output }}", noop("${{ index }}=${{ v }}"), **{"as": "v"}))
    assert [b["output"] for b in outputs(api, run)[1]["branches"]] == ["0=a", "1=b", "2=c"]
    assert [b["index"] for b in outputs(api, run)[1]["branches"]] == [0, 1, 2]


def test_the_item_is_called_item_unless_named(api):
    run = completed(api, each([{"n": 1}, {"n": 2}], noop("${{ item.n }}")))
    assert [b["output"] for b in outputs(api, run)[0]["branches"]] == [1, 2]


def test_no_items_are_done_at_once(api):
    run = completed(api, each([], noop(1)), noop("on"))
    assert outputs(api, run) == [{"branches": []}, "on"] and children_of(api, run) == []


def test_items_must_be_a_list(api):
    run = failed(api, noop({"a": 1}), each("${{ last.output.a }}", noop(1)))
    assert children_of(api, run) == []


def test_there_are_no_more_than_a_thousand_items(api):
    run = failed(api, each("${{ '%s'.split('') }}" % ("x" * 1001), noop(1)))
    assert children_of(api, run) == [] and "1000" in run["error"].replace(",", "")


@pytest.mark.parametrize("most", [1, 2])
def test_no_more_items_at_once_than_allowed(api, most):
    run = completed(api, each(list(range(5)), command("sleep 0.2"), max_concurrency=most))
    spans = [(c["started_at"], c["ended_at"]) for c in children_of(api, run)]
    assert len(spans) == 5
    assert max(sum(1 for b, e in spans if b <= start < e) for start, _ in spans) <= most
    assert [b["index"] for b in outputs(api, run)[0]["branches"]] == list(range(5))


def test_a_waiting_item_counts_as_one_at_work(api):
    run = completed(api, each([1, 2], action("delay", seconds=1), max_concurrency=1))
    first, second = children_of(api, run)
    assert second["started_at"] >= first["ended_at"]


def test_each_item_may_go_to_another_definition(api):
    child = define(api, noop("<${{ input.n }}>"))
    run = completed(api, action("for_each", items=[1, 2], **{"as": "v"}, referenced_task_id=child["id"],
                                input={"n": "${{ v * 10 }}"}))
    assert [b["output"] for b in outputs(api, run)[0]["branches"]] == ["<10>", "<20>"]


def test_items_fail_fast_or_wait(api):
    run = failed(api, each([0, 1], command("sleep ${{ item == 0 ? 0 : 60 }}; exit 1"), on_failure="fail_fast"))
    wait_until(lambda: children_of(api, run)[1]["status"] == "canceled", 5)
    run = failed(api, each([0, 1, 2], command("exit ${{ item == 1 ? 1 : 0 }}"), on_failure="wait_all"))
    assert [c["status"] for c in children_of(api, run)] == ["completed", "failed", "completed"]


def test_of_the_items_any_may_do(api):
    run = completed(api, each([60, 0, 60], command("sleep ${{ item }}"), join="any"))
    wait_until(lambda: [c["status"] for c in children_of(api, run)] == ["canceled", "completed", "canceled"], 5)


# Sub-tasks.

def test_a_sub_task_gives_its_output(api):
    child = define(api, noop({"sum": "${{ input.a + input.b }}"}),
                   input={"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}, "b": {"type": "integer", "default": 5}}})
    run = completed(api, noop(1), action("sub_task", {"id": "s"}, referenced_task_id=child["id"], input={"a": 2}),
                    noop("${{ steps.s.output.sum }}"))
    assert outputs(api, run)[1:] == [{"sum": 7}, 7]
    kid, = children_of(api, run)
    assert kid["kind"] == "subtask" and kid["definition_id"] == child["id"] and kid["parent_step_index"] == 1
    assert kid["input"]["a"] == 2 and kid["result"] == {"sum": 7}
    assert steps_of(api, run)[1]["child_run_ids"] == [kid["id"]]
    types = types_of(api, run)
    assert types.index("run.awaiting_subtask") < types.index("run.resumed")


def test_a_failed_sub_task_fails_its_parent_unless_told_otherwise(api):
    child = define(api, command("exit 4"))
    run = failed(api, action("sub_task", referenced_task_id=child["id"]), noop(1))
    assert "exit code 4" in run["error"]
    run = completed(api, action("sub_task", referenced_task_id=child["id"], on_failure="continue"), noop("on"))
    assert outputs(api, run)[1] == "on" and children_of(api, run)[0]["status"] == "failed"


def test_the_input_of_a_sub_task_must_fit(api):
    child = define(api, noop(1), input={"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}})
    run = failed(api, action("sub_task", referenced_task_id=child["id"]))
    assert "input.a" in run["error"]
    run = failed(api, action("sub_task", referenced_task_id=child["id"], input={"a": "x"}))
    assert "input.a" in run["error"]


def test_a_sub_task_does_not_see_its_parents_steps(api):
    child = define(api, noop("${{ steps.one.output }}"))
    failed(api, noop(1, id="one"), action("sub_task", referenced_task_id=child["id"]), kind="condition_error")


# Approvals.

def test_an_approval_waits_for_a_person(api):
    run = launch(api, ask({"id": "ask"}, risk_level="high"), noop("${{ steps.ask.output }}"))
    approval = approval_of(api, run)
    assert approval["status"] == "pending" and approval["risk_level"] == "high" and approval["run_id"] == run["id"]
    assert approval["summary"] == "go on?" and approval["step_index"] == 0 and approval["expires_at"]
    assert run_of(api, run)["status"] == "awaiting_approval" and "lease_until" not in run_of(api, run)
    steps = steps_of(api, run)
    assert [s["status"] for s in steps] == ["waiting", "pending"] and steps[0]["approval_id"] == approval["id"]
    assert api.get("/v1/tasks/" + run["task_id"])["status"] == "in_progress"
    explained = api.get(f"/v1/runs/{run['id']}/explain")
    assert explained["status"] == "awaiting_approval" and explained["reasons"][0]["code"] == "awaiting_approval"
    decided = decide(api, approval, "approve", comment="fine")
    assert decided["status"] == "approved" and decided["comment"] == "fine" and decided["decided_by"]
    run = reaches(api, run, "completed")
    assert outputs(api, run)[1] == {"decision": "approve", "comment": "fine"}
    types = types_of(api, run)
    assert types.index("run.awaiting_approval") < types.index("run.approval_resolved") < types.index("run.resumed")
    assert run["epoch"] == 2


def test_a_denied_approval_fails_the_run(api):
    run = launch(api, ask(), noop(1))
    assert decide(api, approval_of(api, run), "deny", comment="no")["status"] == "denied"
    run = reaches(api, run, "failed")
    assert run["failure_kind"] == "approval_denied" and statuses(api, run) == ["failed", "pending"]


def test_a_denied_approval_can_be_handled(api):
    run = launch(api, ask({"id": "ask", "on_error": "continue"}), noop("${{ steps.ask.output.decision }}"))
    decide(api, approval_of(api, run), "deny")
    assert outputs(api, reaches(api, run, "completed"))[1] == "deny"


def test_an_approval_expires(api):
    run = launch(api, ask(expires_in_seconds=1))
    approval = approval_of(api, run)
    assert reaches(api, run, "failed")["failure_kind"] == "approval_expired"
    assert api.get("/v1/approvals/" + approval["id"])["status"] == "expired"
    api.problem("POST", f"/v1/approvals/{approval['id']}/decide", 409, "already_decided", {"decision": "approve"})


def test_an_approval_is_decided_once(api):
    run = launch(api, ask())
    approval = approval_of(api, run)
    path = f"/v1/approvals/{approval['id']}/decide"
    api.problem("POST", path, 400, "validation_failed", {"decision": "maybe"})
    decide(api, approval, "approve")
    api.problem("POST", path, 409, "already_decided", {"decision": "deny"})
    assert outputs(api, reaches(api, run, "completed")) == [{"decision": "approve"}]


def test_who_may_not_approve_is_refused(api):
    approval = approval_of(api, launch(api, ask()))
    agent = Client(api.server, api.key_for(workspace_id=api.session.headers["X-Workspace-ID"])["key"])
    agent.problem("POST", f"/v1/approvals/{approval['id']}/decide", 403, "permission_denied", {"decision": "approve"})
    assert api.get("/v1/approvals/" + approval["id"])["status"] == "pending"


def test_canceling_the_run_cancels_its_approval(api):
    run = launch(api, ask())
    approval = approval_of(api, run)
    cancel(api, run)
    wait_until(lambda: api.get("/v1/approvals/" + approval["id"])["status"] == "canceled")


def test_any_step_may_need_an_approval_first(api):
    step = action("write_file", {"requires_approval": True}, path="asked.txt", content="x")
    run = launch(api, step)
    approval = approval_of(api, run)
    assert "asked.txt" not in json.dumps(result(api, action("list_directory", path=".")))
    decide(api, approval, "approve")
    assert outputs(api, reaches(api, run, "completed"))[0]["written"] is True
    denied = launch(api, action("write_file", {"requires_approval": True}, path="denied.txt", content="x"))
    decide(api, approval_of(api, denied), "deny")
    assert reaches(api, denied, "failed")["failure_kind"] == "approval_denied"
    assert "denied.txt" not in json.dumps(result(api, action("list_directory", path=".")))


def test_an_approval_of_a_step_pins_what_it_would_do(api):
    digests = []
    for text in ("a", "a", "b"):
        run = launch(api, action("write_file", {"requires_approval": True}, path="pinned.txt", content=text))
        digests.append(approval_of(api, run).get("arguments_digest"))
        cancel(api, run)
    assert digests[0] and digests[0] == digests[1] != digests[2]


def test_waiting_runs_take_no_place(api):
    waiting = [launch(api, ask()) for _ in range(20)]
    for run in waiting:
        reaches(api, run, "awaiting_approval")
    completed(api, command("true"))
    for run in waiting:
        cancel(api, run)


# Delay, checkpoint.

def test_a_delay_sleeps(api):
    run = launch(api, action("delay", seconds=1), noop(1))
    sleeping = reaches(api, run, "sleeping")
    assert "lease_until" not in sleeping and steps_of(api, run)[0]["status"] == "waiting"
    run = reaches(api, run, "completed", 5)
    types = types_of(api, run)
    assert types.index("run.sleeping") < types.index("run.resumed")
    assert steps_of(api, run)[0]["duration_ms"] >= 1000
    assert run["started_at"] == sleeping["started_at"]


def test_a_delay_may_be_computed(api):
    completed(api, noop(0, id="n"), action("delay", seconds="${{ steps.n.output }}"))


def test_checkpoints_keep_the_state(api):
    run = completed(api, noop({"n": 1}, id="one"), action("checkpoint", label="here"), noop(2), action("checkpoint"))
    first, second = sorted(api.get(f"/v1/runs/{run['id']}/checkpoints")["items"], key=lambda c: c["step_index"])
    assert first["step_index"] == 1 and first["label"] == "here" and first["at"] and first["id"] != second["id"]
    assert second["step_index"] == 3 and "label" not in second
    assert "one" in json.dumps(first["state"])
    assert types_of(api, run).count("run.checkpoint_saved") == 2


# Errors, retries, time.

def test_an_error_stops_the_run(api):
    run = failed(api, noop(1), command("echo out; echo why >&2; exit 7", id="bad"), noop(2), kind="failed")
    assert statuses(api, run) == ["completed", "failed", "pending"]
    step = steps_of(api, run)[1]
    assert step["output"]["exit_code"] == 7 and step["output"]["stderr"] == "why\n" and step["error"]["kind"] == "failed"
    assert "bad" in run["error"] and run["current_step"] == 1
    assert types_of(api, run)[-2:] == ["run.step_failed", "run.failed"]
    assert api.get("/v1/tasks/" + run["task_id"])["status"] == "failed"


def test_an_error_may_be_passed_over(api):
    run = completed(api, command("exit 7", id="bad", on_error="continue"), noop("${{ steps.bad.output.exit_code }} ${{ steps.bad.status }}"))
    assert statuses(api, run) == ["failed", "completed"] and outputs(api, run)[1] == "7 failed"


@pytest.mark.parametrize("target", ["rescue", 2])
def test_an_error_may_lead_to_a_later_step(api, target):
    run = completed(api, command("exit 7", on_error=target), noop("skipped"), noop("rescued", id="rescue"), noop("end"))
    assert statuses(api, run) == ["failed", "skipped", "completed", "completed"]
    run = completed(api, command("exit 0", on_error=target), noop("not skipped"), noop(1, id="rescue"))
    assert statuses(api, run) == ["completed"] * 3


def test_errors_of_control_steps_are_handled_alike(api):
    run = completed(api, noop("${{ nope }}", on_error="continue"), parallel([command("exit 1")], fields={"on_error": "continue"}), noop("end"))
    assert statuses(api, run) == ["failed", "failed", "completed"]


def test_a_step_is_tried_again(api):
    run = completed(api, command("echo x >> tries; test $(wc -l < tries) -ge 3", retry={"max_attempts": 3, "delay_ms": 20}))
    step = steps_of(api, run)[0]
    assert step["status"] == "completed" and step["attempt"] == 3
    attempts = [e["payload"]["attempt"] for e in events_of(api, run) if e["type"] == "run.step_started"]
    assert attempts == [1, 2, 3] and run["attempt"] == 1


def test_a_step_is_tried_only_so_often_and_after_a_pause(api):
    run = failed(api, command("echo x >> tries; exit 1", retry={"max_attempts": 2, "delay_ms": 500}))
    assert steps_of(api, run)[0]["attempt"] == 2
    first, second = [e["timestamp"] for e in events_of(api, run) if e["type"] == "run.step_started"]
    assert moment(second) - moment(first) >= 0.5
    assert result(api, action("read_file", path="tries"))["content"] == "x\nx\n"


def test_a_step_that_takes_too_long_is_killed(api):
    mark, step = sleeper(timeout_seconds=1)
    began = time.monotonic()
    run = ended(api, launch(api, step))
    assert elapsed_since(began) < 6 * SLOW
    assert run["status"] in ("failed", "timed_out") and run["failure_kind"] == "timed_out"
    assert steps_of(api, run)[0]["error"]["kind"] == "timed_out"
    wait_until(lambda: not found(mark), 2)


def test_a_step_that_took_too_long_may_be_passed_over(api):
    run = completed(api, command("echo begun; sleep 60", timeout_seconds=1, on_error="continue"), noop("on"))
    assert statuses(api, run) == ["failed", "completed"] and steps_of(api, run)[0]["error"]["kind"] == "timed_out"


@pytest.mark.parametrize("step", [
    parallel([action("delay", seconds=60)]), ask(), action("delay", seconds=60),
    action("for_each", items=[1], steps=[action("delay", seconds=60)])], ids=lambda s: s["action"])
def test_waiting_steps_time_out_too(api, step):
    run = ended(api, launch(api, {**step, "timeout_seconds": 1}), 6)
    assert run["failure_kind"] == "timed_out"
    assert steps_of(api, run)[0]["error"]["kind"] == "timed_out"
    wait_until(lambda: all(c["status"] in OVER for c in children_of(api, run)), 5)


def test_a_place_of_zero_is_told_like_any_other(api):
    run = completed(api, parallel([noop(1)], [noop(2)]))
    first, second = children_of(api, run)
    assert first["branch_index"] == 0 and second["branch_index"] == 1
    assert first["parent_step_index"] == 0
    assert failed(api, command("exit 1"))["current_step"] == 0


def test_a_run_has_a_deadline(api):
    mark, step = sleeper()
    run = ended(api, launch(api, step, timeout_seconds=1))
    assert run["status"] == "timed_out" and run["failure_kind"] == "timed_out"
    assert types_of(api, run)[-1] == "run.timed_out"
    wait_until(lambda: not found(mark), 2)
    assert api.get("/v1/tasks/" + run["task_id"])["status"] == "failed"


def test_the_deadline_holds_for_waiting_runs_and_their_children(api):
    run = ended(api, launch(api, parallel([action("delay", seconds=60)], [ask()]), timeout_seconds=1))
    assert run["status"] == "timed_out"
    wait_until(lambda: all(c["status"] in OVER for c in children_of(api, run)), 5)


def test_the_deadline_may_come_with_the_run(api):
    made = define(api, action("delay", seconds=60), timeout_seconds=600)
    run = api.post(f"/v1/definitions/{made['id']}/runs", {"timeout_seconds": 1})["run"]
    assert reaches(api, run, "timed_out", 5)["due_at"]


# Canceling and trying again.

def test_canceling_kills_the_command_within_two_seconds(api):
    mark, step = sleeper()
    run = launch(api, step, noop(1))
    begun(mark)
    began = time.monotonic()
    cancel(api, run)
    wait_until(lambda: not found(mark), 2)
    assert elapsed_since(began) < 2 * SLOW
    run = reaches(api, run, "canceled", 5)
    assert steps_of(api, run)[1]["status"] == "pending"
    assert api.get("/v1/tasks/" + run["task_id"])["status"] == "ready"
    last = events_of(api, run)[-1]
    assert last["type"] == "run.canceled" and last["payload"]["reason"] == "direct"


def test_canceling_reaches_the_children(api):
    mark, step = sleeper()
    child = define(api, parallel([step], [action("delay", seconds=60)], [ask()]))
    run = launch(api, action("sub_task", referenced_task_id=child["id"]))
    begun(mark)
    kid, = children_of(api, run)
    cancel(api, run)
    wait_until(lambda: not found(mark), 2)
    reaches(api, run, "canceled", 5)
    for child in [kid] + children_of(api, kid):
        assert reaches(api, child, "canceled", 5)
        assert events_of(api, child)[-1]["payload"]["reason"] == "parent_cascade"


def test_canceling_the_task_ends_its_run(api):
    mark, step = sleeper()
    run = launch(api, step)
    begun(mark)
    assert api.post(f"/v1/tasks/{run['task_id']}/cancel", {}, 200)["status"] == "canceled"
    reaches(api, run, "canceled", 5)
    wait_until(lambda: not found(mark), 2)
    assert api.request("POST", f"/v1/tasks/{run['task_id']}/retry", {}).status_code == 409


def test_a_canceled_branch_is_a_failure_of_its_parent(api):
    run = launch(api, parallel([action("delay", seconds=60)], [noop(1)]))
    reaches(api, run, "awaiting_parallel")
    cancel(api, children_of(api, run)[0])
    assert ended(api, run)["status"] in ("failed", "canceled")


def test_a_failed_task_is_tried_again_from_the_first_step(api):
    run = failed(api, command("echo x >> log"), command("test $(wc -l < log) -ge 2"))
    path = "/v1/tasks/" + run["task_id"]
    assert api.request("POST", path + "/retry", {}).status_code == 409
    api.request("PATCH", path, {"max_attempts": 2}, 200)
    again = api.post(path + "/retry")["run"]
    again = reaches(api, again, "completed")
    assert again["attempt"] == 2 and again["previous_run_id"] == run["id"] and again["id"] != run["id"]
    assert outputs(api, again)[1]["exit_code"] == 0
    assert api.get(path)["status"] == "completed"
    assert steps_of(api, run)[1]["status"] == "failed"


def test_a_canceled_run_is_tried_again(api):
    run = launch(api, action("delay", seconds=60), retry={"max_attempts": 2})
    reaches(api, run, "sleeping")
    cancel(api, run)
    again = api.post(f"/v1/runs/{run['id']}/retry")
    assert again["previous_run"]["id"] == run["id"] and again["run"]["attempt"] == 2
    cancel(api, again["run"])


def test_a_definition_is_tried_again_by_itself(api):
    run = failed(api, command("echo x >> log; test $(wc -l < log) -ge 2"), retry={"max_attempts": 3, "delay_ms": 50})
    wait_until(lambda: api.get("/v1/tasks/" + run["task_id"])["status"] == "completed")
    runs = api.get(f"/v1/tasks/{run['task_id']}/runs")["items"]
    assert [(r["attempt"], r["status"]) for r in runs] == [(2, "completed"), (1, "failed")]


@pytest.mark.parametrize("retry", [{"max_attempts": 2, "delay_ms": 20}, {"delay_ms": 20}])
def test_a_branch_that_is_tried_again_is_joined_at_its_end(api, retry):
    child = define(api, command("echo x >> log; test $(wc -l < log) -ge 2"), noop("second"), retry=retry)
    run = completed(api, action("sub_task", referenced_task_id=child["id"]))
    assert outputs(api, run) == ["second"] and run["attempt"] == 1
    result(api, command("rm log"))
    run = completed(api, parallel({"referenced_task_id": child["id"]}, [noop(1)]))
    assert [b["output"] for b in outputs(api, run)[0]["branches"]] == ["second", 1]


@pytest.mark.parametrize("wrap", [
    lambda step: parallel([step]), lambda step: action("for_each", items=[1], steps=[step])], ids=["parallel", "for_each"])
def test_control_steps_are_tried_again(api, wrap):
    step = {**wrap(command("echo x >> log; test $(wc -l < log) -ge 2")), "retry": {"max_attempts": 2, "delay_ms": 20}}
    run = completed(api, step)
    assert steps_of(api, run)[0]["attempt"] == 2


def test_a_sub_task_is_tried_again_by_its_step(api):
    child = define(api, command("echo x >> log; test $(wc -l < log) -ge 2"))
    run = completed(api, action("sub_task", {"retry": {"max_attempts": 2, "delay_ms": 20}}, referenced_task_id=child["id"]))
    assert steps_of(api, run)[0]["attempt"] == 2


def test_a_sub_task_keeps_its_own_deadline(api):
    child = define(api, action("delay", seconds=60), timeout_seconds=1)
    run = ended(api, launch(api, action("sub_task", referenced_task_id=child["id"])), 6)
    assert run["status"] in ("failed", "timed_out") and children_of(api, run)[0]["status"] == "timed_out"


def test_a_run_that_waits_to_be_tried_again_can_be_canceled(api):
    run = launch(api, command("exit 1", retry={"max_attempts": 5, "delay_ms": 60000}))
    wait_until(lambda: "run.step_failed" in types_of(api, run) or steps_of(api, run)[0]["attempt"] == 2)
    cancel(api, run)
    reaches(api, run, "canceled", 5)


def test_cancels_that_race_with_the_work_leave_order(api):
    made = define(api, noop(1), command("true"), parallel([noop(1)], [command("true")]), noop(2))
    runs = []
    for n in range(16):
        run = api.post(f"/v1/definitions/{made['id']}/runs")["run"]
        deadline = time.monotonic() + n * 0.01
        wait_until(lambda: time.monotonic() > deadline)
        answer = api.request("POST", f"/v1/runs/{run['id']}/cancel", {})
        assert answer.status_code in (200, 409)
        runs.append((run, answer.status_code))
    for run, status in runs:
        run = ended(api, run)
        assert run["status"] == ("canceled" if status == 200 else "completed")
        assert types_of(api, run)[-1] == "run." + run["status"]
        wait_until(lambda: all(c["status"] in OVER for c in children_of(api, run)), 5)
        items = api.get(f"/v1/tasks/{run['task_id']}/timeline?limit=500")["items"]
        assert sorted(e["sequence"] for e in items) == list(range(1, len(items) + 1))


# What is not here.

@pytest.mark.parametrize("step", [
    action("llm_call", prompt="x"), action("tool_call", name="x"), action("summarize")], ids=lambda s: s["action"])
def test_what_nobody_performs_fails_and_says_so(api, step):
    run = failed(api, step, kind="no_provider")
    assert step["action"] in run["error"]
    assert steps_of(api, run)[0]["error"]["kind"] == "no_provider"
    completed(api, {**step, "on_error": "continue"}, noop(1))


def test_capabilities_of_the_worker_are_found(api):
    completed(api, command("true", required_capabilities=["zip"]), noop(1, required_capabilities=["zap", "zip"]))


def test_a_step_waits_for_a_worker_that_can(api):
    run = launch(api, noop(1, required_capabilities=["zip", "gpu"]))
    wait_until(lambda: api.get(f"/v1/runs/{run['id']}/explain")["reasons"][0]["code"] == "no_claimer", 5)
    assert run_of(api, run)["status"] == "queued" and statuses(api, run) == ["pending"]
    cancel(api, run)


# Templates.

def test_a_lone_expression_keeps_its_type(api):
    value = {"n": 1, "f": 1.5, "t": True, "z": None, "s": "x", "l": [1, {"a": 2}]}
    assert result(api, noop(value), noop({k: "${{ last.output.%s }}" % k for k in value})) == value
    assert result(api, noop(value), noop("${{ last.output }}")) == value


def test_embedded_values_are_text(api):
    value = {"n": 1, "f": 1.5, "t": True, "s": "x", "l": [1, "a"], "m": {"a": 2}}
    got = result(api, noop(value), noop({k: "<${{ last.output.%s }}>" % k for k in value}))
    assert (got["n"], got["f"], got["t"], got["s"]) == ("<1>", "<1.5>", "<true>", "<x>")
    assert json.loads(got["l"][1:-1]) == [1, "a"] and json.loads(got["m"][1:-1]) == {"a": 2}
    assert result(api, noop("${{ 1 }}${{ 2 }} ${{ 'a' + 'b' }}")) == "12 ab"


def test_two_dollars_are_one_that_means_nothing(api):
    assert result(api, noop("$${{ input.x }}")) == "${{ input.x }}"
    assert result(api, noop("a $${{ x }} ${{ 1 }} $5 {{ y }} $${{ z }}")) == "a ${{ x }} 1 $5 {{ y }} ${{ z }}"


def test_what_a_value_contains_is_not_evaluated(api):
    assert result(api, noop("$${{ 1 }}"), noop("${{ last.output }}"), noop("<${{ last.output }}>")) == "<${{ 1 }}>"


def test_the_names_of_expressions(api):
    made = define(api, noop({"k": 1}, id="one"),
                  noop(["${{ steps.one.output.k }}", "${{ steps[0].output.k }}", "${{ last.output.k }}", "${{ k }}",
                        "${{ input.given }}", "${{ given }}", "${{ run.id }}", "${{ run.attempt }}", "${{ task.id }}", "${{ task.title }}"]))
    both = api.post(f"/v1/definitions/{made['id']}/runs", {"input": {"given": "g"}, "title": "T"})
    run = reaches(api, both["run"], "completed")
    assert outputs(api, run)[1] == [1, 1, 1, 1, "g", "g", run["id"], 1, both["task"]["id"], "T"]


def test_expressions_reach_into_lists_and_keep_numbers_apart(api):
    assert result(api, noop([{"a": "${{ 7 / 2 }}"}, ["${{ 7.0 / 2.0 }}"], "${{ [1, 2, 3].filter(x, x > 1).map(x, x * x) }}"])) == [
        {"a": 3}, [3.5], [4, 9]]
    assert result(api, noop("${{ 'a,b'.split(',').exists(x, x == 'b') && 'abc'.matches('^a.c$') }}")) is True


@pytest.mark.parametrize("expression", [
    # ThreadSanitizer marks all that is left of the text as read at each memmem(): minutes.
    pytest.param("'a'" + ".replace('a', 'aaaaaaaaaa')" * 9, marks=pytest.mark.skipif("build-tsan" in BATON, reason="quadratic")),
    "[0,1,2,3,4,5,6,7,8,9].map(a, [0,1,2,3,4,5,6,7,8,9].map(b, [0,1,2,3,4,5,6,7,8,9].map(c, [0,1,2,3,4,5,6,7,8,9].map(d, "
    "[0,1,2,3,4,5,6,7,8,9].map(e, [0,1,2,3,4,5,6,7,8,9].map(f, [0,1,2,3,4,5,6,7,8,9].map(g, [0,1,2,3,4,5,6,7,8,9].map(h, h))))))))",
    "'%s'.matches('(a*)*b')" % ("a" * 40)], ids=["text", "lists", "pattern"])
def test_an_expression_that_builds_a_gigabyte_is_stopped(api, expression):
    began = time.monotonic()
    run = ended(api, launch(api, noop("${{ [%s].size() }}" % expression)))
    assert elapsed_since(began) < 8 * SLOW
    assert run["failure_kind"] == "condition_error" if "matches" not in expression else run["status"] in OVER
    rss = [l for l in open(f"/proc/{api.server.process.pid}/status") if l.startswith("VmHWM")][0]
    assert int(rss.split()[1]) < 300000 or "build-" in BATON  # what watches memory uses more of it


@pytest.mark.parametrize("expression", ["0.0 / 0.0", "1.0 / 0.0", "[0.0 / 0.0]", "9223372036854775807 + 1", "1 % 0",
                                        "duration('90s')", "timestamp('2024-01-01T00:00:00Z')", "{1: 'a'}", "type(1)"])
def test_values_that_json_does_not_know_do_not_spoil_the_answer(api, expression):
    def refuse(name):
        raise AssertionError(name)
    run = ended(api, launch(api, noop("${{ %s }}" % expression), noop("${{ string(1) }} ${{ %s }}" % expression, on_error="continue")))
    assert run["status"] == "completed" or run["failure_kind"] == "condition_error"
    text = api.request("GET", f"/v1/runs/{run['id']}/steps", status=200).text
    assert json.loads(text, parse_constant=refuse)["items"]


@pytest.mark.parametrize("value", [9223372036854775807, -9223372036854775808, 0.1, 1e300, "\u20ac\U0001f600", "", {}, [], "a\nb\t\"\\", {"": 1}])
def test_values_pass_through_unchanged(api, value):
    run = completed(api, noop(value), noop("${{ last.output }}"))
    assert outputs(api, run) == [value, value]


# What is told.

def test_the_events_of_a_run_are_in_order(api):
    run = completed(api, noop(1), noop(2))
    assert types_of(api, run) == ["run.queued", "run.claimed", "run.starting", "run.started", "run.step_started",
                                  "run.step_completed", "run.step_started", "run.step_completed", "run.completed"]


def test_the_events_of_a_tree_have_no_gaps(api):
    run = completed(api, noop(1), parallel([noop(2)], [command("true")]), action("delay", seconds=0),
                    each([1, 2, 3], noop(1)), noop(3))
    items = api.get(f"/v1/tasks/{run['task_id']}/timeline?limit=500")["items"]
    numbers = sorted(e["sequence"] for e in items)
    assert numbers == list(range(1, len(items) + 1))
    assert api.get("/v1/tasks/" + run["task_id"])["latest_sequence"] == len(items)
    for one in [run] + children_of(api, run):
        own = [e["sequence"] for e in events_of(api, one)]
        assert own == sorted(set(own)) and set(own) <= set(numbers)
        types = types_of(api, one)
        assert types[0] == "run.queued" and types[-1] == "run.completed"
        assert types.count("run.step_started") == types.count("run.step_completed")


def test_a_run_is_followed_live_under_its_definition(api):
    import requests
    made = define(api, action("delay", seconds=1), noop(1))
    run = api.post(f"/v1/definitions/{made['id']}/runs")["run"]
    names = []
    with requests.get(f"{api.server.url}/v1/tasks/{made['id']}/runs/{run['id']}/events/stream", stream=True, timeout=20,
                      headers=dict(api.session.headers)) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines(chunk_size=1):
            if line.startswith(b"event: "):
                names.append(line[7:].decode())
    assert names[0] == "run.queued" and names[-2:] == ["run.completed", "stream.end"]
    assert names[:-1] == types_of(api, run)


def test_steps_are_listed_before_they_begin(api):
    run = launch(api, noop(1, id="a", label="First"), ask({"id": "b"}), noop(2, id="c"))
    approval = approval_of(api, run)
    steps = steps_of(api, run)
    assert [(s["index"], s["id"], s["action"], s["status"]) for s in steps] == [
        (0, "a", "noop", "completed"), (1, "b", "approval", "waiting"), (2, "c", "noop", "pending")]
    assert all(s["run_id"] == run["id"] for s in steps) and steps[0]["label"] == "First"
    assert "started_at" not in steps[2] and "output" not in steps[2]
    decide(api, approval, "deny")


def test_explain_says_what_a_waiting_run_waits_for(api):
    for step in (action("delay", seconds=60), parallel([action("delay", seconds=60)])):
        run = launch(api, step)
        wait_until(lambda: run_of(api, run)["status"] in ("sleeping", "awaiting_parallel"))
        told = api.get(f"/v1/runs/{run['id']}/explain")
        assert told["status"] == run_of(api, run)["status"]
        assert told["reasons"][0]["code"] == "waiting" and told["reasons"][0]["detail"]
        cancel(api, run)


def test_the_inputs_of_steps_are_shown_as_evaluated(api):
    run = completed(api, noop({"n": 2}), noop("${{ n + 1 }}"))
    assert steps_of(api, run)[1]["input"] == {"output": 3}


def test_the_result_of_a_run_is_its_last_output(api):
    assert completed(api, noop(1), noop({"a": 2}))["result"] == {"a": 2}


def test_a_big_result_is_whole(api):
    text = "0123456789" * 3000
    run = completed(api, noop(text), noop({"a": ["${{ last.output }}"] * 9}))
    assert outputs(api, run)[1] == {"a": [text] * 9}


def test_too_big_an_output_fails(api):
    text = "0123456789" * 10000
    run = failed(api, noop(text), noop({"a": ["${{ last.output }}"] * 12}))
    assert steps_of(api, run)[1]["status"] == "failed"


def test_the_worker_says_what_it_does(api):
    worker, = [w for w in api.get("/v1/workers")["items"] if w["kind"] == "worker"]
    assert worker["concurrency"] == 8 and worker["sandbox"] and worker["last_heartbeat_at"] and worker["host"]


def test_runs_are_performed_by_priority(tmp_path):
    server = Server(tmp_path / "data", "--concurrency", "1")
    try:
        api = Client(server)
        blocker = launch(api, command("sleep 0.5"))
        reaches(api, blocker, "running")
        made = define(api, noop(1))
        low, urgent = [api.post(f"/v1/definitions/{made['id']}/runs", {"priority": p})["run"] for p in ("low", "urgent")]
        low, urgent = [reaches(api, r, "completed") for r in (low, urgent)]
        assert urgent["started_at"] < low["started_at"]
    finally:
        server.stop()


def test_without_a_worker_nothing_is_performed(tmp_path):
    server = Server(tmp_path / "data", "--concurrency", "0")
    try:
        api = Client(server)
        run = launch(api, noop(1))
        codes = [r["code"] for r in api.get(f"/v1/runs/{run['id']}/explain")["reasons"]]
        assert "no_claimer" in codes and run_of(api, run)["status"] == "queued"
    finally:
        server.stop()


def test_the_next_attempt_waits_until_the_last_one_is_dead(api):
    mark = "304.%d" % time.monotonic_ns()
    run = launch(api, command(f"test -e again && exit 0; touch again; trap '' TERM; sleep {mark}"))
    wait_until(lambda: found(mark))
    api.post(f"/v1/runs/{run['id']}/cancel", {}, 200)
    api.request("PATCH", "/v1/tasks/" + run["task_id"], {"max_attempts": 2}, 200)
    again = api.post(f"/v1/tasks/{run['task_id']}/start", {}, 201)["run"]
    done = reaches(api, again, "completed", 10)
    assert not found(mark)
    assert done["started_at"] > api.get("/v1/runs/" + run["id"])["ended_at"]


def test_a_step_that_took_less_than_a_millisecond_took_none(api):
    run = completed(api, noop(1), noop(2), command("true"))
    for step in steps_of(api, run):
        assert step["duration_ms"] >= 0 and step["ended_at"] >= step["started_at"]
    waiting = launch(api, action("delay", seconds=600), noop(1))
    step_is(api, waiting, 0, "waiting")
    assert not any("duration_ms" in step for step in steps_of(api, waiting))
    api.post(f"/v1/runs/{waiting['id']}/cancel", {}, 200)
