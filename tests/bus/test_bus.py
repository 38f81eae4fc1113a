"""A bus tells others of commits, by NOTIFY and by Redis."""
import json
import os
import subprocess

import psycopg2

from conftest import BATON, Client, cluster, wait_until


def test_hints_are_notified_after_the_commit_and_once_for_many(servers):
    """Who listens to the database's channel sees them in short texts."""
    database = cluster().database()
    api = Client(servers("--store", database, "--concurrency", "0"))
    wait_until(lambda: "baton_bus_up 1" in api.request("GET", "/metrics").text)
    connection = psycopg2.connect(database)
    connection.autocommit = True
    connection.cursor().execute('LISTEN "baton public"')
    api.post("/v1/tasks/batch", {"items": [{"title": "t", "start": True} for _ in range(500)]}, 200)
    texts = []

    def lanes():
        connection.poll()
        while connection.notifies:
            texts.append(connection.notifies.pop(0).payload)
        return [word for text in texts for word in text.split()[1:] if word.startswith("l")]

    wait_until(lambda: sum(int(word.partition("x")[2] or 1) for word in lanes()) == 500)
    assert len(lanes()) < 20 and all(len(text) < 8000 for text in texts)
    connection.close()


def test_nonsense_on_the_channel_is_ignored(servers, redis):
    api = Client(servers("--redis", redis.url, "--concurrency", "0"))
    wait_until(lambda: "baton_bus_up 1" in api.request("GET", "/metrics").text)
    for text in ["", " ", "x", "x  ", "x t", "x t-1", "x l1x0", "x l9223372036854775807x100000", "x l1x99999999", "x q1",
                 "x " + "e0 " * 3000, "x t9223372036854775808", "x k0 r0 w0 l77 t1x"]:
        redis.command("PUBLISH", "baton:hints", text)
    heard = 'baton_bus_texts_total{direction="received"} 13'
    wait_until(lambda: heard in api.request("GET", "/metrics").text)
    assert api.claim() == [] and api.server.is_ready()


def test_a_redis_that_is_no_url_is_refused(tmp_path):
    wrong = subprocess.run([BATON, "serve", "--data", tmp_path / "data", "--redis", "localhost:6379"],
                           capture_output=True, text=True, timeout=60)
    assert wrong.returncode == 2 and "--redis must be a URL" in wrong.stderr


def test_redis_is_also_named_by_the_environment_and_its_password_is_not_shown():
    said = subprocess.run([BATON, "config", "-o", "json"], capture_output=True, text=True, check=True,
                          env={**os.environ, "REDIS_URL": "redis://:secret@127.0.0.1:1/2"}).stdout
    assert {"name": "redis", "value": "redis://:***@127.0.0.1:1/2", "source": "REDIS_URL"} in json.loads(said)["items"]
