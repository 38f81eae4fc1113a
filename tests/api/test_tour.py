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
        c.replace("7420", port).replace("build/baton", BATON) for c in commands()]
    timeline, stream = look.splitlines()
    server, prelude = start.split("\n", 1)
    process = subprocess.Popen(["sh", "-c", "exec " + server.rstrip("& ")], cwd=tmp_path)

    def sh(text):
        ended = subprocess.run(["bash", "-c", prelude + text], cwd=tmp_path, text=True,
                               capture_output=True, timeout=20)
        assert ended.returncode in (0, 28), ended.stderr
        return ended.stdout

    try:
        wait_until(lambda: (tmp_path / "data" / "listen").exists())
        made = json.loads(sh(hand))
        granted = json.loads(sh(claim))["claims"][0]
        fill = {"btk_…": granted["claim_token"], "run_…": granted["run"]["id"],
                "task_…": made["task"]["id"]}

        def filled(text):
            for mark, value in fill.items():
                text = text.replace(mark, value)
            return text

        assert json.loads(sh(filled(complete)))["status"] == "completed"
        types = [e["type"] for e in json.loads(sh(filled(timeline)))["items"]]
        assert types[0] == "task.created" and types[-1] == "task.status_changed"
        followed = sh(filled(stream).replace("api -N", "api -N --max-time 1"))
        assert "event: run.completed" in followed and "id: 1\n" in followed
    finally:
        process.terminate()
        assert process.wait(timeout=10) == 0
