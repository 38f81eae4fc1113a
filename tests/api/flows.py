"""What the tests of definitions, flow and commands share: define, run, wait, look."""
import itertools
import pathlib
import time

from conftest import wait_until

OVER = {"completed", "failed", "canceled", "timed_out"}
numbers = itertools.count(1)


def noop(output=None, **fields):
    return {"action": "noop", "parameters": {} if output is None else {"output": output}, **fields}


def command(text, **fields):
    return {"action": "execute_command", "parameters": {"command": text}, **fields}


def action(name, fields=None, /, **parameters):
    """A step: `fields` are the step's own members, the others its parameters."""
    return {"action": name, "parameters": parameters, **(fields or {})}


def definition(*steps, **fields):
    """A body; its failures are not tried again unless the test says so."""
    return {"name": "d%d" % next(numbers), "retry": {"max_attempts": 1}, "steps": list(steps), **fields}


def define(api, *steps, **fields):
    return api.post("/v1/definitions", definition(*steps, **fields))


def launch(api, *steps, input=None, **fields):
    """Defines the steps, starts a run and returns it."""
    made = define(api, *steps, **fields)
    return api.post(f"/v1/definitions/{made['id']}/runs", {"input": input or {}})["run"]


def run_of(api, run):
    return api.get("/v1/runs/" + run["id"])


def steps_of(api, run):
    return api.get(f"/v1/runs/{run['id']}/steps?limit=500")["items"]


def outputs(api, run):
    return [s.get("output") for s in steps_of(api, run)]


def events_of(api, run):
    items, after = [], 0
    while page := api.get(f"/v1/runs/{run['id']}/events?limit=500&after_sequence={after}")["items"]:
        items += page
        after = page[-1]["sequence"]
    return items


def types_of(api, run):
    return [e["type"] for e in events_of(api, run)]


def children_of(api, run):
    """Child runs, oldest first."""
    return api.get(f"/v1/runs?limit=500&parent_run_id={run['id']}")["items"][::-1]


def reaches(api, run, status, seconds=20):
    """Waits until the run has this status and returns it; another end is an error."""
    def look():
        now = run_of(api, run)
        assert now["status"] == status or now["status"] not in OVER, now
        return now if now["status"] == status else None
    return wait_until(look, seconds)


def ended(api, run, seconds=20):
    def look():
        now = run_of(api, run)
        return now if now["status"] in OVER else None
    return wait_until(look, seconds)


def step_is(api, run, index, status, seconds=10):
    def look():
        step = steps_of(api, run)[index]
        return step if step["status"] == status else None
    return wait_until(look, seconds)


def completed(api, *steps, **fields):
    """Runs the steps to their good end and returns the run."""
    return reaches(api, launch(api, *steps, **fields), "completed")


def failed(api, *steps, kind=None, **fields):
    run = reaches(api, launch(api, *steps, **fields), "failed")
    assert kind is None or run["failure_kind"] == kind, run
    return run


def result(api, *steps, **fields):
    """The output of the last step of a run that completes."""
    return outputs(api, completed(api, *steps, **fields))[-1]


def approval_of(api, run, seconds=10):
    found = wait_until(lambda: api.get(f"/v1/approvals?run_id={run['id']}")["items"], seconds)
    return found[0]


def decide(api, approval, decision, **fields):
    return api.post(f"/v1/approvals/{approval['id']}/decide", {"decision": decision, **fields}, 200)


def elapsed_since(began):
    return time.monotonic() - began


def found(mark):
    """Processes of this machine that have the mark among their arguments."""
    pids = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in path.read_bytes():
                pids.append(path.parent.name)
        except OSError:
            pass
    return pids


def asleep(mark):
    """Those of them that are the sleep itself: what comes before it in the command is done."""
    return [pid for pid in found(mark) if pathlib.Path("/proc", pid, "comm").read_text() == "sleep\n"]


def begun(mark):
    def look():
        try:
            return asleep(mark)
        except OSError:
            return None
    return wait_until(look)
