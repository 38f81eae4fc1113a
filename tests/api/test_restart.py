import os
import pathlib
import signal

from conftest import SLOW, Client
from flows import command, launch, reaches


def test_what_was_acknowledged_survives_a_kill(own_server):
    api = Client(own_server)
    made = api.started(title="kept")
    claim = api.claim(lease_seconds=60)[0]
    own_server.kill()
    own_server.start()
    api = Client(own_server)
    assert api.get("/v1/tasks/" + made["task"]["id"])["title"] == "kept"
    run = api.get("/v1/runs/" + claim["run"]["id"])
    assert run["status"] == "claimed" and run["epoch"] == 1
    done = api.post(f"/v1/runs/{run['id']}/complete",
                    {"claim_token": claim["claim_token"], "result": 1}, 200)
    assert done["status"] == "completed"


def test_a_keyed_answer_survives_a_kill(own_server):
    headers = {"Idempotency-Key": "k"}
    first = Client(own_server).request("POST", "/v1/tasks", {"title": "x"}, 201, headers=headers)
    own_server.kill()
    own_server.start()
    again = Client(own_server).request("POST", "/v1/tasks", {"title": "x"}, 201, headers=headers)
    assert first.json() == again.json()


def test_a_server_whose_spawner_has_died_ends_and_can_be_started_again(own_server):
    children = pathlib.Path(f"/proc/{own_server.process.pid}/task/{own_server.process.pid}/children")
    (spawner,) = children.read_text().split()
    os.kill(int(spawner), signal.SIGKILL)
    assert own_server.process.wait(20 * SLOW) == 6
    assert "the spawner has died" in open(own_server.log.name).read()
    own_server.start()
    api = Client(own_server)
    run = launch(api, command("echo well"))
    assert reaches(api, run, "completed")


def test_two_servers_do_not_share_a_directory(own_server):
    import subprocess
    from conftest import BATON
    second = subprocess.run([BATON, "serve", "--data", str(own_server.data), "--listen",
                             "127.0.0.1:0"], capture_output=True, text=True, timeout=10)
    assert second.returncode == 6 and "another server already uses" in second.stderr


def test_options_are_checked(tmp_path):
    import subprocess
    from conftest import BATON
    for arguments, says in [(["--nonsense"], "unknown option"), (["--listen"], "needs a value"),
                            (["--http-threads", "x"], "must be a number"),
                            (["--listen", "nowhere"], "--listen must be an address")]:
        ended = subprocess.run([BATON, "serve", "--data", str(tmp_path), *arguments],
                               capture_output=True, text=True, timeout=10)
        assert ended.returncode == 2 and says in ended.stderr
    ended = subprocess.run([BATON, "version"], capture_output=True, text=True, timeout=10)
    assert ended.returncode == 0 and ended.stdout.startswith("baton ")
