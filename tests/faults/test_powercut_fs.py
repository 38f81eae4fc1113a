"""Two cuts of a real file system; `make powercut-fs` makes more."""
import os

import pytest

from powercut_fs import Unmountable, cuts


def test_what_was_acknowledged_survives_a_cut_of_a_real_file_system():
    if os.geteuid():
        pytest.skip("only root mounts and cuts file systems")
    try:
        for _, found, acknowledged in cuts(2, 1):
            assert not found and acknowledged
    except Unmountable as refused:
        pytest.skip(str(refused))
