"""The small form of `make race-test`."""
import os
import pathlib

import pytest
from races import CLAIMERS, KINDS, RUNS_A_RACE, race

BATON = pathlib.Path(os.environ.get("BATON", pathlib.Path(__file__).parents[2] / "build" / "baton")).absolute()
N = 300


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_only_one_wins(kind):
    won = race(BATON, kind, N, 1)
    sides = {"claims": CLAIMERS, "children_of_large_trees": 1}.get(kind.__name__, 2)
    assert len(won) >= sides, f"nobody raced: {won}"
    assert sum(won.values()) == {"claims": RUNS_A_RACE * N, "children_of_large_trees": N // 100}.get(kind.__name__, N)
