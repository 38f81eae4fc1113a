"""Lists by a text: the same answers whether the index knows the tasks already or not."""
import sqlite3
from urllib.parse import quote

import pytest

from conftest import SLOW, Client, wait_until

HAY = 1500


def found(api, q, **filters):
    """Titles, newest first, over all pages."""
    titles, cursor = [], ""
    while True:
        page = api.get(f"/v1/tasks?q={quote(q)}&limit=100{cursor}" + "".join(f"&{k}={v}" for k, v in filters.items()))
        titles += [task["title"] for task in page["items"]]
        if not page["next_cursor"]:
            return titles
        cursor = "&cursor=" + page["next_cursor"]


def hay(api, n=HAY, **fields):
    for at in range(0, n, 500):
        items = [{"title": f"hay {i} of the field", **fields} for i in range(at, min(n, at + 500))]
        api.post("/v1/tasks/batch", {"items": items}, 200)


def index_is_made(server):
    wait_until(lambda: server.rows("SELECT count(*) < 256 FROM task WHERE id > (SELECT upto FROM searched)") == [(1,)], 20)


@pytest.fixture
def field(own_server):
    """Some needles below the hay, and the index knows them."""
    api = Client(own_server)
    needles = {"Äpfel und BIRNEN": {}, 'say "cheese" [b]*? z': {}, "plain": {"identifier": "Ticket-7"}, "İstanbul ſtraße": {},
               "修正 the build": {}}
    made = [api.task(title=title, **fields) for title, fields in needles.items()]
    hay(api)
    index_is_made(own_server)
    assert own_server.rows("SELECT upto FROM searched")[0][0] > 0
    return api, made


def test_the_index_finds_what_a_look_at_every_task_finds(field):
    api, made = field
    for q, want in (("äPFEL UND b", 0), ('"CHEESE"', 1), ("[b]*?", 1), ("*? z", 1), ("tICKET-", 2), ("İSTANB", 3), ("L ſTRA", 3),
                    ("ſtra", 3), ("修正 t", 4), ("修正", 4), ("[", 1), ("Ä", 0)):
        assert found(api, q) == [made[want]["title"]], q
    assert found(api, "hay 7") == [f"hay {i} of the field" for i in range(HAY - 1, -1, -1) if str(i).startswith("7")]
    assert found(api, "%") == found(api, "no such thing") == found(api, "hay_1") == found(api, "x" * 1000) == []
    assert len(found(api, "of the field")) == HAY == len(found(api, "of the field", status="ready"))
    assert found(api, "field", status="canceled") == [] == found(api, "field", scope="global")


def test_what_is_new_is_found_before_the_index_knows_it(field):
    api, _ = field
    assert found(api, "needle") == []
    api.task(title="a needle")
    assert found(api, "needle") == ["a needle"]


def test_the_index_follows_changes_and_deletions(field):
    api, made = field
    api.request("PATCH", "/v1/tasks/" + made[0]["id"], {"title": "Kirschen"}, 200)
    api.request("PATCH", "/v1/tasks/" + made[1]["id"], {"priority": "urgent"}, 200)
    api.request("DELETE", "/v1/tasks/" + made[2]["id"], status=204)
    assert found(api, "kirsch") == ["Kirschen"] and found(api, "birnen") == [] == found(api, "ticket-7")
    assert found(api, "cheese") == [made[1]["title"]]
    api.request("PATCH", "/v1/tasks/" + made[0]["id"], {"title": "Äpfel"}, 200)
    assert found(api, "kirsch") == [] and found(api, "äpfel") == ["Äpfel"]
    for word in ("birnen", "ticket", "kirsch"):  # nothing of them is left behind
        assert api.server.rows(f"SELECT rowid FROM task_text WHERE task_text MATCH '\"{word[:3]}\" \"{word[3:]}\"'") == []


def test_a_task_with_an_old_id_is_found(field):
    api, made = field
    old = made[2]["id"]
    api.task(id=old[:-1] + ("1" if old[-1] == "0" else "0"), title="an old needle")
    assert found(api, "old needle") == ["an old needle"]


def test_the_index_goes_on_after_a_kill(own_server):
    api = Client(own_server)
    hay(api, 3000)
    own_server.kill()
    own_server.start()
    index_is_made(own_server)
    api = Client(own_server)
    assert found(api, "hay 2999 o") == ["hay 2999 of the field"] and found(api, "hay 17 of") == ["hay 17 of the field"]


def test_another_workspace_is_not_searched(field):
    api, _ = field
    space = api.post("/v1/workspaces", {"name": "other", "slug": "other"})
    other = Client(api.server, headers={"X-Workspace-ID": space["id"]})
    other.task(title="Äpfel of others")
    assert found(other, "äpfel") == ["Äpfel of others"] and found(other, "field") == []


def test_a_page_looks_at_a_bounded_number_of_tasks(own_server):
    """The only matches are the oldest tasks of thirty-one thousand; two characters are too few for the index."""
    api = Client(own_server)
    oldest = [api.task(title="zz"), api.task(title="zz of the field")]
    hay(api, 1)
    own_server.stop()
    db = sqlite3.connect(own_server.data / "baton.db")
    columns = [row[1] for row in db.execute("PRAGMA table_info(task)")][1:]
    db.execute(f"INSERT INTO task (id, {', '.join(columns)}) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
               f" WHERE i < 31000) SELECT top.id + n.i, {', '.join(columns)} FROM n,"
               " (SELECT * FROM task ORDER BY id DESC LIMIT 1) AS top")
    db.commit()
    db.close()
    own_server.start()
    api = Client(own_server)
    index_is_made(own_server)
    for q, pages, want in (("zz", 4, 2), ("zz of the field", 1, 1), ("of the field", 1, 50)):
        got, cursor, n = [], "", 0
        while len(got) < want:
            began = own_server.cpu_seconds()
            page = api.get(f"/v1/tasks?q={quote(q)}{cursor}")
            assert own_server.cpu_seconds() - began < 0.2 * SLOW
            got += page["items"]
            cursor = f"&cursor={page['next_cursor']}"
            n += 1
        assert n == pages and len(got) == want, q
    assert [task["id"] for task in api.get("/v1/tasks?q=zz%20of%20the")["items"]] == [oldest[1]["id"]]
