#!/usr/bin/env python3
"""Runs the long suites in turn and keeps the ledger.

    reliability/campaign.py --minutes 60 [--only crash,clock]   runs, appends, writes the table
    reliability/campaign.py --table                             writes the table of docs/RELIABILITY.md anew

A suite is a target of the Makefile.  The one that has not run for longest, by the ledger, is next, so that
short campaigns get round too.  Its line `ledger {"suite":…,"seed":…,"cycles":…,"operations":…,
"failures":…}` is what it has done; of one that prints none the last line `N passed, N failed`.
Each run becomes one line of reliability/ledger.jsonl, with the commit and the time.
"""

import argparse
import datetime
import json
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[1]
LEDGER, PAGE = ROOT / "reliability" / "ledger.jsonl", ROOT / "docs" / "RELIABILITY.md"
BEGIN, END = "<!-- the sums of reliability/ledger.jsonl -->\n", "<!-- end -->\n"

# suite: its target and what the target is given; numbers are those of an hour, {seed} is the run's own, {few} 1
# when there is less time
SUITES = {
    "crash": ("crash-test", {"CYCLES": 100}),
    "chaos": ("chaos-test", {"CYCLES": 100, "PG_STOPS": 30}),
    "failpoints": ("failpoint-test", {"FEW": "{few}"}),
    "clock": ("clock-test", {}),
    "restart": ("restart-test", {"RUNS": 1000000}),
    "stream": ("stream-test", {"SUBSCRIBERS": 5000, "DISCONNECTS": 10000}),
    "powercut": ("powercut", {"N": 20000}),
    "sim": ("sim", {"SEEDS": "{seed}00..{seed}99", "OPS": 5000}),
    "model": ("model-test", {"N": 20000}),
    "turns": ("test", {"SUITES": "tests/bus/test_turns.py", "RUNS": 100000, "JOINS": 10000}),
    "beside": ("beside-test", {"N": 2000}),
    "planted": ("planted-test", {}),
    "race": ("race-test", {"N": 10000}),
    "reviewers": ("review-test", {"RACES": 10000}),
    "network": ("test", {"SUITES": "tests/sandbox/test_network.py tests/api/test_http_request.py"
                                   " tests/api/test_git_remote.py"}),
    "webhooks": ("test", {"SUITES": "tests/api/test_webhooks.py"}),
    "fuzz": ("fuzz-smoke", {"SECONDS": 60}),
}


def git(*words):
    return subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True, check=True).stdout.strip()


def commit():
    """The commit, with a + when the tree differs from it; the ledger and its page do not count."""
    changed = git("status", "--porcelain", "--", ".", f":!{LEDGER.relative_to(ROOT)}", f":!{PAGE.relative_to(ROOT)}")
    return git("rev-parse", "--short=12", "HEAD") + "+" * bool(changed)


def arguments(given, seed, share):
    """As much as fits into this share of an hour."""
    few = "" if share == 1 else "1"
    for name, value in given.items():
        scaled = max(1, round(value * share)) if isinstance(value, int) else value.format(seed=seed, few=few)
        yield f"{name}={scaled}"


def run(suite, seed, share):
    """What the suite says that it has done."""
    target, given = SUITES[suite]
    process = subprocess.Popen(["make", "-s", "-C", ROOT, target, f"SEED={seed}", *arguments(given, seed, share)],
                               text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    told = {"seed": seed, "cycles": 1, "operations": 0}
    for line in process.stdout:
        sys.stdout.write(line)
        if line.startswith("ledger "):
            told |= json.loads(line.removeprefix("ledger "))
        elif found := re.fullmatch(r"([1-9]\d*) passed, (\d+) failed\n", line):
            told |= {"cycles": int(found[1]) + int(found[2]), "failures": int(found[2])}
    return {"failures": int(process.wait() != 0), **told}


def next_of(suites):
    """The one that has not run for longest."""
    last = {line["suite"]: at for at, line in enumerate(read())}
    return min(suites, key=lambda suite: last.get(suite, -1))


def campaign(minutes, suites):
    until, seed, bad = time.monotonic() + minutes * 60, int(time.time()) % 1000000, 0
    while time.monotonic() < until:
        seed, suite = seed + 1, next_of(suites)
        print(f"---- {suite}, seed {seed}", flush=True)
        line = {"commit": commit(), "date": datetime.datetime.now(datetime.timezone.utc).strftime("%FT%TZ"),
                "suite": suite, **run(suite, seed, min(1, minutes / 60))}
        with LEDGER.open("a") as f:
            f.write(json.dumps(line) + "\n")
        bad += line["failures"] > 0
    write_table()
    return bad


def read():
    return [json.loads(line) for line in LEDGER.read_text().splitlines()] if LEDGER.exists() else []


def table(lines):
    out = ["| suite | runs | cycles | operations | failures | last run |", "|---|---|---|---|---|---|"]
    for suite in sorted({line["suite"] for line in lines}):
        mine = [line for line in lines if line["suite"] == suite]
        sums = [f"{sum(line[what] for line in mine):,}" for what in ("cycles", "operations", "failures")]
        last = f"{mine[-1]['date'][:10]}, {mine[-1]['commit']}"
        out.append(f"| {suite} | {len(mine)} | {' | '.join(sums)} | {last} |")
    return "\n".join(out) + "\n"


def write_table():
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(before + BEGIN + table(read()) + END + rest.split(END)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--only", type=lambda text: text.split(","), help="these suites, with commas")
    parser.add_argument("--table", action="store_true", help="only write the table")
    args = parser.parse_args()
    if args.table:
        return write_table()
    unknown = set(args.only or []) - set(SUITES)
    if unknown:
        parser.error(f"no such suite: {', '.join(sorted(unknown))}; there are {', '.join(SUITES)}")
    return int(campaign(args.minutes, args.only or list(SUITES)) > 0)


if __name__ == "__main__":
    sys.exit(main())
