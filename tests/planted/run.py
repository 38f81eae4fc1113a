#!/usr/bin/env python3
"""Planted bugs: every mutant of mutants.py is built and must be found by one of its suites.

    tests/planted/run.py [--only WORD]     mutants whose sentence has the word

Works on a copy of the tree with a build directory of its own.  Each suite is run on the copy as it is first: what it
finds there, no mutant can be found by.  Ends with `N passed, N failed`, which counts mutants.
"""

import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

from mutants import MUTANTS, SUITES

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATIENCE = 900  # seconds; enough on a busy machine
# The line that says what is wrong: of the simulator, of power cuts, of a check in the program, of cmocka.
TELLS = re.compile(r"failed at operation|operation \d+ of|not met|is not the same|: again|; again|internal error at|^\[  FAILED  \] [a-z]")


class Bad(Exception):
    """The mutant itself, and not what it stands for."""


class Late(Exception):
    """It did not end in time, which a busy machine can bring about: nothing was found."""


class Copy:
    def __init__(self, home):
        self.tree, self.build = home / "tree", home / "build"
        names = subprocess.run(["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                               check=True, capture_output=True, text=True).stdout
        for name in filter(None, names.split("\0")):
            if (ROOT / name).is_file():
                (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.tree / name)
        subprocess.run(["meson", "setup", self.build, self.tree], check=True, stdout=subprocess.DEVNULL)

    def make(self, suite):
        made = subprocess.run(["ninja", "-C", self.build, "-j2", "--quiet", *SUITES[suite].targets],
                              capture_output=True, text=True)
        if made.returncode:
            raise Bad(f"it does not compile:\n{made.stdout[-2000:]}")

    def look(self, suite):
        """What the suite says against the program; None when it finds nothing."""
        self.make(suite)
        command = [word.format(build=self.build) for word in SUITES[suite].command]
        try:
            ended = subprocess.run(command, cwd=self.tree, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   text=True, errors="replace", timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise Late(f"no end within {PATIENCE} s") from None
        if not ended.returncode:
            return None
        lines = ended.stdout.splitlines()
        last = f"died of signal {-ended.returncode}" if ended.returncode < 0 else lines[-1] if lines else "nothing"
        return next(filter(TELLS.search, lines), last).strip()[:160]

    def edit(self, mutant):
        """Returns what puts everything back."""
        before = {edit.file: (self.tree / edit.file).read_text() for edit in mutant.edits}
        after = dict(before)
        for edit in mutant.edits:
            there = after[edit.file].count(edit.text)
            if there != 1:
                raise Bad(f"its text stands {there} times in {edit.file}: {edit.text!r}")
            after[edit.file] = after[edit.file].replace(edit.text, edit.instead)
        self.write(after)
        return before

    def write(self, texts):
        for name, text in texts.items():
            (self.tree / name).write_text(text)


def find(copy, mutant, sound):
    """(suite, what it said) of the first that finds it."""
    before = copy.edit(mutant)
    try:
        for suite in mutant.suites:
            try:
                said = suite in sound and copy.look(suite)
            except Late as why:
                print(f"{suite}: {why}", flush=True)
                continue
            if said:
                return suite, said
    finally:
        copy.write(before)
    raise Bad(f"NOT FOUND by {', '.join(mutant.suites)}")


def look_unplanted(copy, suites):
    """The suites that find nothing where nothing was planted."""
    sound = set()
    for suite in suites:
        began = time.monotonic()
        try:
            said = copy.look(suite)
        except Late as why:
            said = str(why)
        print(f"without a mutant: {suite} {f'finds: {said}' if said else 'finds nothing'}"
              f" in {time.monotonic() - began:.0f} s", flush=True)
        if not said:
            sound.add(suite)
    return sound


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help="mutants whose sentence has this word")
    args = parser.parse_args()
    mutants = [m for m in MUTANTS if args.only in m.sentence]
    used = [s for s in SUITES if any(s in m.suites for m in mutants)]
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="baton-planted-") as home:
        copy = Copy(pathlib.Path(home))
        sound = look_unplanted(copy, used)
        for mutant in mutants:
            began = time.monotonic()
            try:
                suite, said = find(copy, mutant, sound)
                told, passed = f"found by {suite} ({said})", passed + 1
            except Bad as why:
                told, failed = str(why), failed + 1
            print(f"{mutant.sentence}: {told} in {time.monotonic() - began:.0f} s", flush=True)
    failed += len(used) - len(sound)
    print(f"{passed} passed, {failed} failed")
    print("ledger", json.dumps({"suite": "planted", "seed": 0, "cycles": len(mutants), "operations": len(used),
                                "failures": failed}))
    return int(failed > 0 or not passed)


if __name__ == "__main__":
    sys.exit(main())
