"""The server and client of the API tests, and small file systems of a test's own."""
import importlib.util
import os
import pathlib
import subprocess

import pytest

_spec = importlib.util.spec_from_file_location("flows_conftest",
                                               pathlib.Path(__file__).parents[1] / "api" / "conftest.py")
_api = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_api)
Server, Client, wait_until = _api.Server, _api.Client, _api.wait_until


def mounted(kind, place, megabytes):
    """A file system of that size, or a reason why this machine gives none."""
    if os.geteuid():
        return "only root mounts file systems"
    if kind == "tmpfs":
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", place]
    else:
        image = f"{place}.img"
        subprocess.run(["truncate", "-s", f"{megabytes}M", image], check=True)
        subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
        command = ["mount", "-o", "loop", image, place]
    made = subprocess.run(command, capture_output=True, text=True)
    return None if made.returncode == 0 else made.stderr.strip()


@pytest.fixture(params=["tmpfs", "ext4"])
def small_disk(request, tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    problem = mounted(request.param, str(place), 64)
    if problem:
        pytest.skip(problem)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)
