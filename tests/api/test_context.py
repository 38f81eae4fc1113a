"""The context of a run: bounded, shrunk in order, without secrets."""
import json
import random
import re

from conftest import Client

LIMIT = 8192
SECRET = re.compile(r"claim_token|mcp_auth_token|oauth_code|pkce_verifier|secret_bindings?|btk_.*|agh_claim_.*|.*_secret",
                    re.I)


def context(api, run):
    answer = api.request("GET", f"/v1/runs/{run['id']}/context", status=200)
    assert len(answer.content) <= LIMIT
    return answer.json()


def fail(api, capability, error, **more):
    claim = api.claim(capabilities=[capability])[0]
    api.post(f"/v1/runs/{claim['run']['id']}/fail",
             {"claim_token": claim["claim_token"], "error": error.replace("TOKEN", claim["claim_token"]), **more}, 200)
    return claim["run"]


def test_a_worker_is_told_the_task_its_run_earlier_attempts_and_why_the_last_one_failed(api, capability):
    task = api.started(required_capabilities=[capability], title="fix it", timeout_seconds=77)["task"]
    first = fail(api, capability, "the disk was full; I used TOKEN")
    api.post(f"/v1/tasks/{task['id']}/retry")
    claim = api.claim(capabilities=[capability])[0]
    told = context(api, claim["run"])
    assert told["task"]["title"] == "fix it" and told["current_run"]["id"] == claim["run"]["id"]
    assert told["handoff_summary"] == "the disk was full; I used btk_[REDACTED]"
    assert [(r["id"], r["last_error"]) for r in told["prior_attempts"]] == [(first["id"], told["handoff_summary"])]
    assert told["limits"] == {"max_runtime_seconds": 77, "summary_max_bytes": 4096, "context_body_max_bytes": LIMIT}
    sequences = [e["sequence"] for e in told["recent_events"]]
    assert sequences == list(range(told["task"]["latest_sequence"], 0, -1))
    assert context(api, first)["prior_attempts"] == []


def test_a_session_is_told_the_context_of_its_own_run_alone(api, server, capability):
    space = api.session.headers["X-Workspace-ID"]
    mine, theirs = (Client(server, api.key_for(ref=s, session_id=s, workspace_id=space)["key"])
                    for s in (capability + "-a", capability + "-b"))
    run, other = mine.claimed(capability + "-1")["run"], theirs.claimed(capability + "-2")["run"]
    queued = api.started(required_capabilities=[capability])["run"]
    assert context(mine, run)["current_run"]["session_id"] == capability + "-a"
    for foreign in (other, queued):
        mine.problem("GET", f"/v1/runs/{foreign['id']}/context", 403, "foreign_run")
        assert context(api, foreign)["current_run"]["id"] == foreign["id"]


def told_after_failures(api, capability, **task):
    """The context of the fifth attempt, the four before having failed at length, and how many events there are."""
    made = api.started(required_capabilities=[capability], max_attempts=10, **task)["task"]
    for n in range(4):
        fail(api, capability, f"{n}" + "\x01" * 150)  # six bytes each in JSON
        run = api.post(f"/v1/tasks/{made['id']}/retry")["run"]
    told = context(api, run)
    return told, [e["sequence"] for e in told["recent_events"]], [r["attempt"] for r in told["prior_attempts"]]


def test_the_oldest_events_go_first_then_the_oldest_attempts_then_halves_of_the_handoff(api, capability):
    error = "3" + "\x01" * 150
    told, events, attempts = told_after_failures(api, capability + "-1")
    newest = told["task"]["latest_sequence"]
    assert 0 < len(events) < newest and events == list(range(newest, newest - len(events), -1))
    assert attempts == [4, 3, 2, 1] and told["handoff_summary"] == error
    told, events, attempts = told_after_failures(api, capability + "-2", title="\x01" * 500)
    assert events == [] and attempts in ([4], [4, 3], [4, 3, 2]) and told["handoff_summary"] == error
    told, events, attempts = told_after_failures(api, capability + "-3", title="\x01" * 900, identifier="\x01" * 200)
    assert events == [] and attempts == []
    assert told["handoff_summary"] in (error[:75], error[:37], error[:18])


def test_a_task_that_alone_says_too_much_is_refused_with_the_limit(api):
    run = api.started(title="\x01" * 1000, identifier="\x01" * 200,
                      owner={"kind": "human", "ref": "\x01" * 200})["run"]
    problem = api.problem("GET", f"/v1/runs/{run['id']}/context", 413, "payload_too_large")
    assert problem["limit"] == LIMIT < problem["actual"]


def names(value):
    if isinstance(value, dict):
        yield from value
        for inner in value.values():
            yield from names(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from names(inner)


def random_value(rng, token, depth=0):
    kind = rng.randrange(6 if depth < 6 else 3)
    if kind < 2:
        return rng.choice(["x", "é", "\x02", "\\\"", token]) * rng.randrange(1, 12)
    if kind == 2:
        return rng.choice([None, True, 3.5, 10**9])
    if kind == 3:
        return [random_value(rng, token, depth + 1) for _ in range(rng.randrange(5))]
    secret = ["claim_token", "Claim_Token", "mcp_auth_token", "OAUTH_CODE", "pkce_verifier", "secret_binding",
              "secret_bindings", "btk_x", "agh_claim_x", "my_secret", "MY_SECRET"]
    return {rng.choice(secret + [f"k{n}", "secret", "token"]): random_value(rng, token, depth + 1)
            for n in range(rng.randrange(7))}


def test_a_context_never_exceeds_its_limit_and_never_tells_a_secret(api, capability):
    rng = random.Random(8192)
    hidden = kept = 0
    for case in range(25):
        cap = f"{capability}-{case}"
        task = api.started(title="\x01é"[case % 2] * rng.randrange(1, 500), required_capabilities=[cap], max_attempts=10)["task"]
        for _ in range(rng.randrange(1, 4)):
            claim = api.claim(capabilities=[cap])[0]
            path, token = f"/v1/runs/{claim['run']['id']}", claim["claim_token"]

            def metadata():
                value = {"m": [random_value(rng, token) for _ in range(rng.randrange(30))]}
                while len(json.dumps(value)) > 12000:
                    value["m"].pop()
                return value

            for _ in range(rng.randrange(8)):
                said = metadata()
                hidden += sum(bool(SECRET.fullmatch(n)) for n in names(said))
                api.post(f"/v1/tasks/{task['id']}/pause", {"reason": "r " + token, "metadata": said}, 200)
                api.post(f"/v1/tasks/{task['id']}/resume", {"metadata": metadata()}, 200)
            error = "".join(rng.choice(["é", "\x01", " ", token]) for _ in range(rng.randrange(1, 150)))
            api.post(path + "/fail", {"claim_token": token, "error": error}, 200)
            run = api.post(f"/v1/tasks/{task['id']}/retry")["run"]
        told = context(api, run)
        kept += len(told["recent_events"])
        assert [n for n in names(told) if SECRET.fullmatch(n)] == []
        assert not re.search(r"btk_[0-9a-f]{8}", json.dumps(told))
    assert hidden > 100 and kept > 25
