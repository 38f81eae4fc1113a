"""What Baton must answer and show: the task domain as a value, without I/O.

An operation is a dict {"do", "by", …}.  Things have names instead of ids: a task that of the operation which made it, a
run that of its task with its attempt ("t3/1"), a claim token that of its run with the epoch ("t3/1@2").  What does not
exist (any more) has a name as well; asking for it is a 404.  `Model.apply()` gives the answer's status, code and what
it hands out; `tasks()`, `runs()`, `approvals()` and `events` are what everybody must see afterwards.

Time does not pass here: leases do not end, and a delay before a next attempt is none or for ever.
"""
from dataclasses import dataclass, field
from typing import NamedTuple

LEVELS, CHILDREN, DEPENDENCIES = 8, 64, 32
PRIORITIES = ("low", "medium", "high", "urgent")
OPEN, LEASED = ("queued", "claimed", "starting", "running"), ("claimed", "starting", "running")
ENDED = ("completed", "failed", "canceled")
RETRIED = ("failed", "transient", "timed_out", "worker_lost")
IMMUTABLE = ("identifier", "scope", "parent_task_id", "created_by")


class Actor(NamedTuple):
    kind: str
    ref: str
    scopes: tuple
    session: str = None
    agent: str = None
    capabilities: tuple = None  # at most these; None: what a claim says
    here: bool = True           # in the workspace that the sequence is about


READ, WRITE, APPROVE, CLAIM = "tasks:read", "tasks:write", "tasks:approve", "runs:claim"
ACTORS = {
    "ann": Actor("human", "ann", (READ, WRITE, APPROVE, CLAIM)),
    "bot": Actor("agent_session", "bot", (READ, WRITE, APPROVE, CLAIM)),
    "pat": Actor("agent_session", "pat", (READ, WRITE, CLAIM), session="s-pat", agent="painters", capabilities=("a", "b")),
    "eve": Actor("human", "eve", (READ,)),
    "tom": Actor("human", "tom", (READ, WRITE, APPROVE, CLAIM), here=False),
}


class Refused(Exception):
    def __init__(self, status, code):
        self.status, self.code = status, code


class Answer(NamedTuple):
    status: int
    code: str = None
    runs: tuple = ()      # the claimed runs in order, or the run that the answer shows
    existing: bool = None
    replayed: int = None  # the number of the operation whose answer this is once more
    items: tuple = ()     # of a batch: the code of each, None where it was done; of a list: the names


@dataclass
class Run:
    task: object
    attempt: int
    born: int
    priority: str
    channel: str
    required: list
    preferred: list
    previous: str = None
    backoff: bool = False
    status: str = "queued"
    epoch: int = 0
    claimed_by: str = None
    session: str = None
    token: str = None        # what its hash was made of; stays when a holder ends the run
    started: bool = False
    failure_kind: str = None
    error: str = None
    result: object = None

    @property
    def name(self):
        return f"{self.task.name}/{self.attempt}"

    def follow(self):
        """Queued, it is what its task is by now; its channel may be its own."""
        self.priority, self.required, self.preferred = self.task.priority, self.task.required, self.task.preferred


@dataclass
class Task:
    name: str
    born: int
    created_by: str
    parent: object = None
    title: str = "x"
    priority: str = "medium"
    max_attempts: int = 3
    auto_enqueue_on_ready: bool = False
    approval_policy: str = "none"
    approval_state: str = "not_required"
    owner: dict = None
    network_channel: str = None
    required_capabilities: list = field(default_factory=list)
    preferred_capabilities: list = field(default_factory=list)
    retry: dict = None
    profile: dict = None     # {"worker", "participants"}
    metadata: object = None
    status: str = "ready"
    paused: dict = None      # {"by", "reason"}
    runs: list = field(default_factory=list)
    needs: dict = field(default_factory=dict)    # task: on_failure
    children: list = field(default_factory=list)

    def profiled(self, name):
        """What the blocks of its profile say under that name: a set each."""
        return [set(block.get(name, ())) for block in (self.profile or {}).values()]

    @property
    def required(self):
        return sorted(set(self.required_capabilities).union(*self.profiled("required_capabilities")))

    @property
    def preferred(self):
        return sorted(set(self.preferred_capabilities).union(*self.profiled("preferred_capabilities")))

    def line(self):
        """Itself and its ancestors, nearest first."""
        at = self
        while at:
            yield at
            at = at.parent

    @property
    def root(self):
        return list(self.line())[-1]

    @property
    def depth(self):
        return len(list(self.line()))

    @property
    def open_run(self):
        return next((r for r in self.runs if r.status in OPEN), None)

    @property
    def attempts(self):
        return max((r.attempt for r in self.runs), default=0)

    @property
    def spent(self):
        return self.attempts + 1 > self.max_attempts

    @property
    def paused_by(self):
        return next((t for t in self.line() if t.paused), None)

    @property
    def below_canceled(self):
        return any(t.status == "canceled" for t in self.line())

    def met(self, other):
        return other.status == "completed" or (self.needs[other] == "proceed" and other.status in ("failed", "canceled"))

    @property
    def unmet(self):
        return sum(not self.met(other) for other in self.needs)

    @property
    def blocked(self):
        return self.unmet > 0 or (self.approval_policy == "manual" and self.approval_state != "approved")

    def derived(self):
        """The status that the rows tell; a canceled run tells nothing."""
        if self.status in ("canceled", "draft"):
            return self.status
        if any(r.status in ("starting", "running") for r in self.runs):
            return "in_progress"
        waits = "blocked" if self.blocked else "ready"
        last = max((r for r in self.runs if r.status in ("completed", "failed")), key=lambda r: r.attempt, default=None)
        if self.open_run or not last:
            return waits
        return "completed" if last.status == "completed" else "failed" if self.spent else waits

    __hash__ = object.__hash__
    __eq__ = object.__eq__


@dataclass
class Approval:
    task: object
    number: int              # among those of its task
    asked_by: str
    status: str = "pending"
    decided_by: str = None


class Model:
    def __init__(self):
        self.all = {}          # name: Task
        self.asked = []        # approvals, oldest first
        self.sent = {}         # inputs: [task, status, the run that took it]
        self.events = {}       # name of a root: [(name of a task, type)]
        self.kept = {}         # (actor, operation, key): (what was asked, the number of the operation, its answer)
        self.doomed = None     # while tasks are canceled that waited for one that ended badly: those that are left
        self.clock = 0         # orders what is born
        self.done = 0          # operations

    # ---- asking ----

    def apply(self, op):
        number, self.done = self.done, self.done + 1
        try:
            self.may(op)
            return self.once(op, number)
        except Refused as no:
            return Answer(no.status, no.code)

    def may(self, op):
        """What is looked at before anything is looked up: the key's scopes, the body's shape."""
        if SCOPES.get(op["do"], WRITE) not in ACTORS[op["by"]].scopes:
            raise Refused(403, "permission_denied")
        self.check_shape(op.get("body", {}), op["do"] == "patch")

    def once(self, op, number):
        """With an Idempotency-Key what was done is not done again; what was refused or found nothing left nothing."""
        if "key" not in op:
            return getattr(self, op["do"])(op)
        place = op["by"], op["do"], op["key"]
        asked = op.get("request") or {k: v for k, v in op.items() if k not in ("as", "key")}
        if place in self.kept:
            before, first, answer = self.kept[place]
            if before != asked:
                raise Refused(422, "idempotency_mismatch")
            return answer._replace(replayed=first)
        answer = getattr(self, op["do"])(op)
        if answer.status != 204 or op["do"] != "claim":
            self.kept[place] = asked, number, answer
        return answer

    def find(self, op, name=None):
        task = self.all.get(name or op["on"])
        if not task or not ACTORS[op["by"]].here:
            raise Refused(404, "not_found")
        return task

    def find_run(self, op):
        task, _, attempt = op["on"].partition("/")
        for run in self.find(op, task).runs:
            if str(run.attempt) == attempt:
                return run
        raise Refused(404, "not_found")

    # ---- what every change does ----

    def tick(self):
        self.clock += 1
        return self.clock

    def tell(self, task, *types):
        self.events[task.root.name] += [(task.name, type) for type in types]

    def dependents(self, task):
        return sorted((t for t in self.all.values() if task in t.needs), key=lambda t: t.born)

    def subtree(self, task):
        yield task
        for child in task.children:
            yield from self.subtree(child)

    def settle(self, task):
        """Its status is what the rows say; who waits for it follows; what was blocked and is ready may want a run."""
        old, new = task.status, task.derived()
        if new == old:
            return
        if (old, new) == ("blocked", "ready") and task.auto_enqueue_on_ready and self.may_queue(task):
            self.queue(task)
        task.status = new
        self.tell(task, "task.status_changed")
        self.follow(task)

    def may_queue(self, task):
        return not (task.open_run or task.spent or task.below_canceled)

    def follow(self, task):
        """What the new status of a task means for those that wait for it."""
        own = [] if self.doomed is None else self.doomed
        for other in self.dependents(task):
            self.hear_of(other, task, own)
            self.settle(other)
        if own is not self.doomed:
            self.doomed = own
            while own:
                self.cancel_tree(own.pop())
            self.doomed = None

    def hear_of(self, task, other, doomed):
        """What a task that has not ended is told of one that it waits for and that ended badly."""
        if other.status in ("failed", "canceled") and task.status not in ENDED:
            self.tell(task, "task.dependency_failed")
            if task.needs[other] == "cancel":
                doomed.append(task)

    def queue(self, task, previous=None, channel=None, backoff=False):
        now = self.tick()
        run = Run(task, task.attempts + 1, now, task.priority, channel or task.network_channel,
                  task.required, task.preferred, previous and previous.name, backoff)
        task.runs.append(run)
        self.tell(task, "run.queued")
        return run

    def end(self, run, status, kind=None, error=None):
        run.status, run.failure_kind, run.error = status, kind, error
        self.tell(run.task, "run." + status)

    def cascade(self, root):
        """What waits for a task of a tree is canceled when that tree is, the last that heard of it first."""
        self.doomed = [root]
        while self.doomed:
            self.cancel_tree(self.doomed.pop())
        self.doomed = None

    def cancel_tree(self, root):
        for task in self.subtree(root):
            if task.status in ENDED:
                continue
            if task.open_run:
                self.end(task.open_run, "canceled", "canceled")
            task.status = "canceled"
            self.tell(task, "task.canceled")
            self.void_approval(task)
            for sent in self.inputs(task):
                sent[1] = "canceled" if sent[1] == "pending" else sent[1]
            self.follow(task)

    def pending(self, task):
        return next((a for a in self.asked if a.task is task and a.status == "pending"), None)

    def void_approval(self, task):
        if approval := self.pending(task):
            approval.status = "canceled"

    def set_policy(self, task, policy):
        self.void_approval(task)
        task.approval_policy = policy
        asked = policy == "manual" and task.status != "canceled"
        task.approval_state = "pending" if asked else "not_required"
        if asked:
            self.asked.append(Approval(task, sum(a.task is task for a in self.asked), task.created_by))

    # ---- tasks ----

    def create(self, op):
        return self.made(op, None)

    def child(self, op):
        parent = self.find(op)
        if parent.below_canceled:
            raise Refused(409, "invalid_transition")
        if parent.depth >= LEVELS or len(parent.children) >= CHILDREN:
            raise Refused(409, "graph_limit_exceeded")
        return self.made(op, parent)

    def check_shape(self, body, patch):
        for name, value in body.items():
            if name == "color" or (patch and name in ("start", "draft")):
                raise Refused(400, "unknown_field")
            if patch and name in IMMUTABLE:
                raise Refused(400, "immutable_field")
            if (name == "max_attempts" and not 1 <= value <= 10) or (name == "priority" and value not in PRIORITIES):
                raise Refused(400, "validation_failed")

    def made(self, op, parent):
        body = {k: v for k, v in op["body"].items() if k not in ("start", "draft", "approval_policy")}
        if (op["body"].get("draft") and op["body"].get("start")) or not op["body"]["title"].strip():
            raise Refused(400, "validation_failed")
        task = Task(op["as"], self.tick(), op["by"], parent, **body)
        self.all[task.name] = task
        if parent:
            self.tell(parent, "task.child_created")
            parent.children.append(task)
        else:
            self.events[task.name] = []
        if op["body"].get("approval_policy", "none") == "manual":
            self.set_policy(task, "manual")
        task.status = "draft" if op["body"].get("draft") else "blocked" if task.blocked else "ready"
        self.tell(task, "task.created")
        run = self.queue(task) if op["body"].get("start") else None
        return Answer(201, runs=(run.name,) if run else ())

    def patch(self, op):
        task, body = self.find(op), dict(op["body"])
        if not body or not body.get("title", "x").strip():
            raise Refused(400, "validation_failed")
        policy, changed = body.pop("approval_policy", task.approval_policy), False
        if policy != task.approval_policy or ("approval_policy" in op["body"] and task.approval_state == "rejected"):
            self.set_policy(task, policy)
            changed = True
        for name, value in body.items():
            changed |= getattr(task, name) != value
            setattr(task, name, value)
        if not changed:
            return Answer(200)
        self.tell(task, "task.updated")
        if task.open_run and task.open_run.status == "queued":
            run = task.open_run
            run.follow()
            if "network_channel" in body:
                run.channel = task.network_channel
        self.settle(task)
        return Answer(200)

    def profile(self, op):
        task = self.unclaimed(op)
        lists = [set(b["allowed_agent_names"]) for b in op["body"].values() if "allowed_agent_names" in b]
        if lists and not set.intersection(*lists):
            raise Refused(400, "validation_failed")
        return self.profile_is(task, op["body"], "task.execution_profile_updated", 200)

    def unprofile(self, op):
        task = self.unclaimed(op)
        if task.profile is None:
            raise Refused(404, "not_found")
        return self.profile_is(task, None, "task.execution_profile_deleted", 204)

    def unclaimed(self, op):
        task = self.find(op)
        if task.open_run and task.open_run.status in LEASED:
            raise Refused(409, "invalid_transition")
        return task

    def profile_is(self, task, profile, told, status):
        task.profile = profile
        if task.open_run:
            task.open_run.follow()
        self.tell(task, told)
        return Answer(status)

    def publish(self, op):
        task = self.find(op)
        if task.status != "draft" or task.blocked or task.below_canceled:
            raise Refused(409, "invalid_transition")
        self.tell(task, "task.published")
        run = self.queue(task)
        task.status = "pending"
        self.settle(task)
        return Answer(200, runs=(run.name,), existing=False)

    def new_run(self, task, previous=None, channel=None):
        """A further attempt, if one is allowed; somebody asked for it, after a previous one or not."""
        if task.status == "draft" or not self.may_queue(task):
            raise Refused(409, "invalid_transition")
        run = self.queue(task, previous, previous.channel if previous else channel)
        if previous:
            self.tell(task, "run.operator_retry")
        self.settle(task)
        return run

    def start(self, op):
        task = self.find(op)
        if task.blocked:
            raise Refused(409, "invalid_transition")
        return Answer(201, runs=(self.new_run(task, channel=op["body"].get("network_channel")).name,), existing=False)

    def enqueue(self, op):
        return Answer(201, runs=(self.new_run(self.find(op), channel=op["body"].get("network_channel")).name,))

    def retry(self, op):
        task = self.find(op)
        last = task.runs[-1] if task.runs else None
        if not last or last.status not in ("failed", "canceled"):
            raise Refused(409, "invalid_transition")
        return Answer(201, runs=(self.new_run(task, last).name,))

    def approve(self, op):
        task = self.decided(op, self.find(op), "approved")
        run, existing = task.open_run, bool(task.open_run)
        if not run and task.status in ("blocked", "completed") and self.may_queue(task):
            run = self.queue(task)
        self.settle(task)
        return Answer(201, runs=(run.name,) if run else (), existing=existing)

    def reject(self, op):
        self.settle(self.decided(op, self.find(op), "rejected"))
        return Answer(200)

    def decide(self, op):
        """The same by the approval's name: its task's with its number among those of that task ("t3!0")."""
        task, _, number = op["on"].partition("!")
        task = self.find(op, task)
        approval = next((a for a in self.asked if a.task is task and str(a.number) == number), None)
        if not approval:
            raise Refused(404, "not_found")
        if approval.status != "pending":
            raise Refused(409, "already_decided")
        if op["body"]["decision"] == "approve":
            self.approve({"by": op["by"], "on": task.name})
        else:
            self.reject({"by": op["by"], "on": task.name})
        return Answer(200)

    def decided(self, op, task, state):
        approval = self.pending(task)
        if not approval:
            decided = task.approval_state in ("approved", "rejected")
            raise Refused(409, "already_decided" if decided else "invalid_transition")
        if state == "approved" and approval.asked_by == op["by"] and ACTORS[op["by"]].kind != "human":
            raise Refused(403, "self_approval_denied")
        approval.status, approval.decided_by = {"approved": "approved", "rejected": "denied"}[state], op["by"]
        task.approval_state = state
        self.tell(task, "task." + state)
        return task

    def cancel(self, op):
        task = self.find(op)
        if task.status in ("completed", "failed"):
            raise Refused(409, "invalid_transition")
        if task.status != "canceled":
            self.cascade(task)
        return Answer(200)

    def pause(self, op):
        task, reason = self.find(op), op["body"].get("reason")
        if not reason:
            raise Refused(422, "reason_required")
        if task.status in ENDED:
            raise Refused(409, "invalid_transition")
        if not task.paused:
            task.paused = {"by": op["by"], "reason": reason}
            self.tell(task, "task.paused")
        return Answer(200)

    def resume(self, op):
        task = self.find(op)
        if task.paused:
            task.paused = None
            self.tell(task, "task.resumed")
        return Answer(200)

    def delete(self, op):
        task = self.find(op)
        if task.children or task.open_run:
            raise Refused(400, "validation_failed")
        waiting = self.dependents(task)
        del self.all[task.name]
        if task.parent:
            task.parent.children.remove(task)
        else:
            del self.events[task.name]
        self.asked = [a for a in self.asked if a.task is not task]
        for other in waiting:
            del other.needs[task]
            self.tell(other, "task.dependency_removed")
            self.settle(other)
        if task.parent:
            self.tell(task, "task.deleted")
        return Answer(204)

    def batch(self, op):
        """Each by itself, and nothing of one that is refused; but a wrong shape of one refuses the whole."""
        return Answer(200, items=tuple(self.outcome(self.create, {"by": op["by"], **item}) for item in op["items"]))

    def outcome(self, act, op):
        try:
            self.check_shape(op.get("body", {}), False)
            act(op)
        except Refused as no:
            return no.code

    def list(self, op):
        """Newest first, without drafts unless they are asked for."""
        wants = op["where"]
        shown = [(t.name, {**self.shown(t), "owner_kind": t.owner and t.owner["kind"]}) for t in self.all.values()]
        return Answer(200, items=tuple(
            name for name, t in reversed(shown)
            if all(t[k] == v for k, v in wants.items() if k != "include_drafts") and
            (not t["draft"] or "include_drafts" in wants or wants.get("status") == "draft")))

    # ---- dependencies ----

    def depend(self, op):
        task, how = self.find(op), op["body"].get("on_failure", "block")
        if op["to"] == op["on"]:
            raise Refused(400, "validation_failed")
        other = self.find(op, op["to"])
        if other in task.needs:
            raise Refused(400, "validation_failed")
        if len(task.needs) >= DEPENDENCIES:
            raise Refused(409, "graph_limit_exceeded")
        if self.reaches(other, task):
            raise Refused(409, "cycle_detected")
        task.needs[other] = how
        self.tell(task, "task.dependency_added")
        doomed = []
        self.hear_of(task, other, doomed)
        self.settle(task)
        if doomed:
            self.cascade(task)
        return Answer(201)

    def reaches(self, task, goal):
        seen, left = set(), [task]
        while left:
            at = left.pop()
            if at is goal:
                return True
            if at not in seen:
                seen.add(at)
                left += at.needs
        return False

    def undepend(self, op):
        task = self.find(op)
        other = self.find(op, op["to"])
        if other not in task.needs:
            raise Refused(404, "not_found")
        del task.needs[other]
        self.tell(task, "task.dependency_removed")
        self.settle(task)
        return Answer(200)

    # ---- claims ----

    def criteria(self, op):
        """What the claimer has: its key, which the body may only narrow."""
        actor, body = ACTORS[op["by"]], op["body"]
        for mine, asked in (actor.session, "session_id"), (actor.agent, "agent_name"):
            if mine and body.get(asked, mine) != mine:
                raise Refused(403, "permission_denied")
        if actor.capabilities is not None and not set(body.get("capabilities", ())) <= set(actor.capabilities):
            raise Refused(403, "permission_denied")
        return {"session": body.get("session_id", actor.session), "agent": body.get("agent_name", actor.agent),
                "capabilities": set(body.get("capabilities", actor.capabilities or ())),
                "least": PRIORITIES.index(body.get("priority_min", "low")), "channel": body.get("channel")}

    def fits(self, run, has):
        owner = run.task.owner
        mine = (not owner or (owner["kind"] == "pool" and owner["ref"] == has["agent"]) or
                (owner["kind"] == "agent_session" and owner["ref"] == has["session"]))
        listed = all(has["agent"] in names for names in run.task.profiled("allowed_agent_names") if names)
        return (mine and listed and set(run.required) <= has["capabilities"] and PRIORITIES.index(run.priority) >= has["least"] and
                has["channel"] in (None, run.channel))

    def liking(self, run, has):
        liked = set().union(*run.task.profiled("preferred_agent_names"))
        return len(has["capabilities"] & set(run.preferred)) + (has["agent"] in liked)

    def waits(self, run):
        """Whether something holds the run, whoever asks for it."""
        return run.backoff or run.task.status != "ready" or bool(run.task.paused_by)

    def check_session(self, op, has):
        if has["session"] and ACTORS[op["by"]].here and any(r.session == has["session"] and r.status in LEASED
                                  for t in self.all.values() for r in t.runs):
            raise Refused(409, "active_lease_exists")

    def take(self, run, op, has):
        run.epoch += 1
        run.status, run.claimed_by, run.session, run.token = "claimed", op["by"], has["session"], f"{run.name}@{run.epoch}"
        self.tell(run.task, "run.claimed")
        return run.name

    def claim(self, op):
        has = self.criteria(op)
        self.check_session(op, has)
        found = [r for t in self.all.values() for r in t.runs
                 if r.status == "queued" and not self.waits(r) and self.fits(r, has)] if ACTORS[op["by"]].here else []
        found.sort(key=lambda r: (-PRIORITIES.index(r.priority), -self.liking(r, has), r.born))
        most = 1 if has["session"] else op["body"].get("max", 1)
        taken = tuple(self.take(run, op, has) for run in found[:most])
        return Answer(200, runs=taken) if taken else Answer(204)

    def claim_run(self, op):
        has, run = self.criteria(op), self.find_run(op)
        self.check_session(op, has)
        if run.status != "queued":
            raise Refused(409, "lease_already_held" if run.status in LEASED else "invalid_transition")
        if self.waits(run):
            raise Refused(409, "invalid_transition")
        if not self.fits(run, has):
            raise Refused(403, "permission_denied")
        return Answer(200, runs=(self.take(run, op, has),))

    # ---- what a holder does ----

    def unshown(self, op, run):
        """The token of who shows none: a session is known by what it holds."""
        actor = ACTORS[op["by"]]
        if actor.session and run.session == actor.session:
            return run.token
        if actor.session:
            holds = any(r.session == actor.session and r.status in LEASED for t in self.all.values() for r in t.runs)
            raise Refused(*((403, "foreign_run") if holds else (409, "no_active_lease")))
        if actor.kind == "agent_session":
            raise Refused(401, "autonomy_session_required")

    def held(self, op, repeats=None):
        """The run, if the token is its present one and is in the hands that it was given to."""
        run = self.find_run(op)
        token = self.unshown(op, run) if op["token"] is None else op["token"]
        if not run.token or token != run.token:
            raise Refused(409, "stale_claim_token")
        if run.claimed_by != op["by"]:
            raise Refused(403, "foreign_run")
        if run.status not in LEASED and not (repeats and repeats(run)):
            raise Refused(409, "invalid_transition")
        return run

    def run_start(self, op):
        run = self.held(op)
        if run.status != "claimed":
            raise Refused(409, "invalid_transition")
        run.status, run.started = "running", True
        self.tell(run.task, "run.starting", "run.started")
        self.settle(run.task)
        return Answer(200, runs=(run.name,))

    def inputs(self, task):
        return [sent for sent in self.sent.values() if sent[0] is task]

    def send(self, op):
        task = self.find(op)
        if task.status == "canceled":
            raise Refused(409, "invalid_transition")
        self.sent[op["as"]] = [task, "pending", None]
        self.tell(task, "task.input_received")
        return Answer(201)

    def consume(self, op):
        run, sent = self.held(op), self.sent.get(op["to"])
        if not sent or sent[0] is not run.task:
            raise Refused(404, "not_found")
        if sent[2] not in (None, run.name):
            raise Refused(409, "conflict")
        if not sent[2]:
            sent[1:] = "consumed", run.name
            self.tell(run.task, "run.input_consumed")
        return Answer(200)

    def heartbeat(self, op):
        self.held(op)
        return Answer(200)

    def complete(self, op):
        result = op["body"].get("result")
        run = self.held(op, lambda run: run.status == "completed" and run.result == result)
        if run.status != "completed":
            run.result = result
            self.end(run, "completed")
            self.settle(run.task)
        return Answer(200, runs=(run.name,))

    def fail(self, op):
        run, task = self.held(op), None
        task, kind = run.task, op["body"].get("kind", "failed")
        self.end(run, "failed", kind, op["body"]["error"])
        most = (task.retry or {}).get("max_attempts", task.max_attempts)
        if task.retry is not None and kind in RETRIED and not task.spent and task.attempts < most:
            self.queue(task, previous=run, channel=run.channel, backoff=task.retry.get("delay_ms", 0) > 0)
        self.settle(task)
        return Answer(200, runs=(run.name,))

    def complete_many(self, op):
        return self.many(op, self.complete)

    def heartbeat_many(self, op):
        return self.many(op, self.heartbeat)

    def many(self, op, act):
        return Answer(200, items=tuple(self.outcome(act, {"by": op["by"], "body": {}, **item}) for item in op["items"]))

    def release(self, op):
        run = self.held(op)
        run.status, run.claimed_by, run.session, run.token, run.started = "queued", None, None, None, False
        run.follow()
        self.tell(run.task, "run.released")
        self.settle(run.task)
        return Answer(200, runs=(run.name,))

    # ---- runs ----

    def run_cancel(self, op):
        run = self.find_run(op)
        if run.status in ("completed", "failed"):
            raise Refused(409, "invalid_transition")
        if run.status != "canceled":
            self.end(run, "canceled", "canceled")
            self.settle(run.task)
        return Answer(200, runs=(run.name,))

    def run_retry(self, op):
        run = self.find_run(op)
        if run.status not in ("failed", "canceled") or any(r.previous == run.name for r in run.task.runs):
            raise Refused(409, "invalid_transition")
        return Answer(201, runs=(self.new_run(run.task, run).name,))

    # ---- what everybody sees ----

    def tasks(self):
        return {t.name: self.shown(t) for t in self.all.values()}

    def shown(self, t):
        by, active = t.paused_by, next((r for r in t.runs if r.status in LEASED), None)
        return {
            "title": t.title, "metadata": t.metadata, "status": t.status, "draft": t.status == "draft",
            "priority": t.priority,
            "max_attempts": t.max_attempts, "auto_enqueue_on_ready": t.auto_enqueue_on_ready,
            "approval_policy": t.approval_policy, "approval_state": t.approval_state, "owner": t.owner,
            "network_channel": t.network_channel, "required_capabilities": t.required_capabilities,
            "preferred_capabilities": t.preferred_capabilities, "created_by": t.created_by,
            "parent_task_id": t.parent and t.parent.name, "depth": t.depth, "child_count": len(t.children),
            "dependency_count": len(t.needs), "unmet_dependency_count": t.unmet,
            "current_run_id": active and active.name, "paused": bool(t.paused), "effective_paused": bool(by),
            "paused_by_task_id": by and by.name, "paused_by": t.paused and t.paused["by"],
            "paused_reason": t.paused and t.paused["reason"], "closed_at": t.status in ENDED,
            "latest_sequence": len(self.events[t.root.name])}

    def runs(self):
        return {r.name: {
            "task_id": t.name, "status": r.status, "attempt": r.attempt, "epoch": r.epoch, "priority": r.priority,
            "previous_run_id": r.previous, "failure_kind": r.failure_kind, "error": r.error, "result": r.result,
            "claimed_by": r.claimed_by, "session_id": r.session, "network_channel": r.channel,
            "required_capabilities": r.required, "preferred_capabilities": r.preferred, "recoveries": 0,
            "started_at": r.started, "ended_at": r.status in ENDED, "lease_until": r.status in LEASED,
        } for t in self.all.values() for r in t.runs}

    def approvals(self):
        return [(a.task.name, a.status, a.asked_by, a.decided_by) for a in self.asked]

    def reasons(self, run):
        """Why it does not run, as far as that is for the model to say."""
        task = run.task
        if run.status != "queued":
            return {"running"} if run.status in LEASED else {"terminal"}
        return {code for code, holds in (
            ("blocked_by_dependency", task.unmet), ("paused", task.paused_by), ("backoff", run.backoff),
            ("awaiting_approval", task.approval_policy == "manual" and task.approval_state != "approved")) if holds}

    def tree(self, root):
        """Level by level, each in the order of birth."""
        level, out = [root], []
        while level:
            out += [t.name for t in level]
            level = sorted((c for t in level for c in t.children), key=lambda t: t.born)
        return out

    def dependencies(self, task):
        return {other.name: (how, task.met(other)) for other, how in task.needs.items()}


HOLDERS = ("run_start", "heartbeat", "consume", "complete", "fail", "release")
SCOPES = {**dict.fromkeys(("approve", "reject", "decide"), APPROVE), "list": READ,
          **dict.fromkeys((*HOLDERS, "complete_many", "heartbeat_many", "claim", "claim_run"), CLAIM)}
