"""A disk that is really full, under the real server."""
import os
import sqlite3

import pytest

from conftest import Client, Server, wait_until

FULL = (503, 507)


class Disk:
    """A file system that somebody else fills."""

    def __init__(self, place):
        self.place = place
        self.filler = place / "filler"

    def fill(self):
        piece = bytes(1 << 20)
        with open(self.filler, "wb", buffering=0) as f:
            while True:
                try:
                    wrote = f.write(piece)
                    if wrote < len(piece):
                        piece = piece[: len(piece) // 2]
                except OSError:
                    if len(piece) < 4096:
                        break
                    piece = piece[: len(piece) // 2]
            os.fsync(f.fileno())

    def free(self):
        self.filler.unlink()


@pytest.fixture
def disk(small_disk):
    return Disk(small_disk)


@pytest.fixture
def served(disk):
    server = Server(disk.place / "data")
    yield server
    if server.process.poll() is None:
        server.kill()


def create(api, acknowledged):
    answer = api.request("POST", "/v1/tasks", {"title": "a task", "description": "x" * 60000, "start": True})
    if answer.status_code == 201:
        acknowledged.append(answer.json()["task"]["id"])
    return answer


def create_until_full(api, acknowledged):
    for _ in range(2000):
        answer = create(api, acknowledged)
        if answer.status_code != 201:
            return answer
    raise AssertionError("the disk does not get full")


def resumes(api, acknowledged):
    wait_until(lambda: create(api, acknowledged).status_code == 201, seconds=2)


def check_full(api, acknowledged):
    """What goes on and what does not while there is no room."""
    answer = create(api, acknowledged)
    assert answer.status_code == 507 and answer.json()["code"] == "storage_full"
    assert int(answer.headers["Retry-After"]) >= 1
    assert api.request("POST", "/v1/runs/claim", {}).status_code == 507
    for task in acknowledged[:3] + acknowledged[-3:]:
        assert api.get(f"/v1/tasks/{task}")["id"] == task
    assert api.request("GET", "/livez").status_code == 200
    assert api.request("GET", "/readyz").status_code == 503


def test_on_a_full_disk_writes_are_refused_and_reads_cancels_and_completions_go_on(disk, served):
    api, acknowledged, canceled = Client(served), [], []
    for _ in range(3):
        for _ in range(12):
            assert create(api, acknowledged).status_code == 201
        claims = api.claim(lease_seconds=600, max=2)
        disk.fill()
        assert create_until_full(api, acknowledged).status_code in FULL
        token = {"claim_token": claims[0]["claim_token"]}
        api.post(f"/v1/runs/{claims[0]['run']['id']}/heartbeat", token, status=200)
        check_full(api, acknowledged)
        for task in acknowledged[-8:]:
            assert api.post(f"/v1/tasks/{task}/cancel", status=200)["status"] == "canceled"
            canceled.append(task)
        api.post(f"/v1/runs/{claims[0]['run']['id']}/complete", {**token, "result": 1}, status=200)
        disk.free()
        resumes(api, acknowledged)
        wait_until(served.is_ready)
    for task in acknowledged:
        assert (api.get(f"/v1/tasks/{task}")["status"] == "canceled") == (task in canceled)
    served.stop()
    db = sqlite3.connect(f"file:{served.data}/baton.db?mode=ro", uri=True)
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert db.execute("SELECT count(*) FROM task").fetchone() == (len(acknowledged),)


def test_the_first_cancel_that_finds_the_disk_full_is_done_in_the_reserve(disk, served):
    api, acknowledged = Client(served), []
    for _ in range(200):
        assert create(api, acknowledged).status_code == 201
    disk.fill()
    for task in acknowledged:
        assert api.post(f"/v1/tasks/{task}/cancel", status=200)["status"] == "canceled"


def test_a_server_that_starts_on_a_full_disk_reads_and_cancels_and_resumes(disk, served):
    api, acknowledged = Client(served), []
    for _ in range(12):
        create(api, acknowledged)
    disk.fill()
    create_until_full(api, acknowledged)
    served.kill()
    served.start(ready=False)
    api = Client(served)
    check_full(api, acknowledged)
    assert api.post(f"/v1/tasks/{acknowledged[0]}/cancel", status=200)["status"] == "canceled"
    disk.free()
    resumes(api, acknowledged)
    wait_until(served.is_ready)
