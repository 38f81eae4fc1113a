"""Random sequences of operations: what is likely to be allowed most of the time, anything else now and then."""
from model import ACTORS, ENDED, HOLDERS, LEASED, PRIORITIES

NAMES = ("a", "b", "c")
OWNERS = [{"kind": "pool", "ref": "painters"}, {"kind": "pool", "ref": "smiths"}, {"kind": "human", "ref": "ann"},
          {"kind": "agent_session", "ref": "s-1"}]
CHANNELS = ("red", "blue")
KINDS = ("failed", "failed", "transient", "timed_out", "worker_lost", "policy", "budget", "no_provider")
WRONG = [{"title": " "}, {"max_attempts": 0}, {"max_attempts": 11}, {"priority": "huge"}, {"color": 1}]
RETRIES = [{"delay_ms": 0}, {"delay_ms": 0, "max_attempts": 2}, {"delay_ms": 3600000, "max_delay_ms": 3600000}]

# What a sequence is mostly about, and how often it does what.
EVEN = {"create": 10, "child": 5, "patch": 5, "publish": 2, "start": 9, "approve": 3, "reject": 1, "cancel": 3, "pause": 2,
        "resume": 2, "retry": 3, "delete": 3, "depend": 9, "undepend": 2, "enqueue": 5, "claim": 14, "claim_run": 3,
        "run_start": 5, "heartbeat": 1, "complete": 10, "fail": 7, "release": 3, "run_cancel": 3, "run_retry": 2,
        "decide": 2, "batch": 1, "list": 2, "complete_many": 2, "heartbeat_many": 1, "send": 3,
        "consume": 3, "profile": 3, "unprofile": 1}
ABOUT = [
    {},
    {"depend": 25, "complete": 15, "fail": 10, "delete": 5},
    {"child": 25, "pause": 6, "resume": 5, "cancel": 6},
    {"approve": 8, "reject": 4, "patch": 12, "publish": 5},
    {"claim": 25, "claim_run": 8, "release": 8, "heartbeat": 4},
    {"retry": 8, "fail": 15, "run_retry": 6, "run_cancel": 6},
]


class Generator:
    def __init__(self, dice):
        self.dice = dice
        weights = {**EVEN, **dice.choice(ABOUT)}
        self.verbs, self.weights = list(weights), list(weights.values())
        self.manual, self.linked = dice.random() < .5, dice.random() < .7
        self.keyed, self.pressed, self.missed = [], None, False

    def begin(self):
        """What some sequences start with: as much as a limit allows, or nearly."""
        def quiet(do, number, **op):
            return {"do": do, "by": "ann", "body": {"title": "x"} if do != "depend" else {}, "quiet": True, **op,
                    **({"as": f"b{number}"} if do != "depend" else {})}

        first, kind, n = quiet("create", 0), self.dice.random(), self.dice.randrange(2)
        if kind < .01:
            self.pressed = {"do": "child", "on": "b0"}
            return [first] + [quiet("child", i, on="b0") for i in range(1, 64 + n)]
        if kind < .02:
            self.pressed = {"do": "depend", "on": "b0"}
            return [first] + [op for i in range(1, 32 + n) for op in (
                quiet("create", i), quiet("depend", i, on="b0", to=f"b{i}"))]
        if kind < .06:
            self.pressed = {"do": "child", "on": f"b{6 + n}"}
            return [first] + [quiet("child", i, on=f"b{i - 1}") for i in range(1, 7 + n)]
        return []

    def chance(self, part):
        return self.dice.random() < part

    def next(self, model, number):
        """The next operation; the model says what there is."""
        if self.keyed and self.chance(.04):
            return self.again()
        if self.pressed and self.chance(.15):
            if self.pressed["do"] == "child":
                return {**self.pressed, "by": "bot", "body": {"title": "x"}, "as": f"t{number}"}
            return {**self.pressed, "by": "bot", "body": {}, "to": self.task(model, lambda t: t.name[0] != "b")}
        for _ in range(6):
            self.missed = False
            verb = "create" if number < 2 else self.dice.choices(self.verbs, self.weights)[0]
            op = {"do": verb, "by": self.dice.choices(list(ACTORS), (40, 30, 20, 1, 2))[0], "body": {}}
            getattr(self, verb)(op, model)
            if not self.missed or self.chance(.1):
                break  # what nothing is fit for is asked for seldom
        if verb in ("create", "child"):
            op["as"] = f"t{number}"
        if verb == "send":
            op["as"] = f"{number}?"
        if verb in ("create", "child", "batch", "list") and not ACTORS[op["by"]].here:
            op["by"] = "ann"  # elsewhere nothing is made
        if verb == "list":
            return op
        if self.chance(.12):
            op["key"] = f"k{self.dice.randrange(4)}"
            self.keyed.append(op)
        return op

    def again(self):
        """Asks what was asked before, now and then with another body or by somebody else."""
        op = dict(self.dice.choice(self.keyed))
        if self.chance(.2) and "body" in op:
            op["body"] = {**op["body"], "metadata": {"x": 1}}
            if op["do"] not in ("create", "start", "enqueue", "cancel", "pause"):
                del op["body"]["metadata"]
        return op

    # ---- what it is about ----

    def some(self, values, default="nothing"):
        return self.dice.choice(values) if values else default

    def task(self, model, fits=None):
        tasks = list(model.all.values())
        if fits and self.chance(.8):
            fitting = [t for t in tasks if fits(t)]
            self.missed |= not fitting
            tasks = fitting or tasks
        return self.some([t.name for t in tasks], "t0")

    def run(self, model, fits=None):
        runs = [r for t in model.all.values() for r in t.runs]
        if fits and self.chance(.85):
            fitting = [r for r in runs if fits(r)]
            self.missed |= not fitting
            runs = fitting or runs
        return self.some(runs, None)

    def capabilities(self, most):
        return sorted(self.dice.sample(NAMES, self.dice.choice((0, 0, 0, 1, most))))

    # ---- one for each verb ----

    def batch(self, op, model):
        op["items"] = []
        for n in range(self.dice.randrange(1, 5)):
            item = {"body": {}}
            self.create(item, model)
            op["items"].append({**item, "as": f"t{model.done}.{n}"})
        del op["body"]

    def list(self, op, model):
        where = op["where"] = {}
        for name, part, values in (
                ("status", .4, ("draft", "blocked", "ready", "in_progress", *ENDED)), ("include_drafts", .3, ("1",)),
                ("priority", .3, PRIORITIES), ("approval_state", .15, ("pending", "approved", "not_required")),
                ("network_channel", .15, CHANNELS), ("owner_kind", .1, ("pool", "human"))):
            if self.chance(part):
                where[name] = self.dice.choice(values)
        if self.chance(.15):
            where["parent_task_id"] = self.task(model, lambda t: t.children)
        del op["body"]

    def decide(self, op, model):
        approval = self.some([a for a in model.asked if a.status == "pending" or self.chance(.2)], None)
        self.missed |= not approval
        op["on"] = f"{approval.task.name}!{approval.number}" if approval else "t0!0"
        op["body"]["decision"] = self.dice.choice(("approve", "approve", "deny"))

    def complete_many(self, op, model):
        """Runs that somebody holds, most of them the asker's."""
        held = [r for t in model.all.values() for r in t.runs
                if r.status in LEASED and (r.claimed_by == op["by"] or self.chance(.1))][:5]
        self.missed |= not held
        op["items"] = [{"on": r.name, "token": "nonsense" if self.chance(.1) else r.token} for r in held] or [
            {"on": "t0/1", "token": "t0/1@1"}]
        del op["body"]

    heartbeat_many = complete_many

    def create(self, op, model):
        body = op["body"]
        body["title"] = "x"
        for name, part, values in (
                ("priority", .3, PRIORITIES), ("max_attempts", .5, (1, 2, 2, 3)), ("auto_enqueue_on_ready", .35, (True,)),
                ("start", .35, (True,)), ("draft", .12, (True,)), ("network_channel", .12, CHANNELS), ("owner", .1, OWNERS),
                ("retry", .25, RETRIES), ("approval_policy", .4 * self.manual, ("manual", "manual", "none"))):
            if self.chance(part):
                body[name] = self.dice.choice(values)
        for name in "required_capabilities", "preferred_capabilities":
            if chosen := self.capabilities(2):
                body[name] = chosen
        if body.get("start") and self.chance(.8):
            body.pop("draft", None), body.pop("approval_policy", None)
        if self.chance(.04):
            body.update(self.dice.choice(WRONG))

    def child(self, op, model):
        self.create(op, model)
        op["on"] = self.task(model, lambda t: not t.below_canceled)

    def patch(self, op, model):
        op["on"] = self.task(model)
        made = {"body": {}}
        self.create(made, model)
        body = {k: v for k, v in made["body"].items() if k not in ("start", "draft")}
        for name in list(body):
            if self.chance(.6):
                del body[name]
        if self.chance(.5):
            body["max_attempts"] = self.dice.choice((1, 2, 3, 4))
        if self.manual and self.chance(.4):
            body["approval_policy"] = self.dice.choice(("none", "manual"))
        if self.chance(.04):
            body["identifier"] = "x"
        op["body"] = body

    def profile(self, op, model):
        op["on"] = self.task(model, lambda t: t.status not in ENDED)
        agents = ["painters"], ["smiths"], ["painters", "smiths"]
        for block in "worker", "participants":
            says = {name: values for name, values in (
                ("allowed_agent_names", self.chance(.3) and self.dice.choice(agents)),
                ("preferred_agent_names", self.chance(.3) and self.dice.choice(agents)),
                ("required_capabilities", self.capabilities(1)), ("preferred_capabilities", self.capabilities(2))) if values}
            if says:
                op["body"][block] = says

    def unprofile(self, op, model):
        op["on"] = self.task(model, lambda t: t.profile)
        del op["body"]

    def on(self, fits):
        def choose(op, model):
            op["on"] = self.task(model, fits)
        return choose

    def publish(self, op, model):
        op["on"] = self.task(model, lambda t: t.status == "draft")

    def start(self, op, model):
        op["on"] = self.task(model, lambda t: t.status == "ready" and not t.open_run)
        if self.chance(.1):
            op["body"]["network_channel"] = self.dice.choice(CHANNELS)

    def enqueue(self, op, model):
        op["on"] = self.task(model, lambda t: not t.open_run)
        if self.chance(.1):
            op["body"]["network_channel"] = self.dice.choice(CHANNELS)

    def approve(self, op, model):
        op["on"] = self.task(model, lambda t: t.approval_state == "pending")

    reject = approve

    def cancel(self, op, model):
        op["on"] = self.task(model)
        if self.chance(.3):
            op["body"]["reason"] = "enough"

    def pause(self, op, model):
        op["on"] = self.task(model, lambda t: t.status not in ENDED)
        if self.chance(.95):
            op["body"]["reason"] = "lunch"

    def resume(self, op, model):
        op["on"] = self.task(model, lambda t: t.paused)

    def retry(self, op, model):
        op["on"] = self.task(model, lambda t: t.runs and t.runs[-1].status in ("failed", "canceled"))

    def delete(self, op, model):
        op["on"] = self.task(model, lambda t: not t.children and not t.open_run)
        del op["body"]

    def depend(self, op, model):
        op["on"] = self.task(model, lambda t: t.status not in ENDED)
        op["to"] = self.task(model)
        if self.chance(.6):
            op["body"]["on_failure"] = self.dice.choice(("block", "proceed", "cancel"))

    def undepend(self, op, model):
        op["on"] = self.task(model, lambda t: t.needs)
        needs = model.all[op["on"]].needs if op["on"] in model.all else ()
        op["to"] = self.some([t.name for t in needs], None) or self.task(model)
        del op["body"]

    def claim(self, op, model):
        body = op["body"]
        if op["by"] != "pat" or self.chance(.1):
            body["capabilities"] = self.dice.choice((["a", "b", "c"], ["a", "b", "c"], ["a", "b"], ["c"], []))
            for name, part, values in (("session_id", .25, ("s-1", "s-2")), ("agent_name", .3, ("painters", "smiths"))):
                if self.chance(part):
                    body[name] = self.dice.choice(values)
        for name, part, values in (("priority_min", .12, PRIORITIES), ("channel", .08, CHANNELS), ("max", .4, (2, 3, 20))):
            if self.chance(part):
                body[name] = self.dice.choice(values)
        if op["do"] == "claim_run":
            for name in "priority_min", "channel", "max":
                body.pop(name, None)

    def claim_run(self, op, model):
        run = self.run(model, lambda r: r.status == "queued")
        op["on"] = run.name if run else "t0/1"
        self.claim(op, model)

    def holder(self, op, model):
        run = self.run(model, lambda r: r.status in LEASED)
        if not run:
            op.update(on="t0/1", token="t0/1@1")
            return
        op.update(on=run.name, token=run.token or f"{run.name}@{run.epoch}", by=run.claimed_by or op["by"])
        if self.chance(.07):
            before = f"{run.name}@{run.epoch - 1}", f"{run.task.name}/{run.attempt - 1}@1"
            op["token"] = self.dice.choice((*before, "nonsense"))
        elif self.chance(.03):
            op["token"] = None
        elif self.chance(.05):
            op["by"] = self.dice.choice(("ann", "bot", "pat", "tom"))

    run_start = heartbeat = release = holder

    def send(self, op, model):
        op["on"] = self.task(model, lambda t: t.status not in ENDED)
        op["body"]["message"] = "m"

    def consume(self, op, model):
        self.holder(op, model)
        task = model.all.get(op["on"].partition("/")[0])
        fit = [name for name, sent in model.sent.items() if sent[0] is task]
        self.missed |= not fit
        op["to"] = self.some(fit if self.chance(.9) else list(model.sent), "0?")

    def complete(self, op, model):
        if self.chance(.2):
            ended = self.run(model, lambda r: r.status == "completed")
            if ended and ended.status == "completed":
                op.update(on=ended.name, token=ended.token, by=ended.claimed_by)
                if (result := self.dice.choice((ended.result, ended.result, 1))) is not None:
                    op["body"]["result"] = result
                return
        self.holder(op, model)
        if self.chance(.6):
            op["body"]["result"] = self.dice.choice((1, {"n": [2.5, "x", None]}, "text"))

    def fail(self, op, model):
        self.holder(op, model)
        op["body"]["error"] = "no"
        if self.chance(.5):
            op["body"]["kind"] = self.dice.choice(KINDS)

    def run_cancel(self, op, model):
        run = self.run(model, lambda r: r.status in ("queued", *LEASED))
        op["on"] = run.name if run else "t0/1"

    def run_retry(self, op, model):
        run = self.run(model, lambda r: r.status in ("failed", "canceled"))
        op["on"] = run.name if run else "t0/1"


assert set(HOLDERS) < set(EVEN)
