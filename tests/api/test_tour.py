"""The README's tour, typed as it stands there, with its placeholders filled in."""
import json
import pathlib
import re
import socket
import subprocess

from conftest import BATON, wait_until

ROOT = pathlib.Path(__file__).parents[2]


def commands():
    tour = (ROOT / "README.md").read_text().split("## Five minutes")[1].split("\n## ")[0]
    blocks = re.findall(r"(?:^    .*\n)+", tour, re.M)
    return [re.sub(r"^    ", "", b, flags=re.M) for b in blocks]


def test_the_tour_of_the_readme_works(tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = str(s.getsockname()[1])
    start, hand, claim, complete, look = [
        c.replace("7420", port).replace("build/baton", BATON)
        .replace("examples/", str(ROOT / "examples") + "/") for c in commands()]
    timeline, stream = look.splitlines()
    server, workflow = start.split("\n", 1)
    prelude, hand = hand.rsplit("api -d", 1)[0], "api -d" + hand.rsplit("api -d", 1)[1]
    process = subprocess.Popen(["sh", "-c", "exec " + server.rstrip("& ")], cwd=tmp_path)

    def sh(text):
        ended = subprocess.run(["bash", "-c", text], cwd=tmp_path, text=True,
                               capture_output=True, timeout=20)
        assert ended.returncode in (0, 28), ended.stderr
        return ended.stdout

    try:
        wait_until(lambda: (tmp_path / "data" / "listen").exists())
        said = sh(workflow)
        assert "hello, you" in said and " completed" in said
        made = json.loads(sh(prelude + hand))
        granted = json.loads(sh(prelude + claim))["claims"][0]
        fill = {"btk_…": granted["claim_token"], "run_…": granted["run"]["id"],
                "task_…": made["task"]["id"]}

        def filled(text):
            for mark, value in fill.items():
                text = text.replace(mark, value)
            return text

        assert json.loads(sh(prelude + filled(complete)))["status"] == "completed"
        types = [e["type"] for e in json.loads(sh(prelude + filled(timeline)))["items"]]
        assert types[0] == "task.created" and types[-1] == "task.status_changed"
        followed = sh(prelude + filled(stream).replace("api -N", "api -N --max-time 1"))
        assert "event: run.completed" in followed and "id: 1\n" in followed
    finally:
        process.terminate()
        assert process.wait(timeout=10) == 0
