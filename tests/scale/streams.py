#!/usr/bin/env python3
"""Event streams at scale: subscribers that check everything they are told, while events come, all of
them leave at once, and some leave at random.

    streams.py --baton build/baton [--subscribers 5000] [--disconnects 10000] [--seconds 10]
"""
import argparse
import http.client
import json
import pathlib
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
    """Events of several kinds: a change is one; a claim that is given back is some, in two commits."""

    def __init__(self, server, tasks, runs):
        self.server, self.tasks, self.runs = server, tasks, runs
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port)

    def call(self, method, path, body):
        self.connection.request(method, path, json.dumps(body),
                                {"Authorization": "Bearer " + self.server.key,
                                 "Content-Type": "application/json"})
        answer = self.connection.getresponse()
        data = answer.read()
        assert answer.status < 300, (answer.status, data)
        return json.loads(data)

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


def create_rate(baton, server, seconds):
    """Of three rounds the best: what shares the machine takes away, and never adds."""
    return max(load(bench_tools(baton), server, "create", connections=64, seconds=seconds)["rate"]
               for _ in range(3))


def measure(baton, subscribers, disconnects, seconds, drippers, with_creates=True):
    found = {}
    with Server(baton, "--max-connections-per-source", MANY, "--max-streams-per-key", MANY) as server:
        tasks, runs = make_tasks(server)
        if with_creates:
            found["create_alone"] = create_rate(baton, server, seconds / 3)
        crowd = Subscribers(baton, server, tasks, subscribers, drippers)
        found |= crowd.ask("open")
        with Pace(Writer(server, tasks, runs).write, EVENTS * 3 / 4):
            crowd.ask("measure")
            time.sleep(seconds)
            found |= crowd.ask("report")
            if with_creates:
                found["create_with"] = create_rate(baton, server, seconds / 3)
                found["busy_p99_ms"] = crowd.ask("report")["p99_ms"]
            found["pss_mib"] = server.pss_mib()
            found |= crowd.ask("storm")
            found |= crowd.ask(f"disconnect {disconnects} {max(200, disconnects / 50)}")
        found |= crowd.ask("finish " + heads(server, tasks))
        assert crowd.process.wait(10) == 0
        if with_creates:  # before and after: the database grows meanwhile, which has its own price
            found["create_alone"] = (found["create_alone"] + create_rate(baton, server, seconds / 3)) / 2
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
    share = 100 * f["create_with"] / f["create_alone"]
    rows = [("streams open", f"{o.subscribers} in {f['opened_s']:.1f} s", True, ""),
            ("delivered while measured", f["delivered"], f["delivered"] > 0, "> 0"),
            ("delivery p50", f"{f['p50_ms']} ms", True, ""),
            ("delivery p99", f"{f['p99_ms']} ms", f["p99_ms"] <= 250, "<= 250 ms"),
            ("delivery p99 under creates too", f"{f['busy_p99_ms']} ms", True, ""),
            ("create_c64 without", f"{f['create_alone']:.0f}/s", True, ""),
            ("create_c64 with", f"{f['create_with']:.0f}/s = {share:.0f} %", share >= 80, ">= 80 %"),
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
