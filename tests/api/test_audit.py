"""The audit log: what it tells, who sees it, and that nobody changes it unseen."""
import datetime
import hashlib
import json
import pathlib
import re
import sqlite3
import subprocess
import time

import pytest
from conftest import BATON, Client
from flows import approval_of, decide, define, launch, noop, reaches

AUDIT_DEF = (pathlib.Path(__file__).parents[2] / "src" / "domain" / "audit.def").read_text()
NONE = "0" * 64
FIELDS = ["id", "at", "actor", "key_id", "origin", "action", "resource", "workspace_id", "detail", "before", "after",
          "previous"]


# ---- a second verifier, after the description in domain/audit.h ----

def digest_of(entry):
    """entry: as the API shows it."""
    def text(value):
        return f"{value['kind']}:{value['ref']}" if isinstance(value, dict) else value or ""
    parts = [part.encode() for part in ["baton-audit-1"] + [text(entry.get(name)) for name in FIELDS]]
    return hashlib.sha256(b"".join(b"%d:%s," % (len(part), part) for part in parts)).hexdigest()


def sound(entries, head):
    """entries: newest first, all of them."""
    previous = NONE
    for entry in reversed(entries):
        if entry["previous"] != previous or entry["hash"] != digest_of(entry):
            return False
        previous = entry["hash"]
    return previous == head


def log(api, **query):
    """All pages, newest first, and the head."""
    entries, cursor, head = [], None, None
    while True:
        page = api.get("/v1/audit", params={"limit": 500, **query, **({"cursor": cursor} if cursor else {})})
        head = head or page.get("head")
        entries += page["items"]
        cursor = page["next_cursor"]
        if not cursor:
            return entries, head


def of(api, resource):
    """What is told of it, oldest first."""
    return log(api, resource=resource)[0][::-1]


def actions(api, resource):
    return [entry["action"] for entry in of(api, resource)]


# ---- what is told ----

def test_a_key_is_told_of_when_it_is_made_and_when_it_is_revoked(api):
    made = api.key_for()
    api.request("DELETE", "/v1/keys/" + made["id"], status=204)
    api.problem("DELETE", "/v1/keys/" + made["id"], 404, "not_found")
    created, revoked = of(api, made["id"])
    assert created["action"] == "key.created" and revoked["action"] == "key.revoked"
    assert created["detail"] == "test" and "before" not in created
    assert created["after"] == revoked["before"] != revoked["after"]
    for entry in (created, revoked):
        assert entry["actor"] == {"kind": "human", "ref": "admin"} and entry["key_id"].startswith("key_")
        assert entry["origin"] == {"kind": "http", "ref": "api"}
    assert made["key"] not in json.dumps(log(api)[0])


def test_a_secret_is_told_of_by_its_name_alone(api):
    name = "S%d" % time.monotonic_ns()
    for value in ("a first value", "another value"):
        api.request("PUT", "/v1/secrets/" + name, {"value": value}, 204)
    api.request("DELETE", "/v1/secrets/" + name, status=204)
    first, again, gone = of(api, name)
    assert [e["action"] for e in (first, again, gone)] == ["secret.put", "secret.put", "secret.deleted"]
    assert "before" not in first and "after" not in gone
    assert first["after"] == again["before"] and again["after"] == gone["before"]
    assert first["workspace_id"] == api.session.headers["X-Workspace-ID"]
    assert "value" not in json.dumps([first, again, gone])


def test_a_workspace_is_told_of_when_it_is_made(api):
    made = api.post("/v1/workspaces", {"name": "told", "slug": "told-%d" % time.monotonic_ns()})
    [entry] = of(api, made["id"])
    assert entry["action"] == "workspace.created" and entry["workspace_id"] == made["id"]
    assert entry["detail"] == made["slug"]


def test_a_definition_is_told_of_by_its_versions_and_its_end(api):
    made = define(api, noop(1))
    spec = {**made["spec"], "steps": [noop(2)]}
    api.request("PUT", "/v1/definitions/" + made["id"], spec, 200, headers={"Content-Type": "application/json",
                                                                          "If-Match": '"1"'})
    for _ in range(2):
        api.request("DELETE", "/v1/definitions/" + made["id"], status=204)
    created, changed, archived = of(api, made["id"])
    assert [e["action"] for e in (created, changed, archived)] == [
        "definition.created", "definition.changed", "definition.archived"]
    assert created["after"] == changed["before"] != changed["after"]
    assert created["detail"] == made["name"] + " version 1" and changed["detail"] == made["name"] + " version 2"


def test_who_decided_an_approval_is_told(api):
    for decision, action in (("approve", "approval.approved"), ("deny", "approval.denied")):
        run = launch(api, {"action": "approval", "parameters": {"message": "go?"}}, noop(1))
        approval = approval_of(api, run)
        decide(api, approval, decision)
        [entry] = of(api, approval["id"])
        assert entry["action"] == action and entry["detail"] == run["id"] and entry["before"] != entry["after"]


def test_an_approval_that_nobody_gave_in_time_is_told(api):
    run = launch(api, {"action": "approval", "parameters": {"message": "go?", "expires_in_seconds": 1}}, noop(1))
    approval = approval_of(api, run)
    reaches(api, run, "failed")
    [entry] = of(api, approval["id"])
    assert entry["action"] == "approval.expired" and entry["actor"] == {"kind": "daemon", "ref": "baton"}
    assert "key_id" not in entry


@pytest.mark.parametrize("verb,told", [("approve", "task.approved"), ("reject", "task.rejected")])
def test_who_let_a_task_run_or_not_is_told_once(api, verb, told):
    task = api.task(approval_policy="manual")
    answers = {api.request("POST", f"/v1/tasks/{task['id']}/{verb}", {}, headers={"Idempotency-Key": "k"}).text
               for _ in range(2)}
    assert len(answers) == 1
    api.problem("POST", f"/v1/tasks/{task['id']}/{verb}", 409, "already_decided", {})
    assert actions(api, task["id"]) == [told]


def test_who_takes_the_approval_off_a_task_is_told(api):
    task = api.task(approval_policy="manual")
    api.request("PATCH", "/v1/tasks/" + task["id"], {"title": "another"}, 200)
    assert actions(api, task["id"]) == []
    api.request("PATCH", "/v1/tasks/" + task["id"], {"approval_policy": "none"}, 200)
    [entry] = of(api, task["id"])
    assert entry["action"] == "task.approval_policy_changed" and entry["detail"] == "none"


def test_pause_and_resume_are_told_where_they_change_something(api):
    task = api.task()
    for _ in range(2):
        api.post(f"/v1/tasks/{task['id']}/pause", {"reason": "a look first"}, 200)
    for _ in range(2):
        api.post(f"/v1/tasks/{task['id']}/resume", {}, 200)
    paused, resumed = of(api, task["id"])
    assert paused["action"] == "task.paused" and paused["detail"] == "a look first"
    assert resumed["action"] == "task.resumed" and paused["after"] == resumed["before"]


def test_a_deleted_task_leaves_its_row(api):
    task = api.task(title="of no more use")
    api.request("DELETE", "/v1/tasks/" + task["id"], status=204)
    [entry] = of(api, task["id"])
    assert entry["action"] == "task.deleted" and entry["detail"] == "of no more use" and "after" not in entry


def test_ordinary_work_is_not_told(api, capability):
    before, _ = log(api, workspace_id=api.session.headers["X-Workspace-ID"])
    claim = api.claimed(capability)
    api.post(f"/v1/runs/{claim['run']['id']}/start", {"claim_token": claim["claim_token"]}, 200)
    api.post(f"/v1/runs/{claim['run']['id']}/complete", {"claim_token": claim["claim_token"], "result": 1}, 200)
    assert log(api, workspace_id=api.session.headers["X-Workspace-ID"])[0] == before


def test_what_was_refused_is_not_told(api):
    task = api.task()
    child = api.post(f"/v1/tasks/{task['id']}/children", {"title": "child"})
    api.problem("DELETE", "/v1/tasks/" + task["id"], 400, "validation_failed")
    api.problem("POST", f"/v1/tasks/{task['id']}/pause", 422, "reason_required", {})
    api.problem("PUT", "/v1/secrets/9bad", 400, "validation_failed", {"value": "abcdef"})
    assert actions(api, task["id"]) == actions(api, (child.get("task") or child)["id"]) == actions(api, "9bad") == []


# ---- who sees it ----

@pytest.fixture
def tenant(api):
    return Client(api.server, api.key_for(scopes=["admin", "tasks:read", "tasks:write"],
                                          workspace_id=api.session.headers["X-Workspace-ID"])["key"])


def test_a_workspace_sees_its_own_rows_and_nothing_of_the_others(api, tenant):
    other = Client(api.server, headers={"X-Workspace-ID": api.post("/v1/workspaces", {"name": "other", "slug":
                                                                     "o-%d" % time.monotonic_ns()})["id"]})
    theirs = other.task()
    other.post(f"/v1/tasks/{theirs['id']}/pause", {"reason": "x"}, 200)
    mine = tenant.task()
    tenant.post(f"/v1/tasks/{mine['id']}/pause", {"reason": "x"}, 200)
    entries, head = log(tenant)
    assert head is None and {e["workspace_id"] for e in entries} == {mine["workspace_id"]}
    assert entries[0]["resource"] == mine["id"]
    assert of(tenant, theirs["id"]) == [] and of(api, theirs["id"])
    tenant.problem("GET", "/v1/audit?workspace_id=" + theirs["workspace_id"], 404, "not_found")
    assert all(entry["hash"] == digest_of(entry) for entry in entries)


def test_only_an_administrator_reads_it(api):
    Client(api.server, api.key_for()["key"]).problem("GET", "/v1/audit", 403, "permission_denied")


def test_it_is_narrowed_and_read_page_by_page(api):
    workspace, task = api.session.headers["X-Workspace-ID"], api.task()
    for _ in range(3):
        api.post(f"/v1/tasks/{task['id']}/pause", {"reason": "x"}, 200)
        api.post(f"/v1/tasks/{task['id']}/resume", {}, 200)
    entries, _ = log(api, workspace_id=workspace)
    assert len(entries) == 7
    assert log(api, workspace_id=workspace, limit=2)[0] == entries
    assert log(api, workspace_id=workspace, action="task.paused")[0] == entries[1:6:2]
    assert log(api, workspace_id=workspace, since=entries[3]["at"])[0] == entries[:4]
    assert log(api, workspace_id=workspace, until=entries[3]["at"])[0] == entries[4:]
    assert log(api, workspace_id=workspace, actor="human:admin")[0] == entries
    assert log(api, workspace_id=workspace, actor="human:nobody")[0] == []
    for bad in ("action=task.eaten", "since=yesterday", "limit=0"):
        api.problem("GET", "/v1/audit?" + bad, 400, "validation_failed")


# ---- that nobody changes it unseen ----

def verify(*words, status=0):
    ended = subprocess.run([BATON, "audit", "verify", *map(str, words), "-o", "json"], capture_output=True, text=True,
                           timeout=60)
    assert ended.returncode == status, (ended.stdout, ended.stderr)
    return json.loads(ended.stdout)


def busy(api):
    """A dozen rows."""
    task = api.task()
    for _ in range(6):
        api.post(f"/v1/tasks/{task['id']}/pause", {"reason": "x"}, 200)
        api.post(f"/v1/tasks/{task['id']}/resume", {}, 200)


@pytest.fixture
def copy(own_server, tmp_path):
    """A copy of the database of a server that has told a dozen times, and more from somebody's own workspace."""
    busy(Client(own_server))
    path = tmp_path / "copy.db"
    with sqlite3.connect(own_server.data / "baton.db") as of_server, sqlite3.connect(path) as to:
        of_server.backup(to)
    return path


def tamper(path, *statements):
    db = sqlite3.connect(path)
    for statement in statements:
        assert db.execute(statement).rowcount > 0, statement
    db.commit()
    db.close()


def id_text(prefix, number):
    return prefix + "_" + "".join("0123456789abcdefghjkmnpqrstvwxyz"[number >> 5 * i & 31] for i in range(12, -1, -1))


def ids(path):
    db = sqlite3.connect(path)
    numbers = [number for number, in db.execute("SELECT id FROM audit ORDER BY id")]
    db.close()
    return numbers


def rows_of(path):
    """All rows of a database as the API shows them, newest first, and the head."""
    db = sqlite3.connect(path)
    names = dict(db.execute("SELECT id, text FROM name"))
    told = {int(number): name for number, name in re.findall(r'^AUDIT\(\w+, (\d+), "(.+)"\)', AUDIT_DEF, re.M)}
    entries = []
    for r in db.execute("SELECT id, at, actor, key_id, origin, action, resource, workspace_id, detail, before, after,"
                        " previous, hash FROM audit ORDER BY id DESC"):
        at = datetime.datetime(1970, 1, 1) + datetime.timedelta(microseconds=r[1])
        shown = [id_text("audit", r[0]), at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), names.get(r[2]),
                 id_text("key", r[3]) if r[3] else None, names.get(r[4]), told[r[5]], r[6], names.get(r[7]), *r[8:]]
        entries.append(dict(zip(FIELDS + ["hash"], shown)))
    head = db.execute("SELECT value FROM setting WHERE name = 'audit_head'").fetchone()
    db.close()
    return entries, head[0].decode()


def test_the_whole_log_is_sound_online_offline_and_to_another_program(own_server, copy):
    api = Client(own_server)
    entries, head = log(api)
    assert sound(entries, head) and sound(*rows_of(copy)) and rows_of(copy)[1] == head
    expected = {"ok": True, "rows": len(entries), "complete": True, "head": head}
    assert verify("--data", own_server.data) == expected
    assert verify("--database", own_server.data) == verify("--database", copy) == expected
    assert verify("--database", copy, "--head", head) == expected
    assert verify("--database", copy, "--head", entries[3]["hash"]) == expected


def test_the_chain_goes_on_over_restarts(own_server):
    busy(Client(own_server))
    before = log(Client(own_server))[1]
    own_server.kill()
    own_server.start()
    busy(Client(own_server))
    assert sound(*log(Client(own_server)))
    assert verify("--data", own_server.data, "--head", before)["ok"]


def test_a_log_longer_than_a_page_is_verified_to_its_end(own_server):
    api = Client(own_server)
    for _ in range(45):
        busy(api)
    assert verify("--data", own_server.data)["rows"] == len(log(api)[0]) > 500
    assert verify("--database", own_server.data)["rows"] > 500


def test_a_key_of_one_workspace_learns_that_its_own_rows_are_sound(api, tenant):
    task = tenant.task()
    tenant.post(f"/v1/tasks/{task['id']}/pause", {"reason": "x"}, 200)
    found = verify("--server", api.server.url, "--key", tenant.session.headers["Authorization"][7:])
    assert found == {"ok": True, "rows": len(log(tenant)[0]), "complete": False}


CHANGES = ["at = at + 1", "actor = (SELECT id FROM name WHERE text = 'daemon:baton')", "key_id = key_id + 1",
           "origin = actor", "action = 13", "resource = resource || 'x'", "workspace_id = NULL", "detail = 'y'",
           "before = NULL", "after = hash", "previous = after", "hash = previous", "id = id + 1"]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_row_is_named(copy, change):
    number = ids(copy)[6]
    tamper(copy, f"UPDATE audit SET {change} WHERE id = {number}")
    number += change == "id = id + 1"
    found = verify("--database", copy, status=1)
    assert (found["ok"], found["fault"], found["row"]) == (False, "changed", id_text("audit", number))
    assert not sound(*rows_of(copy))


def test_a_name_that_rows_refer_to_cannot_be_changed_either(copy):
    tamper(copy, "UPDATE name SET text = 'human:mallory' WHERE text = 'human:admin'")
    assert verify("--database", copy, status=1)["fault"] == "changed"
    assert not sound(*rows_of(copy))


def test_a_row_written_anew_with_its_hash_does_not_fit_the_next(copy):
    """Who knows how hashes are made has to make all later ones, and the head."""
    numbers = ids(copy)
    entry = rows_of(copy)[0][-7]
    tamper(copy, f"UPDATE audit SET detail = 'y', hash = '{digest_of({**entry, 'detail': 'y'})}' WHERE id = {numbers[6]}")
    found = verify("--database", copy, status=1)
    assert found["fault"] == "missing" and found["row"] == id_text("audit", numbers[7])


@pytest.mark.parametrize("place", [0, 6])
def test_a_removed_row_is_missed(copy, place):
    numbers = ids(copy)
    tamper(copy, f"DELETE FROM audit WHERE id = {numbers[place]}")
    found = verify("--database", copy, status=1)
    assert found["fault"] == "missing" and found["row"] == id_text("audit", numbers[place + 1])
    assert not sound(*rows_of(copy))


def test_rows_in_another_order_are_noticed(copy):
    a, b = ids(copy)[5:7]
    tamper(copy, f"UPDATE audit SET id = -1 WHERE id = {a}", f"UPDATE audit SET id = {a} WHERE id = {b}",
           f"UPDATE audit SET id = {b} WHERE id = -1")
    found = verify("--database", copy, status=1)
    assert found["fault"] == "reordered" and found["row"] == id_text("audit", a)
    assert not sound(*rows_of(copy))


def test_a_tail_that_is_cut_off_is_missed_by_the_head(copy):
    numbers = ids(copy)
    tamper(copy, f"DELETE FROM audit WHERE id > {numbers[-4]}")
    found = verify("--database", copy, status=1)
    assert found["fault"] == "cut" and found["row"] == id_text("audit", numbers[-4])
    assert not sound(*rows_of(copy))
    tamper(copy, "DELETE FROM audit")
    assert verify("--database", copy, status=1)["fault"] == "cut"


def test_a_tail_cut_off_together_with_the_head_is_missed_by_the_head_that_was_noted(copy):
    noted, numbers = verify("--database", copy)["head"], ids(copy)
    tamper(copy, f"DELETE FROM audit WHERE id > {numbers[-4]}",
           "UPDATE setting SET value = (SELECT CAST(hash AS BLOB) FROM audit ORDER BY id DESC LIMIT 1)"
           " WHERE name = 'audit_head'")
    assert verify("--database", copy)["ok"], "without a noted head nothing can tell"
    found = verify("--database", copy, "--head", noted, status=1)
    assert found["fault"] == "cut" and found["row"] == id_text("audit", numbers[-4])


def test_a_tail_cut_off_behind_the_servers_back_shows_in_what_it_writes_later(own_server):
    busy(Client(own_server))
    own_server.stop()
    numbers = ids(own_server.data / "baton.db")
    tamper(own_server.data / "baton.db", f"DELETE FROM audit WHERE id > {numbers[-4]}")
    own_server.start()
    api = Client(own_server)
    busy(api)
    found = verify("--data", own_server.data, status=1)
    assert found["fault"] == "missing" and not sound(*log(api))


def test_a_database_that_is_none_is_an_error_and_not_a_verdict(tmp_path):
    (tmp_path / "no.db").write_text("no database, whatever its name says, and long enough to be read as one" * 20)
    for path in (tmp_path / "no.db", tmp_path / "absent.db"):
        ended = subprocess.run([BATON, "audit", "verify", "--database", path], capture_output=True, text=True)
        assert ended.returncode not in (0, 1) and ended.stdout == "" and ended.stderr.startswith("baton: ")
    ended = subprocess.run([BATON, "audit", "verify", "--head", "abc"], capture_output=True, text=True)
    assert ended.returncode == 2 and "64 hex digits" in ended.stderr


def test_the_log_is_listed_as_a_table(own_server):
    api = Client(own_server)
    task = api.task()
    api.post(f"/v1/tasks/{task['id']}/pause", {"reason": "to look at it first"}, 200)
    def listed(*words):
        return subprocess.run([BATON, "audit", "list", "--data", own_server.data, *words], capture_output=True,
                              text=True, check=True).stdout
    assert listed().split("\n")[0].split() == ["AT", "ACTION", "RESOURCE", "ACTOR", "KEY", "DETAIL"]
    line = listed("--resource", task["id"]).split("\n")[1]
    assert "task.paused" in line and "human:admin" in line and "to look at it first" in line
    assert "task.paused" not in listed("--action", "key.created")
    assert json.loads(listed("--actor", "human:admin", "--limit", "1", "-o", "json"))["items"][0]["resource"] == task["id"]
