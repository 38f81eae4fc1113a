"""The rules of the house: include direction, headers that stand alone, documents that agree."""
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SRC = ROOT / "src"

# room: rooms it may include
ALLOWED = {
    "core": set(),
    "json": {"core"},
    "store": {"core"},
    "domain": {"core", "json", "store"},
    "flow": {"core", "json", "domain"},
    "hub": {"core", "store", "domain"},
    "http": {"core", "json"},
    "worker": {"core", "json", "store", "domain", "flow", "hub", "http"},
    "webhook": {"core", "json", "store", "domain", "http"},
    "api": {"core", "json", "store", "domain", "flow", "hub", "http"},
    # store and domain: `audit verify` and `baton db` work on a database without a server
    "cli": {"core", "json", "store", "domain", "flow", "http"},
    "server": {"core", "json", "store", "domain", "flow", "hub", "http", "worker", "webhook", "api", "cli"},
}


def includes(path):
    return re.findall(r'^#include "([^"]+)"', path.read_text(), re.M)


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_a_room_includes_only_what_lies_below_it(room):
    for path in sorted((SRC / room).rglob("*.[ch]")):
        for name in includes(path):
            other = name.split("/")[0]
            assert other == room or other in ALLOWED[room], f"{path} includes {name}"


def test_every_room_is_in_the_table():
    rooms = {p.parent.relative_to(SRC).parts[0] for p in SRC.rglob("*.c")}
    assert rooms == set(ALLOWED)


def test_no_type_of_the_engine_leaves_its_files():
    for library, files in (("sqlite3", ["store/sqlite.c"]), ("libpq-fe", ["store/postgres.c", "store/postgres_many.c", "store/postgres_statement.c",
                                                                             "store/postgres_table.c", "hub/link_notify.c"])):
        for path in SRC.rglob("*.[ch]"):
            if library in path.read_text():
                assert str(path.relative_to(SRC)) in files, path


@pytest.mark.parametrize("header", [str(p.relative_to(SRC)) for p in sorted(SRC.rglob("*.h"))])
def test_a_header_compiles_alone(header):
    subprocess.run(["gcc", "-std=gnu17", "-D_GNU_SOURCE", "-fsyntax-only", "-Wall", "-Wextra",
                    f"-I{SRC}", "-x", "c", SRC / header], check=True)


def test_options_and_routes_are_documented():
    text = (ROOT / "docs" / "OPERATIONS.md").read_text()
    for name in re.findall(r'^OPTION\("([^"]+)"', (SRC / "server" / "options.def").read_text(), re.M):
        assert f"--{name}" in text, name
    routes = (ROOT / "docs" / "API.md").read_text()
    for path in (SRC / "api").glob("*.c"):
        for route in re.findall(r'\{ HTTP_[A-Z]+, "([^"]+)"', path.read_text()):
            assert route in routes, route


def test_a_route_that_writes_takes_an_idempotency_key_or_says_why_not():
    without = re.search(r"^- Not for: (.+)$", (ROOT / "docs" / "API.md").read_text(), re.M)[1]
    rows = [row for path in (SRC / "api").glob("*.c")
            for row in re.findall(r'\{ HTTP_([A-Z]+), "([^"]+)",([^{}]*)\}', path.read_text())]
    writes = [(method, path, rest) for method, path, rest in rows if "ROUTE_WRITE" in rest]
    assert len(writes) > 40
    for method, path, rest in writes:
        assert ("ROUTE_IDEMPOTENT" in rest) != (f"`{method} {path}`" in without), (method, path)


def test_errors_are_documented():
    text = (ROOT / "docs" / "API.md").read_text()
    for name in re.findall(r'^ERR\(\w+, \d+, \d+, "([^"]+)"\)', (SRC / "core" / "err.def").read_text(),
                           re.M):
        assert name in ("ok", "empty") or f"`{name}`" in text, name


def test_failpoints_are_only_in_a_build_of_their_own():
    baton = os.environ.get("BATON", str(ROOT / "build" / "baton"))
    symbols = subprocess.run(["nm", baton], check=True, capture_output=True, text=True).stdout
    assert "domain_tick" in symbols and "failpoint" not in symbols
    assert b"BATON_FAILPOINTS" not in pathlib.Path(baton).read_bytes()


@pytest.fixture
def campaign():
    sys.path.insert(0, str(ROOT / "reliability"))
    import campaign
    return campaign


def phony():
    return set(re.search(r"\.PHONY:((?:.*\\\n)*.*)", (ROOT / "Makefile").read_text())[1].replace("\\", "").split())


def test_a_campaign_takes_the_suite_that_has_not_run_for_longest(campaign, monkeypatch):
    assert {target for target, _ in campaign.SUITES.values()} <= phony()
    monkeypatch.setattr(campaign, "read", lambda: [{"suite": s} for s in ("sim", "crash", "sim", "model")])
    assert campaign.next_of(["sim", "crash", "model"]) == "crash"
    assert campaign.next_of(["sim", "model", "fuzz", "crash"]) == "fuzz"


def test_a_campaign_of_a_quarter_of_an_hour_does_a_quarter(campaign):
    given = {"N": 20000, "ROUNDS": 1, "SEEDS": "{seed}00..{seed}99", "FEW": "{few}"}
    assert list(campaign.arguments(given, 7, 1 / 4)) == ["N=5000", "ROUNDS=1", "SEEDS=700..799", "FEW=1"]
    assert list(campaign.arguments(given, 7, 1)) == ["N=20000", "ROUNDS=1", "SEEDS=700..799", "FEW="]


def test_the_table_of_reliability_is_the_sum_of_the_ledger(campaign):
    assert campaign.BEGIN + campaign.table(campaign.read()) + campaign.END in campaign.PAGE.read_text()


def test_suites_are_documented():
    text = (ROOT / "docs" / "RELIABILITY.md").read_text()
    for path in (ROOT / "fuzz").glob("*.c"):
        if path.stem not in ("entry", "replay", "server"):
            assert f"`{path.stem}`" in text and any((ROOT / "fuzz" / "corpus" / path.stem).iterdir()), path
    sentences = re.findall(r'Mutant\("([^"]+)"', (ROOT / "tests" / "planted" / "mutants.py").read_text())
    assert sentences
    for sentence in sentences:
        assert sentence in text.replace("`", ""), sentence
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= phony()
