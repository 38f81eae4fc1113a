#!/usr/bin/env python3
"""Runs the long suites in turn and keeps the ledger.

    reliability/campaign.py --minutes 60 [--only crash,clock]   runs, appends, writes the table
    reliability/campaign.py --table                             writes the table of docs/RELIABILITY.md anew

A suite is a target of the Makefile.  Its line `ledger {"suite":…,"seed":…,"cycles":…,
"operations":…,"failures":…}` is what it has done; of one that prints none only its end is known.
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

# suite, its target, what the target is given; {seed} is the run's own
SUITES = [
    ("crash", "crash-test", ["CYCLES=100"]),
    ("failpoints", "failpoint-test", []),
    ("clock", "clock-test", []),
    ("restart", "restart-test", ["RUNS=1000000"]),
    ("stream", "stream-test", []),
    ("powercut", "powercut", ["N=20000"]),
    ("sim", "sim", ["SEEDS={seed}00..{seed}99", "OPS=5000"]),
    ("model", "model-test", ["N=20000"]),
    ("planted", "planted-test", []),
    ("race", "race-test", ["N=10000"]),
    ("fuzz", "fuzz-smoke", []),
]


def git(*words):
    return subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True, check=True).stdout.strip()


def commit():
    """The commit, with a + when the tree differs from it; the ledger and its page do not count."""
    changed = git("status", "--porcelain", "--", ".", f":!{LEDGER.relative_to(ROOT)}", f":!{PAGE.relative_to(ROOT)}")
    return git("rev-parse", "--short=12", "HEAD") + "+" * bool(changed)


def targets():
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))


def run(target, arguments, seed):
    """What the suite says that it has done."""
    process = subprocess.Popen(["make", "-s", "-C", ROOT, target, f"SEED={seed}",
                                *(argument.format(seed=seed) for argument in arguments)], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    told = {}
    for line in process.stdout:
        sys.stdout.write(line)
        if line.startswith("ledger "):
            told = json.loads(line.removeprefix("ledger "))
    failures = told.get("failures", 0) or int(process.wait() != 0)
    return {"seed": told.get("seed", seed), "cycles": told.get("cycles", 1),
            "operations": told.get("operations", 0), "failures": failures}


def campaign(minutes, only):
    until, seed, there = time.monotonic() + minutes * 60, int(time.time()) % 1000000, targets()
    rows = [row for row in SUITES if not only or row[0] in only]
    for suite, target, _ in rows:
        if target not in there:
            print(f"skipped: {suite}, there is no target {target}")
    rows = [row for row in rows if row[1] in there]
    bad = 0
    while rows and time.monotonic() < until:
        seed += 1
        for suite, target, arguments in rows:
            if time.monotonic() >= until:
                break
            print(f"---- {suite}, seed {seed}", flush=True)
            line = {"commit": commit(), "date": datetime.datetime.now(datetime.timezone.utc).strftime("%FT%TZ"),
                    "suite": suite, **run(target, arguments, seed)}
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
    unknown = set(args.only or []) - {row[0] for row in SUITES}
    if unknown:
        parser.error(f"no such suite: {', '.join(sorted(unknown))}; there are {', '.join(row[0] for row in SUITES)}")
    return int(campaign(args.minutes, args.only) > 0)


if __name__ == "__main__":
    sys.exit(main())
