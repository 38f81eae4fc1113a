#!/usr/bin/env python3
"""Races: two requests, or sixteen clients, at the same time for what only one of them can get.

    tests/race/races.py --baton build/baton --races 10000 [--seed 1] [--only WORD]

The requests of a race leave on connections of their own, in a random order, fifty races at a time; which of them is
served first is up to the server's threads.  Who won is taken from the answers and compared with the rows that the
server leaves behind.  Ends with `N passed, N failed`, which counts kinds of races.
"""
import argparse
import collections
import http.client
import json
import pathlib
import random
import socket
import sys
import time

ROOT = pathlib.Path(__file__).parents[2]
sys.path.append(str(ROOT / "bench"))
from run import Server  # noqa: E402

AT_ONCE, CLAIMERS, RUNS_A_RACE, TREE, PATIENCE = 50, 16, 10, 130, 60


class Connection:
    """Sends a request and reads its answer as two deeds."""

    def __init__(self, server, key=None):
        self.socket = socket.create_connection(("127.0.0.1", server.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.head = f"HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nAuthorization: Bearer {key or server.key}\r\n" \
            "Content-Type: application/json\r\nContent-Length: "

    def send(self, path, body):
        text = json.dumps(body)
        self.socket.sendall(f"POST {path} {self.head}{len(text)}\r\n\r\n{text}".encode())

    def receive(self):
        answer = http.client.HTTPResponse(self.socket)
        answer.begin()
        text = answer.read()
        return answer.status, json.loads(text) if text else None

    def post(self, path, body):
        self.send(path, body)
        status, answer = self.receive()
        assert status < 300, (path, status, answer)
        return answer


class Broken(AssertionError):
    """A race that nobody or more than one won, or whose loser left something behind."""


class Field:
    """The server, two keys of different people, and the connections of the races that run at once."""

    def __init__(self, server, dice):
        self.server, self.dice = server, dice
        self.admin = Connection(server)
        self.keys = [self.admin.post("/v1/keys", {"name": ref, "actor_kind": "human", "ref": ref, "scopes": [
            "tasks:read", "tasks:write", "tasks:approve"]})["key"] for ref in ("ada", "bob")]
        self.lanes = [[Connection(server, key) for key in self.keys] for _ in range(AT_ONCE)]

    def tasks(self, n, **fields):
        made = []
        while len(made) < n:
            items = [{"title": "race", **fields}] * min(1000, n - len(made))
            made += [row["task"]["id"] for row in self.admin.post("/v1/tasks/batch", {"items": items})["items"]]
        return made

    def run(self, races):
        """Each race is two (path, body); yields the two (status, answer) of each."""
        for at in range(0, len(races), AT_ONCE):
            now = list(zip(self.lanes, races[at:at + AT_ONCE]))
            starts = [(lane[side], race[side]) for lane, race in now for side in (0, 1)]
            self.dice.shuffle(starts)
            for connection, (path, body) in starts:
                connection.send(path, body)
            for lane, _ in now:
                yield [connection.receive() for connection in lane]


def one_winner(answers, won, code):
    """Which side got `won`; the other one must have been refused with `code`."""
    winners = [side for side in (0, 1) if answers[side][0] == won[side]]
    if len(winners) != 1:
        raise Broken(f"{len(winners)} winners: {answers}")
    status, answer = answers[1 - winners[0]]
    if status != 409 or answer["code"] != code:
        raise Broken(f"the loser heard {status} {answer}")
    return winners[0]


def none(field, sentence, query):
    found = field.server.rows(query)
    if found:
        raise Broken(f"{sentence}: {len(found)}, among them {found[0]}")


def edges(field, n):
    """a waits for b against b waits for a"""
    tasks = field.tasks(2 * n)
    pairs = list(zip(tasks[::2], tasks[1::2]))
    won = [one_winner(answers, (201, 201), "cycle_detected") for answers in field.run(
        [[(f"/v1/tasks/{x}/dependencies", {"depends_on_task_id": y}) for x, y in ((a, b), (b, a))] for a, b in pairs])]
    none(field, "edges both ways", "SELECT task_id FROM dependency AS d WHERE EXISTS (SELECT 1 FROM dependency WHERE"
         " task_id = d.depends_on_task_id AND depends_on_task_id = d.task_id)")
    return won


def approvals(field, n):
    """one approves, another one rejects"""
    tasks = field.tasks(n, approval_policy="manual")
    sides = [field.dice.sample((("approve", 201), ("reject", 200)), 2) for _ in tasks]
    races = [[(f"/v1/tasks/{task}/{word}", {}) for word, _ in side] for task, side in zip(tasks, sides)]
    won = [one_winner(answers, [status for _, status in side], "already_decided")
           for answers, side in zip(field.run(races), sides)]
    approved = sum(side[winner][0] == "approve" for side, winner in zip(sides, won))
    rows = field.server.rows("SELECT count(*), sum(approval_state = 2), (SELECT count(*) FROM approval WHERE status = 1),"
                             " (SELECT count(*) FROM run) FROM task WHERE approval_policy = 1")
    if rows != [(n, approved, approved, approved)]:
        raise Broken(f"{approved} approved: tasks, approved ones, approvals, runs are {rows}")
    return won


def two_approvers(field, n):
    """two approve the same"""
    tasks = field.tasks(n, approval_policy="manual", metadata={"kind": "two"})
    won = [one_winner(answers, (201, 201), "already_decided") for answers in field.run(
        [[(f"/v1/tasks/{task}/approve", {})] * 2 for task in tasks])]
    none(field, "more than one run or event for an approval",
         "SELECT task.id FROM task WHERE metadata LIKE '%two%' AND ((SELECT count(*) FROM run WHERE task_id = task.id)"
         " <> 1 OR (SELECT count(*) FROM event WHERE tree_id = task.id AND type = 6) <> 1)")
    return won


def child_against(field, races):
    """Sides: the child, the cancel.  A child that was first is canceled with the others."""
    won = []
    for child, cancel in field.run(races):
        if cancel[0] != 200 or child[0] not in (201, 409) or (child[0] == 409 and
                                                              child[1]["code"] != "invalid_transition"):
            raise Broken(f"{child}, {cancel}")
        won.append(0 if child[0] == 201 else 1)
    deadline = time.monotonic() + PATIENCE
    while field.server.rows("SELECT 1 FROM cascade") and time.monotonic() < deadline:
        time.sleep(0.02)
    none(field, "open below a canceled task", "SELECT task.id FROM task JOIN task AS above ON above.id ="
         " task.parent_task_id WHERE above.status = 7 AND (task.status NOT IN (5, 6, 7) OR EXISTS (SELECT 1 FROM run WHERE task_id ="
         " task.id AND ended_at IS NULL))")
    born = field.server.rows("SELECT count(*) FROM task WHERE title = 'child'")[0][0]
    if born != won.count(0):
        raise Broken(f"{won.count(0)} children were acknowledged, {born} are there")
    return won


def children(field, n):
    """a child is made while its parent is canceled"""
    return child_against(field, [[(f"/v1/tasks/{task}/children", {"title": "child", "start": True}),
                                  (f"/v1/tasks/{task}/cancel", {})] for task in field.tasks(n, start=True)])


def children_of_large_trees(field, n):
    """a child is made at the end of a tree whose cancel takes several transactions"""
    races = []
    for root in field.tasks(max(1, n // 100)):
        leaf = at = root
        for i in range(TREE):
            if i % 60 == 0:
                at = leaf
            leaf = field.admin.post(f"/v1/tasks/{at}/children", {"title": "leaf", "start": True})["task"]["id"]
        races.append([(f"/v1/tasks/{leaf}/children", {"title": "child", "start": True}), (f"/v1/tasks/{root}/cancel", {})])
    return child_against(field, races)


def claims(field, n):
    """sixteen claimers, ten runs a race, each run claimed once"""
    runs = RUNS_A_RACE * n
    field.tasks(runs, start=True)
    claimers = [Connection(field.server) for _ in range(CLAIMERS)]
    owner, idle = {}, set()
    while len(idle) < CLAIMERS:
        for claimer in field.dice.sample(claimers, CLAIMERS):
            claimer.send("/v1/runs/claim", {"max": field.dice.randint(1, 20)})
        for i, claimer in enumerate(claimers):
            status, answer = claimer.receive()
            if status == 204:
                idle.add(i)
                continue
            for claim in answer["claims"]:
                if owner.setdefault(claim["run"]["id"], i) != i or claim["run"]["epoch"] != 1:
                    raise Broken(f"claimed twice: {claim['run']}")
    if len(owner) != runs:
        raise Broken(f"{runs} runs, {len(owner)} claimed")
    none(field, "not claimed exactly once", "SELECT id FROM run WHERE status <> 1 OR (SELECT count(*) FROM event WHERE"
         " run_id = run.id AND tree_id = run.tree_id AND type = 11) <> 1")
    return list(owner.values())


KINDS = [claims, children, children_of_large_trees, edges, approvals, two_approvers]


def race(baton, kind, n, seed):
    """One kind on a server of its own: how often each side won."""
    server = Server(baton, "--concurrency", "0")
    try:
        return collections.Counter(kind(Field(server, random.Random(seed)), n))
    finally:
        server.stop()
        server.remove()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--baton", type=pathlib.Path, required=True)
    parser.add_argument("--races", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--only", default="", help="kinds whose sentence has this word")
    args = parser.parse_args()
    passed = failed = races = 0
    for kind in KINDS:
        if args.only not in kind.__doc__:
            continue
        try:
            won = race(args.baton.absolute(), kind, args.races, args.seed)
            print(f"{kind.__doc__}: {sum(won.values())} won by side {dict(sorted(won.items()))}", flush=True)
            races += sum(won.values())
            passed += 1
        except Broken as why:
            print(f"{kind.__doc__}: {why}; again: --races {args.races} --seed {args.seed}", flush=True)
            failed += 1
    print(f"{passed} passed, {failed} failed")
    print("ledger", json.dumps({"suite": "race", "seed": args.seed, "cycles": passed + failed, "operations": races,
                                "failures": failed}))
    return int(failed > 0 or not passed)


if __name__ == "__main__":
    sys.exit(main())
