#!/usr/bin/env python3
"""Event streams at scale: subscribers that check everything they are told, while events come, all of
them leave at once, and some leave at random.

    streams.py --baton build/baton [--subscribers 5000] [--disconnects 10000] [--seconds 10]
"""
import argparse
import json
import pathlib
import re
import socket
import subprocess
import sys
import time

from common import MANY, TASKS, Pace, Server, bench_tools, judge, load, tool

EVENTS = 100  # a second, over all tasks
PROMISES = ["ordered", "unique", "reliable", "atomic", "resumable", "bookmarkable"]


class Subscribers:
    def __init__(self, baton, server, tasks, n, drippers):
        self.process = subprocess.Popen(
            [tool(baton, "subscribers"), "-p", str(server.port), "-k", server.key, "-n", str(n),
             "-d", str(drippers), *tasks],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"{command}: no answer"
        return json.loads(line)


class Writer:
    """Events of several kinds: a change is one; a claim that is given back is some, in two commits.  It
    speaks HTTP by itself: a library would take more of the machine than the streams do."""

    def __init__(self, server, tasks, runs):
        self.tasks, self.runs = tasks, runs
        self.head = f"HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {server.key}\r\nContent-Type: application/json\r\n"
        self.connection = socket.create_connection(("127.0.0.1", server.port))
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def call(self, method, path, body):
        body = json.dumps(body)
        text = f"{method} {path} {self.head}Content-Length: {len(body.encode())}\r\n\r\n{body}"
        self.connection.sendall(text.encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.received(answer)
        head, _, data = answer.partition(b"\r\n\r\n")
        length = int(re.search(rb"(?i)\ncontent-length: *(\d+)", head)[1])
        while len(data) < length:
            data += self.received(data)
        assert head.startswith(b"HTTP/1.1 2"), (head, data)
        return json.loads(data)

    def received(self, before):
        data = self.connection.recv(65536)
        assert data, before
        return data

    def write(self, n):
        i = n * 7 % len(self.tasks)
        if n % 3:
            self.call("PATCH", "/v1/tasks/" + self.tasks[i], {"title": f"é€𝄞 {n}"})
        else:
            run = "/v1/runs/" + self.runs[i]
            claim = self.call("POST", run + "/claim", {"lease_seconds": 60})
            self.call("POST", run + "/release", {"claim_token": claim["claims"][0]["claim_token"]})


def make_tasks(server):
    """Their ids and their runs'."""
    body = json.dumps({"items": [{"title": f"followed {i}", "start": True} for i in range(TASKS)]})
    items = json.loads(server.call("POST", "/v1/tasks/batch", body))["items"]
    return [i["task"]["id"] for i in items], [i["run"]["id"] for i in items]


def heads(server, tasks):
    server.connection.close()  # idle for too long by now
    out = []
    for task in tasks:
        page = server.call("GET", f"/v1/tasks/{task}/timeline?descending=true&limit=1")
        out.append(str(json.loads(page)["items"][0]["sequence"]))
    return " ".join(out)


def creates(baton, server, seconds):
    return load(bench_tools(baton), server, "create", connections=64, seconds=seconds)["rate"]


def measure(baton, subscribers, disconnects, seconds, drippers, rounds=5):
    """The creates are measured without them and with them in turns: what shares the machine, and the
    growing database, changes both alike."""
    found, alone, beside = {}, [], []
    with Server(baton, "--max-connections-per-source", MANY, "--max-streams-per-key", MANY) as server:
        tasks, runs = make_tasks(server)
        crowd = Subscribers(baton, server, tasks, subscribers, drippers)
        events = Writer(server, tasks, runs).write
        found |= crowd.ask("open")
        with Pace(events, EVENTS * 3 / 4):
            crowd.ask("measure")
            time.sleep(seconds)
            found |= crowd.ask("report")
        for _ in range(rounds):
            crowd.ask("leave")
            alone.append(creates(baton, server, seconds / 3))
            crowd.ask("open")
            with Pace(events, EVENTS * 3 / 4):
                crowd.ask("measure")
                beside.append(creates(baton, server, seconds / 3))
                found["busy_p99_ms"] = crowd.ask("report")["p99_ms"]
                found["pss_mib"] = server.pss_mib()
        if rounds:
            crowd.ask("leave")
            alone.append(creates(baton, server, seconds / 3))
            found["shares"] = [200 * with_them / (before + after)
                               for with_them, before, after in zip(beside, alone, alone[1:])]
            found["create_alone"], found["create_with"] = sum(alone) / len(alone), sum(beside) / rounds
        crowd.ask("open")
        with Pace(events, EVENTS * 3 / 4):
            found |= crowd.ask("storm")
            found |= crowd.ask(f"disconnect {disconnects} {max(200, disconnects / 50)}")
        found |= crowd.ask("finish " + heads(server, tasks))
        assert crowd.process.wait(10) == 0
    return found


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--baton", type=pathlib.Path, required=True)
    p.add_argument("--subscribers", type=int, default=5000)
    p.add_argument("--disconnects", type=int, default=10000)
    p.add_argument("--seconds", type=float, default=15)
    p.add_argument("--drippers", type=int, default=50)
    o = p.parse_args()
    f = measure(o.baton.absolute(), o.subscribers, o.disconnects, o.seconds, o.drippers)
    shares = sorted(f["shares"])
    share = shares[len(shares) // 2]
    rows = [("streams open", f"{o.subscribers} in {f['opened_s']:.1f} s", True, ""),
            ("delivered while measured", f["delivered"], f["delivered"] > 0, "> 0"),
            ("delivery p50", f"{f['p50_ms']} ms", True, ""),
            ("delivery p99", f"{f['p99_ms']} ms", f["p99_ms"] <= 250, "<= 250 ms"),
            ("delivery p99 under creates too", f"{f['busy_p99_ms']} ms", True, ""),
            ("create_c64 without", f"{f['create_alone']:.0f}/s", True, ""),
            ("create_c64 with", f"{f['create_with']:.0f}/s", True, ""),
            ("  of that without, median", f"{share:.0f} %", share >= 80, ">= 80 %"),
            ("  each round", ", ".join(f"{s:.0f}" for s in f["shares"]), True, ""),
            ("PSS", f"{f['pss_mib']:.1f} MiB", f["pss_mib"] <= 100, "<= 100 MiB"),
            ("storm settled", f"{f['settled_s']} s", f["settled_s"] <= 10, "<= 10 s"),
            ("disconnects", f["disconnects"], f["disconnects"] >= o.disconnects, ""),
            ("of them inside a frame", f["inside_a_frame"], f["inside_a_frame"] > 0, "> 0"),
            ("frames checked", f["frames"], f["frames"] > 0, "> 0"),
            ("bookmarks used again", f["bookmarks"], f["bookmarks"] > 0, "> 0")]
    rows += [(f"not {name}", f[name], f[name] == 0, "0") for name in PROMISES]
    missed = judge(rows)
    print("ledger", json.dumps({"suite": "stream", "cycles": f["disconnects"], "operations": f["frames"],
                                "failures": sum(f[name] > 0 for name in PROMISES)}))
    return missed > 0


if __name__ == "__main__":
    sys.exit(main())
