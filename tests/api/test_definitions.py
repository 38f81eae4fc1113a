import socket
import time

import pytest
from conftest import SLOW, Client, wait_until
from flows import (action, approval_of, completed, decide, define, definition, launch, noop,
                   outputs, reaches, run_of)

YAML = {"Content-Type": "application/yaml"}


def yaml(api, text, status=201, path="/v1/definitions", method="POST", headers=None):
    return api.request(method, path, status=status, data=text.encode(),
                       headers={**YAML, **(headers or {})}).json()


def problems(api, *steps, **fields):
    """What validation says of the steps; it must say something, and in full."""
    answer = api.post("/v1/definitions/validate", definition(*steps, **fields), 200)
    assert answer["valid"] is False and answer["problems"]
    for problem in answer["problems"]:
        assert "path" in problem and problem["code"] and problem["message"]
    return answer["problems"]


def valid(api, *steps, **fields):
    answer = api.post("/v1/definitions/validate", definition(*steps, **fields), 200)
    assert answer == {"valid": True, "problems": [], "graph": answer["graph"]}
    return answer["graph"]


def refused(api, *steps, **fields):
    """Neither valid nor stored."""
    problems(api, *steps, **fields)
    body = definition(*steps, **fields)
    answer = api.request("POST", "/v1/definitions", body, 400).json()
    assert answer["code"] in ("validation_failed", "unknown_field") and answer["detail"]
    assert api.get("/v1/definitions")["items"] == []
    return answer


def sub(reference, **fields):
    return action("sub_task", fields, referenced_task_id=reference)


# Creating and reading.

def test_a_definition_is_created_and_read_by_id_and_name(api):
    made = api.post("/v1/definitions", {"name": "audit", "description": "looks", "steps": [noop(1)]})
    assert made["id"].startswith("def_") and made["version"] == 1
    assert made["name"] == "audit" and made["description"] == "looks" and made["created_at"]
    assert made["spec"]["steps"][0]["action"] == "noop"
    for key in (made["id"], "audit"):
        assert api.get("/v1/definitions/" + key) == made


def test_yaml_and_json_mean_the_same(api):
    made = yaml(api, """
name: both
description: |
  two
  lines
steps:
  - { id: a, action: noop, parameters: { output: { n: 1, f: 1.5, t: true, z: null, s: "1", l: [1, two] } } }
""")
    assert made["name"] == "both" and made["description"] == "two\nlines\n"
    run = reaches(api, api.post("/v1/definitions/both/runs")["run"], "completed")
    assert outputs(api, run) == [{"n": 1, "f": 1.5, "t": True, "z": None, "s": "1", "l": [1, "two"]}]


def test_the_name_may_come_with_the_address(api):
    assert yaml(api, "steps: [{action: noop}]", path="/v1/definitions?name=from-file")["name"] == "from-file"
    assert yaml(api, "name: own\nsteps: [{action: noop}]", path="/v1/definitions?name=other")["name"] == "own"
    api.problem("POST", "/v1/definitions", 400, "validation_failed", {"steps": [noop()]})


def test_a_name_belongs_to_one_definition(api):
    api.post("/v1/definitions", {"name": "one", "steps": [noop()]})
    api.problem("POST", "/v1/definitions", 409, "conflict", {"name": "one", "steps": [noop()]})


def test_definitions_are_listed_newest_first_and_in_pages(api):
    ids = [define(api, noop())["id"] for _ in range(5)]
    first = api.get("/v1/definitions?limit=2")
    second = api.get("/v1/definitions?limit=3&cursor=" + first["next_cursor"])
    assert [d["id"] for d in first["items"] + second["items"]] == ids[::-1]
    assert second["next_cursor"] is None
    api.problem("GET", "/v1/definitions?cursor=nonsense", 400, "invalid_cursor")


def test_a_missing_definition_is_404(api):
    for path in ("def_0000000000000", "nobody", "def_x"):
        assert api.problem("GET", "/v1/definitions/" + path, 404, "not_found")["resource"]
    made = define(api, noop())
    api.problem("GET", f"/v1/definitions/{made['id']}?version=2", 404, "not_found")
    api.problem("POST", "/v1/definitions/nobody/runs", 404, "not_found", {})


def test_config_steps_and_the_old_spellings_are_understood(api):
    child = define(api, noop("child"))
    made = api.post("/v1/definitions", {"name": "old", "config": {"steps": [
        {"index": 0, "action": "Noop", "label": "First", "parameters": {"output": 1}},
        {"index": 1, "action": "SubTask", "parameters": {"referenced_task_id": child["id"]}},
        {"index": 2, "action": "list-directory", "parameters": {"path": "."}}]}})
    graph = api.get(f"/v1/definitions/{made['id']}/graph")
    assert [n["action"] for n in graph["nodes"]] == ["noop", "sub_task", "list_directory"]
    run = reaches(api, api.post("/v1/definitions/old/runs")["run"], "completed")
    steps = api.get(f"/v1/runs/{run['id']}/steps")["items"]
    assert [s["action"] for s in steps] == ["noop", "sub_task", "list_directory"]
    assert steps[0]["label"] == "First" and steps[1]["output"] == "child"


# Versions.

def put(api, made, version, *steps, status=200, **fields):
    headers = {"If-Match": f'"{version}"'} if version else {}
    body = {"name": made["name"], "retry": {"max_attempts": 1}, "steps": list(steps), **fields}
    return api.request("PUT", "/v1/definitions/" + made["id"], body, status, headers=headers)


def test_a_change_makes_a_version_and_keeps_the_old_one(api):
    made = define(api, noop("one"))
    second = put(api, made, 1, noop("two")).json()
    assert second["id"] == made["id"] and second["version"] == 2
    assert api.get("/v1/definitions/" + made["name"])["version"] == 2
    assert api.get(f"/v1/definitions/{made['id']}?version=1")["spec"] == made["spec"]
    versions = api.get(f"/v1/definitions/{made['id']}/versions")["items"]
    assert sorted(v["version"] for v in versions) == [1, 2]


def test_a_change_needs_the_current_version(api):
    made = define(api, noop("one"))
    put(api, made, 1, noop("two"))
    for version in (1, 3, None):
        assert put(api, made, version, noop("x"), status=412).json()["code"] == "version_mismatch"
    assert api.get("/v1/definitions/" + made["id"])["version"] == 2


def test_a_change_in_yaml(api):
    made = define(api, noop("one"))
    changed = yaml(api, f"name: {made['name']}\nsteps: [{{action: noop, parameters: {{output: 2}}}}]", 200,
                   "/v1/definitions/" + made["id"], "PUT", {"If-Match": '"1"'})
    assert changed["version"] == 2 and changed["spec"]["steps"][0]["parameters"]["output"] == 2


def test_a_wrong_change_changes_nothing(api):
    made = define(api, noop("one"))
    put(api, made, 1, {"action": "frobnicate"}, status=400)
    assert api.get("/v1/definitions/" + made["id"]) == made


def test_a_run_keeps_its_version(api):
    ask = action("approval", message="go on?")
    made = define(api, ask, noop("one"))
    old = api.post(f"/v1/definitions/{made['id']}/runs")["run"]
    approval = approval_of(api, old)
    put(api, made, 1, noop("two"))
    new = reaches(api, api.post(f"/v1/definitions/{made['id']}/runs")["run"], "completed")
    decide(api, approval, "approve")
    old = reaches(api, old, "completed")
    assert old["definition_version"] == 1 and outputs(api, old)[-1] == "one"
    assert new["definition_version"] == 2 and outputs(api, new) == ["two"]


def test_an_archived_definition_starts_nothing_and_its_runs_go_on(api):
    made = define(api, action("approval", message="go on?"), noop("end"))
    run = api.post(f"/v1/definitions/{made['id']}/runs")["run"]
    approval = approval_of(api, run)
    assert api.request("DELETE", "/v1/definitions/" + made["id"]).status_code in (200, 204)
    assert api.get("/v1/definitions")["items"] == []
    assert api.request("POST", f"/v1/definitions/{made['id']}/runs", {}).status_code in (404, 409)
    decide(api, approval, "approve")
    assert outputs(api, reaches(api, run, "completed"))[-1] == "end"
    assert api.get("/v1/runs/" + run["id"])["definition_id"] == made["id"]


# Runs.

def test_a_run_of_a_definition_is_a_task_and_a_run(api):
    made = define(api, noop(1))
    both = api.post(f"/v1/definitions/{made['id']}/runs",
                    {"title": "by hand", "priority": "high", "timeout_seconds": 60,
                     "source_session_id": "s", "source_conversation_id": "c", "source_message_id": "m"})
    task, run = both["task"], both["run"]
    assert task["title"] == "by hand" and task["priority"] == "high" and task["timeout_seconds"] == 60
    assert (task["source_session_id"], task["source_conversation_id"], task["source_message_id"]) == ("s", "c", "m")
    assert run["task_id"] == task["id"] and run["kind"] == "root" and run["executor"] == "worker"
    assert run["definition_id"] == made["id"] and run["definition_version"] == 1
    reaches(api, run, "completed")
    assert api.get("/v1/tasks/" + task["id"])["status"] == "completed"


def test_runs_of_a_definition_are_listed(api):
    made, other = define(api, noop(1)), define(api, noop(2))
    ids = [api.post(f"/v1/definitions/{made['id']}/runs")["run"]["id"] for _ in range(3)]
    api.post(f"/v1/definitions/{other['id']}/runs")
    assert [r["id"] for r in api.get(f"/v1/definitions/{made['id']}/runs")["items"]] == ids[::-1]
    assert [r["id"] for r in api.get(f"/v1/definitions/{made['name']}/runs")["items"]] == ids[::-1]
    assert [r["id"] for r in api.get(f"/v1/runs?definition_id={made['id']}")["items"]] == ids[::-1]


def test_a_task_may_name_a_definition(api):
    made = define(api, noop("${{ input.n }}"))
    both = api.started(definition_id=made["id"], input={"n": 7})
    assert outputs(api, reaches(api, both["run"], "completed")) == [7]
    task = api.task(definition_id=made["id"])
    run = api.post(f"/v1/tasks/{task['id']}/start", {"input": {"n": 8}})["run"]
    assert outputs(api, reaches(api, run, "completed")) == [8]
    answer = api.request("POST", "/v1/tasks", {"title": "x", "definition_id": "def_0000000000000"})
    assert answer.status_code in (400, 404)


def test_unknown_fields_of_a_run_are_refused(api):
    made = define(api, noop(1))
    problem = api.problem("POST", f"/v1/definitions/{made['id']}/runs", 400, "unknown_field", {"inputs": {}})
    assert problem["field"] == "inputs"


def test_a_repeated_key_makes_one_definition_and_one_run(api):
    body, key = definition(noop(1)), {"Idempotency-Key": "k"}
    first = api.request("POST", "/v1/definitions", body, 201, headers=dict(key)).json()
    assert api.request("POST", "/v1/definitions", body, 201, headers=dict(key)).json() == first
    api.problem("POST", "/v1/definitions", 422, "idempotency_mismatch", definition(noop(2)), headers=dict(key))
    path = f"/v1/definitions/{first['id']}/runs"
    run = api.request("POST", path, {"title": "a"}, 201, headers=dict(key)).json()
    assert api.request("POST", path, {"title": "a"}, 201, headers=dict(key)).json() == run
    api.problem("POST", path, 422, "idempotency_mismatch", {"title": "b"}, headers=dict(key))
    assert len(api.get(path)["items"]) == 1 == len(api.get("/v1/definitions")["items"])


SCHEMA = {"type": "object", "required": ["repo"], "properties": {
    "repo": {"type": "string", "minLength": 2, "maxLength": 5},
    "count": {"type": "integer", "minimum": 1, "maximum": 9, "default": 3},
    "ratio": {"type": "number"},
    "mode": {"enum": ["fast", "slow"], "default": "fast"},
    "tags": {"type": "array", "items": {"type": "string"}},
    "deep": {"type": "object", "properties": {"on": {"type": "boolean", "default": True}}}}}


def test_defaults_of_the_input_are_filled_in(api):
    made = define(api, noop("${{ input.count }}"), noop("${{ mode }}"), input=SCHEMA)
    run = api.post(f"/v1/definitions/{made['id']}/runs", {"input": {"repo": "abc"}})["run"]
    run = reaches(api, run, "completed")
    assert run["input"]["count"] == 3 and outputs(api, run) == [3, "fast"]


@pytest.mark.parametrize("given, names", [
    ({}, "repo"), ({"repo": 1}, "repo"), ({"repo": "a"}, "repo"), ({"repo": "abcdef"}, "repo"),
    ({"repo": "ab", "count": 0}, "count"), ({"repo": "ab", "count": 10}, "count"),
    ({"repo": "ab", "count": 1.5}, "count"), ({"repo": "ab", "count": "1"}, "count"),
    ({"repo": "ab", "ratio": "x"}, "ratio"), ({"repo": "ab", "mode": "warp"}, "mode"),
    ({"repo": "ab", "tags": ["a", 1]}, "tags"), ({"repo": "ab", "deep": {"on": "yes"}}, "on"),
    ([], "object")])
def test_an_input_that_does_not_fit_is_refused(api, given, names):
    made = define(api, noop(1), input=SCHEMA)
    problem = api.problem("POST", f"/v1/definitions/{made['id']}/runs", 400, "validation_failed", {"input": given})
    assert names in problem["detail"] + problem.get("field", "")
    assert api.get(f"/v1/definitions/{made['id']}/runs")["items"] == []


def test_an_input_that_fits_is_taken(api):
    made = define(api, noop("${{ input }}"), input=SCHEMA)
    given = {"repo": "ab", "count": 9, "ratio": 0.5, "mode": "slow", "tags": ["a"], "deep": {"on": False}}
    run = api.post(f"/v1/definitions/{made['id']}/runs", {"input": given})["run"]
    assert outputs(api, reaches(api, run, "completed")) == [given]


@pytest.mark.parametrize("schema", [
    {"type": "object", "properties": {"a": {"type": "string", "pattern": "x"}}},
    {"type": "object", "properties": {"a": {"type": "word"}}},
    {"type": "object", "required": "a"},
    {"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}},
    {"$ref": "#/x"}])
def test_a_schema_that_promises_more_is_refused(api, schema):
    refused(api, noop(1), input=schema)


# Validation.

def test_validation_stores_nothing_and_draws_the_graph(api):
    graph = valid(api, noop(1, id="a"), noop(2, id="b"))
    assert [n["id"] for n in graph["nodes"]] == ["a", "b"]
    assert [(e["from"], e["to"]) for e in graph["edges"]] == [("a", "b")]
    assert api.get("/v1/definitions")["items"] == []


def test_every_problem_has_a_hint(api):
    found = problems(api, {"action": "frobnicate"}, noop(1, id="x"), noop(1, id="x"), noop(1, nope=1),
                     noop("${{ 1 + }}"), action("execute_command"),
                     action("conditional", condition="true", then_step_index=0, else_step_index=70))
    assert len(found) >= 6
    assert [p for p in found if not p.get("hint")] == []


def test_the_graph_shows_branches_and_joins(api):
    made = define(api, action("conditional", {"id": "if"}, condition="true", then_step_index=1, else_step_index=2),
                  action("parallel", {"id": "fan"}, branches=[{"name": "l", "steps": [noop(1)]}, {"name": "r", "steps": [noop(2)]}]),
                  noop(3, id="end"))
    graph = api.get(f"/v1/definitions/{made['id']}/graph")
    edges = {(e["from"], e["to"]) for e in graph["edges"]}
    assert {("if", "fan"), ("if", "end")} <= edges
    assert {"if", "fan", "end"} <= {n["id"] for n in graph["nodes"]}
    inner = [n for n in graph["nodes"] if n["id"] not in ("if", "fan", "end")]
    assert len(inner) == 2


def test_an_unknown_action_is_named_with_the_known_ones(api):
    problem = problems(api, noop(1), {"action": "frobnicate"})[0]
    assert problem["path"].startswith("steps[1]") and "frobnicate" in problem["message"]
    assert "execute_command" in problem["hint"]
    refused(api, {"action": "frobnicate"})
    refused(api, {"parameters": {}})


def test_all_problems_are_told_at_once(api):
    found = problems(api, {"action": "frobnicate"}, noop(1), {"action": "twiddle"})
    assert {p["path"].split(".")[0] for p in found} == {"steps[0]", "steps[2]"}


def test_unknown_fields_are_refused_everywhere(api):
    body = {**definition(noop(1)), "stepz": []}
    assert api.problem("POST", "/v1/definitions", 400, "unknown_field", body)["field"] == "stepz"
    refused(api, noop(1, on_eror="continue"))
    refused(api, action("execute_command", command="true", shell="zsh"))
    refused(api, action("parallel", branches=[{"nam": "x", "steps": [noop(1)]}]))
    refused(api, noop(1, retry={"tries": 2}))


@pytest.mark.parametrize("step", [
    action("execute_command"), action("execute_command", command="true", argv=["true"]),
    action("execute_command", argv="true"), action("git_clone"), action("write_file", path="x"),
    action("conditional", condition="true"), action("sub_task"), action("for_each", steps=[noop(1)]),
    action("for_each", items=[1]), action("parallel"), action("parallel", branches=[]),
    action("parallel", branches=[{"steps": [noop(1)]}], join="most"), action("delay"),
    action("delay", seconds=-1), action("delay", seconds="soon"), action("approval"),
    action("approval", message="x", risk_level="spicy"), noop(1, timeout_seconds=0),
    noop(1, timeout_seconds="x"), noop(1, on_interrupt="maybe"), noop(1, requires_approval="yes"),
    noop(1, required_capabilities="zip"), noop(1, retry={"max_attempts": 0}), noop(1, on_error=7),
    "noop", 7, None])
def test_wrong_parameters_are_refused(api, step):
    refused(api, step)


def test_there_must_be_steps(api):
    for steps in ([], None, {}, "noop"):
        body = {"name": "x", "steps": steps}
        assert api.request("POST", "/v1/definitions", body, 400).json()["code"] == "validation_failed"
    api.problem("POST", "/v1/definitions", 400, "validation_failed", {"name": "x"})


def test_targets_lead_forward_only(api):
    def gate(then, other):
        return action("conditional", condition="true", then_step_index=then, else_step_index=other)
    valid(api, gate(1, 2), noop(1), noop(2))
    valid(api, gate("a", "b"), noop(1, id="a"), noop(2, id="b"))
    valid(api, noop(1, on_error="c"), noop(2), noop(3, id="c"))
    refused(api, noop(1), gate(0, 2), noop(2))
    refused(api, noop(1), gate(1, 2), noop(2))
    refused(api, gate(1, 7), noop(1))
    refused(api, gate("nowhere", 1), noop(1))
    refused(api, noop(1, id="a"), noop(2, on_error="a"))
    refused(api, noop(1, on_error=0))


def test_ids_are_unique(api):
    problem = problems(api, noop(1, id="a"), noop(2, id="a"))[0]
    assert "a" in problem["message"] and problem["path"].startswith("steps[1]")
    refused(api, noop(1, id="a"), noop(2, id="a"))
    refused(api, noop(1, id="step-1"), noop(2))


def test_an_index_is_the_position(api):
    valid(api, noop(1, index=0), noop(2, index=1))
    refused(api, noop(1, index=0), noop(2, index=0))
    refused(api, noop(1, index=5))


def nested(levels):
    step = noop(1)
    for _ in range(levels):
        step = action("parallel", branches=[{"steps": [step]}])
    return step


def test_nesting_is_bounded(api):
    valid(api, nested(8))
    refused(api, nested(9))
    completed(api, nested(8))


def test_the_number_of_steps_is_bounded(api):
    valid(api, *[noop(1)] * 100)
    refused(api, *[noop(1)] * 101)


def test_the_number_of_branches_is_bounded(api):
    refused(api, action("parallel", branches=[{"steps": [noop(1)]}] * 1001))
    valid(api, action("parallel", branches=[{"steps": [noop(1)]}] * 1000))


@pytest.mark.parametrize("name", ["", "x" * 2000, 7, None, ["a"]])
def test_names_are_short_texts(api, name):
    api.problem("POST", "/v1/definitions", 400, "validation_failed", {"name": name, "steps": [noop()]})


def test_references_must_exist(api):
    for step in (sub("nobody"), sub("def_0000000000000"), action("for_each", items=[1], referenced_task_id="nobody"),
                 action("parallel", branches=[{"referenced_task_id": "nobody"}])):
        problem = refused(api, step)
        assert "nobody" in problem["detail"] or "def_0000000000000" in problem["detail"]


def test_a_reference_may_be_a_name_or_an_id(api):
    child = define(api, noop("c"))
    run = completed(api, sub(child["name"]), sub(child["id"]))
    assert outputs(api, run) == ["c", "c"]


def test_a_definition_does_not_call_itself(api):
    body = {"name": "self", "steps": [sub("self")]}
    api.problem("POST", "/v1/definitions", 422, "subtask_cycle", body)
    made = define(api, noop(1))
    for reference in (made["id"], made["name"]):
        assert put(api, made, 1, sub(reference), status=422).json()["code"] == "subtask_cycle"


def test_definitions_do_not_call_each_other_in_a_circle(api):
    a = define(api, noop(1))
    b = define(api, sub(a["id"]))
    c = define(api, action("parallel", branches=[{"steps": [action("for_each", items=[1], referenced_task_id=b["name"])]}]))
    for step in (sub(c["id"]), sub(b["name"]), action("parallel", branches=[{"referenced_task_id": c["id"]}]),
                 action("for_each", items=[1], steps=[sub(c["name"])])):
        assert put(api, a, 1, step, status=422).json()["code"] == "subtask_cycle"
    assert api.get("/v1/definitions/" + a["id"])["version"] == 1
    put(api, c, 1, noop(1))
    put(api, a, 1, sub(c["id"]))


def test_of_two_saves_that_close_a_circle_one_is_refused(api):
    import concurrent.futures
    for _ in range(10):
        a, b = define(api, noop(1)), define(api, noop(1))
        clients = [api.again(), api.again()]
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(
                lambda x: clients[x[0]].request("PUT", "/v1/definitions/" + x[1]["id"],
                                                {"name": x[1]["name"], "steps": [sub(x[2]["id"])]},
                                                headers={"If-Match": '"1"'}).status_code,
                [(0, a, b), (1, b, a)]))
        assert sorted(answers) == [200, 422]


# Expressions.

@pytest.mark.parametrize("text", ["${{ 1 + }}", "${{ }}", "${{ a", "${{ 'x }}", "x ${{ [1, }} y", "${{ nosuch(1) }}"])
def test_broken_expressions_are_refused_with_their_place(api, text):
    assert any("steps[1]" in p["path"] for p in problems(api, noop(1), noop(text)))


def test_a_broken_condition_is_refused(api):
    gate = action("conditional", condition="needs ==", then_step_index=1, else_step_index=1)
    found = problems(api, gate, noop(1))
    assert found[0]["path"] == "steps[0].parameters.condition"
    body = definition(gate, noop(1))
    assert api.request("POST", "/v1/definitions", body, 400).json()["code"] in ("invalid_condition", "validation_failed")


@pytest.mark.parametrize("expression", [
    "(" * 10000 + "1" + ")" * 10000, "[" * 10000 + "]" * 10000, "!" * 10001 + "true", "-" * 10000 + "1",
    "a" + ".a" * 10000, "a" + "[0]" * 10000, "1" + "+1" * 10000, "true ? 1 : " * 10000 + "1",
    "{'a':" * 10000 + "1" + "}" * 10000])
def test_expressions_nested_10000_deep_are_refused(api, expression):
    began = time.monotonic()
    found = problems(api, noop("${{ " + expression + " }}"))
    assert found[0]["path"].startswith("steps[0]")
    assert time.monotonic() - began < 2 * SLOW
    assert len(found[0]["message"]) < 2000


# Bad input.

def test_yaml_bombs_are_refused(api):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += ["a%d: &a%d [%s]" % (i, i, ", ".join(["*a%d" % (i - 1)] * 9)) for i in range(1, 12)]
    began = time.monotonic()
    text = "name: bomb\n" + "\n".join(lines) + "\nsteps: [{action: noop, parameters: {output: *a11}}]\n"
    assert yaml(api, text, 400)["code"] == "invalid_yaml"
    assert yaml(api, "name: x\nsteps: &s [{action: parallel, parameters: {branches: *s}}]", 400)["code"] == "invalid_yaml"
    assert time.monotonic() - began < 2 * SLOW
    assert api.get("/v1/definitions")["items"] == []


@pytest.mark.parametrize("text", [
    "name: a\nname: b\nsteps: [{action: noop}]",
    "name: a\nsteps: [{action: noop, action: noop}]",
    "name: a\nsteps: [{action: !!python/object:os.system noop}]",
    "name: a\nsteps: [{action: !thing noop}]",
    "name: a\nsteps: [{action: noop}]\n---\nname: b\nsteps: [{action: noop}]",
    "name: a\nsteps: [{action: noop}",
    "name: a\n\tsteps: x", "name: \xff\xfe", "[" * 10000, "a: " * 3 + "b", "- a\n- b", "", "just text"])
def test_bad_yaml_is_refused(api, text):
    answer = api.request("POST", "/v1/definitions?name=x", data=text.encode("latin-1"), headers=dict(YAML), status=400).json()
    assert answer["code"] in ("invalid_yaml", "validation_failed")
    assert api.get("/v1/definitions")["items"] == []


@pytest.mark.parametrize("text", [
    "name: a\nname: b\nsteps: [{action: noop}]", "name: a\nsteps: [{action: !thing noop}]",
    "name: a\nsteps: [{action: noop}]\n---\nname: b", "name: a\nsteps: [{action: noop}"])
def test_yaml_that_is_not_plain_is_called_so(api, text):
    assert yaml(api, text, 400)["code"] == "invalid_yaml"


def test_bad_json_is_refused(api):
    for text in ("{", '{"name":"a","name":"b","steps":[{"action":"noop"}]}', "[1]", '{"name":"a"} x', "\xff"):
        answer = api.request("POST", "/v1/definitions", data=text.encode("latin-1"), status=400,
                             headers={"Content-Type": "application/json"}).json()
        assert answer["code"] in ("invalid_json", "bad_request", "validation_failed")
    deep = '{"name":"a","steps":[{"action":"noop","parameters":{"output":' + "[" * 100000 + "]" * 100000 + "}}]}"
    for path in ("/v1/definitions", "/v1/definitions/validate"):
        answer = api.request("POST", path, data=deep, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400 or answer.json()["valid"] is False
    api.problem("POST", "/v1/definitions", 400, "invalid_json", data=deep, headers={"Content-Type": "application/json"})
    assert api.get("/v1/definitions")["items"] == []


def test_other_media_types_are_refused(api):
    for path in ("/v1/definitions", "/v1/definitions/validate"):
        answer = api.request("POST", path, data="name: a", status=415, headers={"Content-Type": "text/html"})
        assert answer.json()["code"] == "unsupported_media_type"


def test_bodies_are_bounded(api):
    inside = yaml(api, "name: big\nsteps: [{action: noop, parameters: {output: ok}}]\n#" + "x" * 1000000)
    assert inside["version"] == 1
    for path in ("/v1/definitions", "/v1/definitions/validate"):
        for media in ("application/yaml", "application/json"):
            head = (f"POST {path} HTTP/1.1\r\nHost: {api.server.address}\r\nConnection: close\r\n"
                    f"Authorization: Bearer {api.server.key}\r\nContent-Type: {media}\r\n"
                    f"Content-Length: {(1 << 20) + 1}\r\n\r\n")
            answer = api.server.raw(head.encode(), seconds=1)
            assert b" 413 " in answer.split(b"\r\n")[0]
            assert b"payload_too_large" in answer and b"1048576" in answer


@pytest.mark.parametrize("size", [(1 << 20) + 1, 10 << 20])
def test_a_client_that_sends_a_large_body_reads_the_refusal(api, size):
    """The answer must not be lost in a reset connection while the body is still under way."""
    host, port = api.server.address.rsplit(":", 1)
    head = (f"POST /v1/definitions HTTP/1.1\r\nHost: {api.server.address}\r\nAuthorization: Bearer {api.server.key}\r\n"
            f"Content-Type: application/yaml\r\nContent-Length: {size}\r\n\r\n")
    for _ in range(10):
        with socket.create_connection((host, int(port)), timeout=5) as s:
            s.sendall(head.encode())
            try:
                for _ in range(size // 65536 + 1):
                    s.sendall(b"#" * 65536)
            except (BrokenPipeError, ConnectionResetError):
                pass
            assert b" 413 " in s.recv(65536).split(b"\r\n")[0]


def test_validation_reads_yaml_and_says_what_is_wrong_with_it(api):
    answer = yaml(api, "name: a\nsteps: [{action: frobnicate}]", 200, "/v1/definitions/validate")
    assert answer["valid"] is False and answer["problems"][0]["path"].startswith("steps[0]")
    assert yaml(api, "name: a\nsteps: [{action: noop}]", 200, "/v1/definitions/validate")["valid"] is True


# Who may.

def stranger(api):
    space = Client(api.server).post("/v1/workspaces", {"name": "o", "slug": "o-%d" % time.monotonic_ns()})
    key = Client(api.server).post("/v1/keys", {"name": "other", "actor_kind": "human", "ref": "other", "workspace_id": space["id"],
                                               "scopes": ["tasks:read", "tasks:write", "tasks:approve"]})
    return Client(api.server, key["key"])


def test_another_workspace_sees_what_it_would_see_of_nothing(api):
    made, other = define(api, noop(1)), stranger(api)
    missing = "def_" + "0" * 13
    for method, tail, body in [("GET", "", None), ("GET", "/versions", None), ("GET", "/graph", None),
                               ("GET", "/runs", None), ("DELETE", "", None), ("POST", "/runs", {}),
                               ("PUT", "", definition(noop(2)))]:
        theirs, none = [other.request(method, f"/v1/definitions/{id}{tail}", body, 404, headers={"If-Match": '"1"'})
                        for id in (made["id"], missing)]
        assert theirs.text.replace(made["id"], missing) == none.text
    other.problem("GET", "/v1/definitions/" + made["name"], 404, "not_found")
    assert other.get("/v1/definitions")["items"] == []
    theirs, none = [other.request("POST", "/v1/definitions", {"name": "x", "steps": [sub(id)]})
                    for id in (made["id"], missing)]
    assert theirs.status_code == none.status_code != 201
    assert theirs.text.replace(made["id"], missing) == none.text
    assert api.get("/v1/definitions/" + made["id"]) == made


def test_runs_of_another_workspace_are_not_seen(api):
    run, other = launch(api, noop(1)), stranger(api)
    for tail in ("", "/steps", "/events", "/logs", "/explain", "/checkpoints"):
        other.problem("GET", f"/v1/runs/{run['id']}{tail}", 404, "not_found")
    other.problem("POST", f"/v1/runs/{run['id']}/cancel", 404, "not_found", {})


def test_names_are_free_in_every_workspace(api):
    other = stranger(api)
    first, second = [c.post("/v1/definitions", {"name": "same", "steps": [noop(n)]}) for n, c in enumerate((api, other))]
    assert api.get("/v1/definitions/same")["id"] == first["id"]
    assert other.get("/v1/definitions/same")["id"] == second["id"]


def test_scopes_are_asked_for(api):
    made, space = define(api, noop(1)), api.session.headers["X-Workspace-ID"]
    reader = Client(api.server, api.key_for(ref="reader", scopes=["tasks:read"], workspace_id=space)["key"])
    assert reader.get("/v1/definitions/" + made["id"]) == made
    for method, path, body in [("POST", "/v1/definitions", definition(noop(1))), ("POST", f"/v1/definitions/{made['id']}/runs", {}),
                               ("PUT", "/v1/definitions/" + made["id"], definition(noop(1))),
                               ("DELETE", "/v1/definitions/" + made["id"], None)]:
        answer = reader.request(method, path, body, 403, headers={"If-Match": '"1"'})
        assert answer.json()["code"] == "permission_denied"


def test_a_worker_run_is_not_for_agents(api):
    """Runs of definitions are performed by the built-in worker only."""
    run = launch(api, action("delay", seconds=30))
    space = api.session.headers["X-Workspace-ID"]
    agent = Client(api.server, api.key_for(ref="agent", workspace_id=space)["key"])
    answer = agent.request("POST", "/v1/runs/claim", {"executor": "worker"})
    assert answer.status_code == 403, answer.text
    wait_until(lambda: run_of(api, run)["status"] == "sleeping")
    api.post(f"/v1/runs/{run['id']}/cancel", {}, 200)
