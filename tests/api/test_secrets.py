"""Secrets: kept sealed, given to one process by name, hidden in everything that is recorded."""
import base64
import json
import pathlib
import sqlite3
import stat
import subprocess
import time
import urllib.parse

import pytest
from conftest import BATON, SLOW, Client, Server, wait_until
from flows import action, begun, completed, definition, events_of, failed, found, launch, outputs, reaches, result, steps_of
from web import Site, Web

CANARY = 'Can4ry/+value "with" %s & more-1234567890'


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("secrets") / "data", "--egress-allow", "127.0.0.1", "--concurrency", "4")
    yield server
    server.process.kill()
    server.process.wait()


def put(api, name="canary", value=CANARY):
    assert api.request("PUT", "/v1/secrets/" + name, {"value": value}, 204).content == b""


def names(api):
    return [s["name"] for s in api.get("/v1/secrets")["items"]]


def shell(text, fields=None, **parameters):
    return action("execute_command", fields, command=text, **parameters)


def log_of(api, run):
    return api.request("GET", f"/v1/runs/{run['id']}/logs", status=200).text


def forms(value):
    """Every spelling in which a value must not be found."""
    raw = value.encode()
    coded = [base64.b64encode(b"x" * n + raw + b"yy").decode() for n in range(3)]
    coded = [c[(n * 8 + 5) // 6 + 1:(n + len(raw)) * 8 // 6 - 1] for n, c in enumerate(coded)]
    return [value, *coded, *[c.replace("+", "-").replace("/", "_") for c in coded], urllib.parse.quote(value),
            urllib.parse.quote(value, safe=""), urllib.parse.quote_plus(value), json.dumps(value)[1:-1], raw.hex()]


def assert_absent(text, value=CANARY):
    for form in forms(value):
        assert form.lower() not in text.lower(), (form, text[:2000])


# The routes.

def test_secrets_are_put_listed_replaced_and_deleted(api):
    put(api, "b")
    put(api, "a.b-c_D1")
    first = api.get("/v1/secrets")["items"]
    assert [set(s) for s in first] == [{"name", "created_at", "updated_at"}] * 2
    assert names(api) == ["a.b-c_D1", "b"]
    put(api, "b", "another value")
    again = {s["name"]: s for s in api.get("/v1/secrets")["items"]}["b"]
    assert again["created_at"] == first[1]["created_at"] and again["updated_at"] > first[1]["updated_at"]
    assert api.request("DELETE", "/v1/secrets/b", status=204).content == b""
    assert names(api) == ["a.b-c_D1"]
    api.problem("DELETE", "/v1/secrets/b", 404, "not_found")
    api.problem("GET", "/v1/secrets/a.b-c_D1", 405, "method_not_allowed")


@pytest.mark.parametrize("name", ["1a", "-a", ".a", "a%20b", "a$b", "x" * 65, "%c3%a4"])
def test_other_names_are_refused(api, name):
    assert api.problem("PUT", "/v1/secrets/" + name, 400, "validation_failed", {"value": "long enough"})["field"] == "name"


@pytest.mark.parametrize("value, status", [("abc", 400), ("", 400), ("a\n\n\nb\r\n", 400), (" abc\t \n", 400), ("x" * 16385, 413), (None, 400), (12345, 400),
                                           ("abcd", 204), ("x" * 16384, 204), ("a\nb\nc\nd", 204), (" a bc ", 204)])
def test_the_size_of_a_value_is_bounded(api, value, status):
    assert api.request("PUT", "/v1/secrets/s", {"value": value}).status_code == status
    assert names(api) == (["s"] if status == 204 else [])


def test_all_values_of_a_workspace_are_bounded_together(api):
    for n in range(3):
        put(api, "s%d" % n, "x" * 16384)
    problem = api.problem("PUT", "/v1/secrets/s3", 413, "payload_too_large", {"value": "x" * 16384})
    assert problem["limit"] == 65536
    put(api, "s2", "y" * 16384)
    put(api, "s3", "x" * 16000)


def test_only_admins_touch_secrets(api):
    key = api.key_for(scopes=["tasks:read", "tasks:write", "tasks:approve", "runs:claim"])["key"]
    weak = Client(api.server, key)
    for method, path, body in (("PUT", "/v1/secrets/a", {"value": "abcdef"}), ("GET", "/v1/secrets", None), ("DELETE", "/v1/secrets/a", None)):
        weak.problem(method, path, 403, "permission_denied", body)


def test_another_workspace_sees_nothing_of_them(api, server):
    put(api, "mine")
    other = Client(server).post("/v1/workspaces", {"name": "o", "slug": "o-%d" % time.monotonic_ns()})
    bound = Client(server, Client(server, headers={"X-Workspace-ID": other["id"]}).key_for(scopes=["admin", "tasks:read", "tasks:write"], workspace_id=other["id"])["key"])
    assert names(bound) == []
    missing = bound.problem("DELETE", "/v1/secrets/none", 404, "not_found")
    foreign = bound.problem("DELETE", "/v1/secrets/mine", 404, "not_found")
    assert {**missing, "instance": ""} == {**foreign, "instance": ""}
    bound.request("PUT", "/v1/secrets/mine", {"value": "of the other"}, 204)
    assert result(api, shell("test \"$A\" = \"$B\" && echo same", secrets={"A": "mine"}, env={"B": CANARY}))["stdout"] == "same\n"
    run = failed(bound, shell("true", secrets={"A": "elsewhere"}), kind="policy")
    assert 'no secret "elsewhere" in this workspace' in run["error"]


# Steps.

def test_a_step_gets_a_secret_in_its_environment_and_nowhere_else(api):
    put(api)
    step = shell("printf %s \"$TOKEN\" | wc -c; cat /proc/*/cmdline | tr '\\0' ' '", secrets={"TOKEN": "canary"})
    out = result(api, step)
    assert out["stdout"].startswith(f"{len(CANARY)}\n")
    assert "***" not in out["stdout"]
    assert result(api, shell("echo ${TOKEN-unset}"))["stdout"] == "unset\n"


def test_a_secret_is_in_no_argument_of_any_process(api):
    put(api, value="argument-canary-%d" % time.monotonic_ns())
    mark = "300.%d" % time.monotonic_ns()
    run = launch(api, shell(f"sleep {mark}", secrets={"TOKEN": "canary"}))
    begun(mark)
    assert not found("argument-canary")
    api.post(f"/v1/runs/{run['id']}/cancel", {}, 200)
    reaches(api, run, "canceled")


def test_the_names_of_secrets_are_written_out_in_the_definition(api):
    put(api)
    for step in (shell("true", secrets={"A": "${{ input.name }}"}), shell("true", secrets={"A": "$x"}),
                 shell("true", secrets={"1A": "canary"}), shell("true", secrets="canary"), shell("true", secrets={"A": 1}),
                 shell("true", secrets={"A": "canary"}, env={"A": "b"}),
                 action("http_request", method="GET", url="http://x", token_secret="${{ input.x }}"),
                 action("http_request", method="GET", url="http://x", secret_headers={"A": "${{ input.x }}"}),
                 action("git_clone", repo="https://x/y", token_secret="${{ input.x }}")):
        api.problem("POST", "/v1/definitions", 400, "validation_failed", definition(step))
    problem = api.problem("POST", "/v1/definitions", 400, "unknown_field", definition(shell("true", secret={"A": "canary"})))
    assert 'did you mean "secrets"' in problem["detail"]
    made = result(api, shell("echo '${{ input.x }}'"), input={"x": "$${{ secrets.canary }}"})
    assert "Can4ry" not in made["stdout"]


SPILL = r"""
printf '%s\n' "$S"; printf '%s\n' "$S" >&2
for n in '' a ab; do printf '%s%s' "$n" "$S" | base64 -w0; echo; printf '%s%sz' "$n" "$S" | base64; done
printf %s "$S" | od -An -v -tx1 | tr -d ' \n'; echo
for i in $(seq ${#S}); do printf %s "$S" | cut -c$i | tr -d '\n'; sleep 0.01; done; echo
printf '%s' "$S" | fold -w 10; echo
printf '%s' "$S" | tr a-z A-Z; echo
head -c 1048576 /dev/zero | tr '\0' x; printf %s "$S"; head -c 70000 /dev/zero | tr '\0' y; echo
env
echo "failed with $S" >&2
exit 3
"""


def test_whatever_a_command_does_with_a_secret_its_records_do_not_show_it(api):
    put(api)
    run = failed(api, shell(SPILL, secrets={"S": "canary"}))
    log = log_of(api, run)
    for text in (log, json.dumps(steps_of(api, run)), json.dumps(events_of(api, run)), json.dumps(run)):
        assert_absent(text.replace("\\n", "\n").replace("\n", ""))
    assert log.count("***") >= 12 and "x***y" in log
    assert steps_of(api, run)[0]["error"]["message"] == "exit code 3: failed with ***"
    for path in (f"/v1/runs/{run['id']}/events", f"/v1/tasks/{run['task_id']}/timeline", "/v1/runs", f"/v1/runs/{run['id']}/logs?after=7"):
        assert_absent(api.request("GET", path, status=200).text)


def test_output_that_is_cut_in_a_secret_does_not_show_its_beginning(api):
    put(api)
    out = result(api, shell("head -c 99980 /dev/zero | tr '\\0' x; printf %s \"$S\"; seq 100", secrets={"S": "canary"}))
    assert out["truncated"] is True and out["stdout"].endswith("x***") and "Can4" not in out["stdout"]


def test_a_secret_left_in_a_file_is_hidden_from_later_steps_too(api):
    put(api)
    run = completed(api, shell("printf %s \"$S\" > note; mkdir \"d-${S%%/*}\"; printf '%s' \"$S\" | base64 > code", secrets={"S": "canary"}),
                    shell("cat note code"), action("read_file", path="note"), action("read_file", path="code"))
    shown = [o.get("stdout", o.get("content")) for o in outputs(api, run)]
    assert shown[1].startswith("***") and shown[2] == "***" and shown[3].startswith("***")
    assert_absent(json.dumps(steps_of(api, run)) + log_of(api, run))


def test_the_log_is_clean_while_it_is_followed(api):
    put(api)
    mark = "300.%d" % time.monotonic_ns()
    run = launch(api, shell(f"printf '%s' \"${{S%????}}\"; sleep 1; printf %s \"$S\" | tail -c4; echo ,end!; sleep {mark}", secrets={"S": "canary"}))
    log = wait_until(lambda: (t := log_of(api, run)) and "end" in t and t, 20)
    assert log.startswith("***,end!")
    api.post(f"/v1/runs/{run['id']}/cancel", {}, 200)


def test_a_replaced_secret_counts_from_the_next_step_on(api):
    put(api, value="the first value")
    assert result(api, shell("printf %s \"$S\" | cksum", secrets={"S": "canary"})) != \
        (put(api, value="the second value") or result(api, shell("printf %s \"$S\" | cksum", secrets={"S": "canary"})))
    api.request("DELETE", "/v1/secrets/canary", status=204)
    failed(api, shell("true", secrets={"S": "canary"}), kind="policy")


def test_a_request_carries_secrets_in_headers_and_echoes_are_hidden(api):
    put(api)
    put(api, "plain", "plain-secret-77")
    with Site(Web) as site:
        step = action("http_request", method="POST", url=site.url + "/echo", token_secret="plain", secret_headers={"X-Api-Key": "canary"},
                      headers={"X-Plain": "p"}, body="hello")
        run = completed(api, step)
    sent = site.requests[0]["headers"]
    assert sent["authorization"] == "Bearer plain-secret-77" and sent["x-api-key"] == CANARY and sent["x-plain"] == "p"
    step = steps_of(api, run)[0]
    assert "Authorization: Bearer ***" in step["output"]["body"] and "X-Api-Key: ***" in step["output"]["body"]
    assert step["output"]["headers"]["x-echo"] == "Bearer ***"
    assert step["input"]["secret_headers"] == {"X-Api-Key": "canary"}
    assert_absent(json.dumps(step))
    assert "plain-secret-77" not in json.dumps(step)


PADDED = " \tPadded/secret of 77 \r\n "


def test_a_secret_with_blanks_at_its_ends_is_hidden_with_and_without_them(api):
    put(api, "padded", PADDED)
    with Site(Web) as site:
        run = completed(api, action("http_request", method="GET", url=site.url + "/echo", token_secret="padded", secret_headers={"X-Key": "padded"}),
                        shell("printf %s \"$S\"; echo; echo $S; for n in '' a ab; do printf '%s%s' \"$n\" \"$S\" | base64 -w0; echo; done", secrets={"S": "padded"}))
    assert site.requests[0]["headers"]["authorization"] == "Bearer " + PADDED.strip()
    assert "X-Key: ***" in outputs(api, run)[0]["body"] and outputs(api, run)[0]["headers"]["x-echo"] == "Bearer ***"
    told = json.dumps([steps_of(api, run), events_of(api, run)]) + log_of(api, run)
    assert_absent(told, PADDED.strip())
    assert_absent(told, PADDED)


@pytest.mark.parametrize("answer, shown", [
    (r'{"\u0070lain-secret-77": 1, "b": [{"x": {"plain\u002dsecret-77s": "y"}}]}', {"***": 1, "b": [{"x": {"***s": "y"}}]}),
    # Keys that become one are no map any more, and nothing of it is lost.
    (r'{"\u0070lain-secret-77": 1, "PLAIN\u002dsecret-77": "plain\u002dsecret-77"}', '{"***":1,"***":"***"}'),
    (r'{"a": {"a": "plain\u002dsecret-77"}}', {"a": {"a": "***"}})])
def test_a_secret_is_hidden_among_the_keys_of_an_answer_too(api, answer, shown):
    put(api, "plain", "plain-secret-77")
    with Site(Web) as site:
        url = site.url + "/say?type=application/json&body=" + urllib.parse.quote(answer)
        run = completed(api, action("http_request", {"id": "r"}, method="GET", url=url), action("noop", output="${{ steps.r.output.body }}"))
    assert outputs(api, run)[0]["body"] == shown == outputs(api, run)[1]


# At rest.

def all_bytes(data):
    out = b""
    for path in pathlib.Path(data).rglob("*"):
        if path.is_file() and not path.is_symlink() and "workspaces" not in path.parts:
            out += path.read_bytes()
    return out + pathlib.Path(str(data) + ".log").read_bytes()


def test_no_file_of_the_server_holds_a_secret(own_server):
    api = Client(own_server)
    put(api)
    failed(api, shell(SPILL, secrets={"S": "canary"}))
    api.request("PUT", "/v1/secrets/bad name", {"value": CANARY})
    api.request("PUT", "/v1/secrets/x", {"value": CANARY, "other": 1})
    api.request("PUT", "/v1/secrets/x", {"value": CANARY}, headers={"Idempotency-Key": "k", "Content-Type": "application/json"})
    while_running = all_bytes(own_server.data)
    own_server.stop()
    for held in (while_running, all_bytes(own_server.data)):
        for form in forms(CANARY):
            assert form.encode() not in held
        assert b"canary" in held  # the name is there: the search does find what is


def test_a_row_that_was_moved_does_not_open(own_server):
    api = Client(own_server)
    put(api, "one", "value-of-one")
    put(api, "two", "value-of-two")
    own_server.stop()
    db = sqlite3.connect(own_server.data / "baton.db")
    one = db.execute("SELECT nonce, sealed FROM secret WHERE name = 'one'").fetchone()
    db.execute("UPDATE secret SET nonce = ?, sealed = ? WHERE name = 'two'", one)
    assert db.execute("SELECT count(DISTINCT nonce) FROM secret").fetchone() == (1,)
    db.commit()
    db.close()
    own_server.start()
    run = failed(api := Client(own_server), shell("echo $A", secrets={"A": "two"}), kind="policy")
    assert "does not open" in run["error"]
    assert result(api, shell("test \"$A\" = value-of-''one && echo yes", secrets={"A": "one"}))["stdout"] == "yes\n"


def refused(server):
    done = subprocess.run([BATON, "serve", "--data", server.data, "--listen", "127.0.0.1:0", *server.options],
                          capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


def test_a_server_without_the_key_of_its_database_does_not_start(own_server):
    """Not with another, and not with a fresh one either, which is not left behind."""
    key = own_server.data / "secret.key"
    kept = key.read_bytes()
    own_server.stop()
    assert kept not in b"".join(value for value, in own_server.rows("SELECT value FROM setting"))
    key.unlink()
    for another in (None, bytes(32)):
        if another:
            key.touch(0o600)
            key.write_bytes(another)
        status, said = refused(own_server)
        assert status == 5 and "copy it here" in said and "--replace-secret-key" in said
        assert key.exists() == bool(another)
    key.write_bytes(kept)
    own_server.start()


def test_another_key_opens_nothing_and_a_new_value_mends_it(own_server):
    api = Client(own_server)
    put(api, "one", "value-of-one")
    own_server.stop()
    (own_server.data / "secret.key").unlink()
    options = own_server.options
    own_server.options = (*options, "--replace-secret-key")
    own_server.keys.clear()
    own_server.start()
    own_server.stop()
    own_server.options = options  # once is enough
    own_server.start()
    api = Client(own_server)
    assert "put it again" in failed(api, shell("true", secrets={"A": "one"}), kind="policy")["error"]
    assert result(api, shell("echo fine"))["stdout"] == "fine\n"
    put(api, "one", "a new value")
    completed(api, shell("test \"$A\" = 'a new value'", secrets={"A": "one"}))


def test_the_key_is_made_once_and_for_the_owner_alone(own_server):
    path = own_server.data / "secret.key"
    made = path.read_bytes()
    assert len(made) == 32 and stat.S_IMODE(path.stat().st_mode) == 0o600
    own_server.stop()
    own_server.start()
    assert path.read_bytes() == made


@pytest.mark.parametrize("spoil, words", [(lambda p: p.chmod(0o644), "can be read by others (mode 0644)"),
                                          (lambda p: p.chmod(0o640), "can be read by others (mode 0640)"),
                                          (lambda p: p.write_bytes(b"short"), "is not a key of 32 bytes"),
                                          (lambda p: (p.unlink(), p.symlink_to("/dev/zero")), "cannot read")])
def test_a_key_that_others_can_read_is_refused_in_one_line(own_server, spoil, words):
    own_server.stop()
    spoil(own_server.data / "secret.key")
    ended = subprocess.run([BATON, "serve", "--data", own_server.data, "--listen", "127.0.0.1:0"], capture_output=True, text=True, timeout=20 * SLOW)
    lines = [line for line in ended.stderr.splitlines() if line.startswith("baton: ")]
    assert ended.returncode == 6 and len(lines) == 1 and words in lines[0]


def test_secrets_survive_a_kill(own_server):
    api = Client(own_server)
    put(api)
    own_server.kill()
    own_server.start()
    api = Client(own_server)
    assert names(api) == ["canary"]
    completed(api, shell("test \"$A\" = \"$B\"", secrets={"A": "canary"}, env={"B": CANARY}))
