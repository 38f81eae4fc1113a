"""The same operations asked of two servers, on SQLite and on PostgreSQL, which must answer and show the same."""
import json
import re

from driver import Disagreement, Sequence

# What is another's by nature: ids, which are counted as they come; times, ages, tokens and marks of pages.
ID = re.compile(r"\b(?:[a-z]+_[0-9a-hjkmnp-tv-z]{13}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b")
OWN = re.compile(r'"(?P<name>claim_token|claim_token_hash|next_cursor)": ?"[^"]*"|"(?P<age>\w*(?:age|oldest)_\w+)": ?\d+|"\d{4}-\d\d-\d\dT[\d:.]+Z"')

# What is asked at the end, beside what the model knows; {task} and {run} are each of them.
PATHS = ("/v1/tasks?limit=3&sort=-updated_at", "/v1/tasks?q=x", "/v1/tasks?status=ready", "/v1/tasks?priority=high",
         "/v1/runs?status=queued", "/v1/inbox?limit=200", "/v1/dashboard", "/v1/scheduler/backlog",
         "/v1/tasks/{task}", "/v1/tasks/{task}/inspect", "/v1/tasks/{task}/timeline?limit=500",
         "/v1/runs/{run}", "/v1/runs/{run}/inspect", "/v1/runs/{run}/events", "/v1/runs/{run}/context")


def named(op):
    """What an operation is about."""
    for part in (op, *op.get("items", ())):
        yield from (part.get("on"), part.get("to"))
    yield op.get("where", {}).get("parent_task_id")


class Heard(Sequence):
    """Remembers what it was told since somebody asked."""

    def __init__(self, server):
        super().__init__(server)
        self.told, self.counted = [], {}

    def step(self, op):
        if any(name and name not in self.ids for name in named(op)):
            super().look()
        super().step(op)

    def look(self):
        """Not after each operation, as beside the model alone: before one that names what was not seen yet, and at the end."""

    def finish(self):
        super().look()
        super().finish()

    def ask(self, op, request):
        status, body = super().ask(op, request)
        self.told.append((request[1], f"{status} {json.dumps(body)}"))
        return status, body

    def get(self, paths):
        bodies = super().get(paths)
        self.told += [(path, body.decode()) for path, body in zip(paths, bodies)]
        return bodies

    def ask_around(self):
        """Everything at once, and both before the first answer is read."""
        tasks = [self.ids[t] for t in self.model.all]
        runs = [self.ids[r.name] for t in self.model.all.values() for r in t.runs]
        self.asked = [path.format(task=task, run=run) for path in PATHS
                      for task in (tasks if "{task}" in path else [""]) for run in (runs if "{run}" in path else [""])]
        self.server.reader.send(*(("GET", path, None, self.space) for path in self.asked))

    def look_around(self):
        for path in self.asked:  # whatever its status is
            status, body = self.server.reader.answer()
            self.told.append((path, f"{status} {body.decode()}"))

    def heard(self):
        told, self.told = self.told, []
        return [tuple(self.without_names(text) for text in pair) for pair in told]

    def without_names(self, text):
        def count(found):
            return f"id {self.counted.setdefault(found[0], len(self.counted))}"
        return OWN.sub(lambda found: f'"{found["name"] or found["age"] or ""}"', ID.sub(count, text))


class Beside:
    def __init__(self, servers):
        self.two = [Heard(server) for server in servers]

    answers = property(lambda self: self.two[1].answers)

    def run(self, ops):
        for op in ops:
            self.both(lambda one: one.step(op))
        self.both(lambda one: one.finish())
        for one in self.two:
            one.ask_around()
        self.both(lambda one: one.look_around())

    def both(self, do):
        for one in self.two:
            do(one)
        for (path, a), (_, b) in zip(*(one.heard() for one in self.two), strict=True):
            if a != b:
                at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
                raise Disagreement(f"{path}: one says …{a[max(0, at - 60):at + 60]}…, the other …{b[max(0, at - 60):at + 60]}…")
