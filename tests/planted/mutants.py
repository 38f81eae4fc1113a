"""What a suite must find: the program with one line of it wrong.

A mutant is a sentence, its edits and the suites that look for it, in this order.  An edit is a file, a text that
stands there exactly once, and what takes its place.  Most have one edit.  Two have those where a line is moved, or
where the program makes sure of the same thing twice and either alone would hold.
"""

from typing import NamedTuple


class Suite(NamedTuple):
    targets: list  # of ninja
    command: list  # run in the tree; {build} is the build directory


class Edit(NamedTuple):
    file: str
    text: str
    instead: str


class Mutant(NamedTuple):
    sentence: str
    edits: list
    suites: list


def pytest(file, words):
    return Suite(["src/server/baton"], ["env", "BATON={build}/src/server/baton", "/usr/bin/python3", "-m", "pytest", "-q", file, "-k", words])


SUITES = {
    "sim": Suite(["tests/sim/sim"], ["{build}/tests/sim/sim", "--seeds", "1..20"]),
    "store": Suite(["tests/store/test_store"], ["{build}/tests/store/test_store"]),
    "faults": Suite(["tests/faults/test_faults"], ["{build}/tests/faults/test_faults"]),
    "powercut": Suite(["tests/faults/test_powercut"], ["{build}/tests/faults/test_powercut", "600", "1"]),
    "model": Suite(["src/server/baton"], ["python3", "tests/model/run.py", "--baton", "{build}/src/server/baton",
                                          "--sequences", "400", "--seed", "1"]),
    "postgres": pytest("tests/postgres/test_postgres.py", "was_not_changed"),
    "schema": pytest("tests/postgres/test_schema.py", "older"),
    "webhooks": pytest("tests/api/test_webhooks.py", "places"),
    "fuzz": Suite(["fuzz/fuzz_api"], ["{build}/fuzz/fuzz_api", "fuzz/corpus/api", "fuzz/found/api"]),
}

MUTANTS = [
    Mutant("a newer program migrates the database under an older one", [
        Edit("src/store/migrate.c", "return e || !older ? e :", "return e || older >= 0 ? e :"),
    ], ["schema"]),
    Mutant("what is in the places of events that are gone counts as read", [
        Edit("src/domain/delivery.c", "        enum err e = check_memory(tx, l);", "        enum err e = l->passed ? ERR_OK : check_memory(tx, l);"),
    ], ["webhooks"]),
    Mutant("a resume of the scheduler wakes no claim that waits", [
        Edit("src/domain/scheduler.c", "        tx_hint(tx, HINT_RESUMED, 0, 0);\n", ""),
    ], ["sim"]),
    Mutant("an answer leaves before its commit", [
        Edit("src/store/writer.c", "if (!engine_commit(&store->scope, store->writer))\n                return BATCH_DONE;",
             "return BATCH_DONE;"),
        Edit("src/store/writer.c", "                call_finish(store, b->calls[i]);\n        failpoint_pass",
             "                call_finish(store, b->calls[i]);\n"
             "        if (engine_commit(&store->scope, store->writer))\n"
             "                broke(store, ERR_UNAVAILABLE, \"commit_failed\");\n        failpoint_pass"),
    ], ["powercut", "sim"]),
    Mutant("a refused commit is acknowledged", [
        Edit("src/store/writer.c", "if (!engine_commit(&store->scope, store->writer))\n                return BATCH_DONE;",
             "if (!engine_commit(&store->scope, store->writer) || true)\n                return BATCH_DONE;"),
    ], ["faults", "sim"]),
    Mutant("a commit does not wait for the disk (synchronous=NORMAL)", [
        Edit("src/store/sqlite.c", "PRAGMA synchronous=FULL;", "PRAGMA synchronous=NORMAL;"),
    ], ["powercut"]),
    Mutant("the file is not opened again after a failed commit", [
        Edit("src/store/writer.c", "        store->broken = true;\n", ""),
    ], ["faults"]),
    Mutant("a name made by an undone call is remembered", [
        Edit("src/store/writer.c", "        names_forget(store->names, names);\n", "        (void)names;\n"),
    ], ["store", "sim"]),
    Mutant("nobody hears of the end of a run that is forced to fail", [
        Edit("src/domain/cancel.c", "                e = approvals_close(tx, run->id);\n        if (!e)\n"
             "                e = run_ended(tx, run, events);\n", "                e = approvals_close(tx, run->id);\n"),
    ], ["sim"]),
    Mutant("a run that is forced to fail keeps its token", [
        Edit("src/domain/force.c", "        e = tx_exec(tx, SQL_RUN_TOKEN_VOID, INT(id));\n", "        e = ERR_OK;\n"),
    ], ["sim"]),
    Mutant("a run that is recovered keeps its mark", [
        Edit("src/domain/force.c", "        e = attention_set(tx, run, STR_NONE);\n", "        e = ERR_OK;\n"),
    ], ["sim"]),
    Mutant("a heartbeat needs no token", [
        Edit("src/domain/claim.c", "                e = run_check_fence(tx, &run, fence);\n        if (e)\n"
             "                return e;\n        length",
             "                e = run_is_leased(run.status) ? ERR_OK : run_check_fence(tx, &run, fence);\n"
             "        if (e)\n                return e;\n        length"),
        Edit("src/domain/run_sql.def", "AND status BETWEEN 1 AND 3 AND claim_token_hash = ?5",
             "AND status BETWEEN 1 AND 3 AND ?5 IS NOT NULL"),
    ], ["sim"]),
    Mutant("a step is recorded without the token", [
        Edit("src/domain/run_sql.def", "AND revision = ?5 AND claim_token_hash = ?6",
             "AND revision = ?5 AND ?6 IS NOT NULL"),
    ], ["sim"]),
    Mutant("a recorded step is performed again", [
        Edit("src/flow/plan.c", "        if (!out->list || !out->list->n)\n",
             "        snapshot->run->current_step = 0, snapshot->frames[snapshot->n_frames - 1].steps.n = 0;\n"
             "        if (!out->list || !out->list->n)\n"),
    ], ["sim"]),
    Mutant("events are numbered beside the transaction", [
        Edit("src/domain/event.c",
             "                e = tx_numbers(tx, SQL_EVENT_NEWEST, newest, LENGTH(newest), ARGS(INT(events->tree)));\n",
             "                { static int64_t tree, next; e = tree == events->tree ? ERR_OK : events_head(tx,"
             " events->tree, &next); tree = events->tree; newest[0] = next; next += (int64_t)events->n; }\n"),
    ], ["sim", "faults"]),
    Mutant("an event is older than its cause when the clock is set back", [
        Edit("src/domain/event.c", "        if (when < newest[1])\n                when = newest[1];\n", ""),
    ], ["sim"]),
    Mutant("a stream subscribes after it has read", [
        Edit("src/api/streams.c", "        hub_subscribe(api_options(s->api)->hub, &feed->subscription);\n"
             "        feed_read(feed);\n",
             "        hub_subscribe(api_options(s->api)->hub, &feed->subscription);\n"),
    ], ["fuzz"]),
    Mutant("leases follow the wall clock", [
        Edit("src/domain/domain.c", "return d->world->clock->boot(d->world->clock->ctx) + d->ahead;",
             "return d->world->clock->wall(d->world->clock->ctx);"),
    ], ["sim"]),
    Mutant("a join is counted from what was read before the transaction", [
        Edit("src/domain/step_sql.def", "SET pending = pending - 1,",
             "SET pending = (SELECT count(*) - 1 FROM run WHERE parent_run_id = ?1 AND parent_step_index = ?2 AND"
             " coalesce(ended_at, 9e18) >= (SELECT max(ended_at) FROM run WHERE parent_run_id = ?1)),"),
    ], ["sim"]),
    Mutant("a cancel misses the child that was born meanwhile", [
        Edit("src/domain/cancel.c", "                        e = cancel_children(tx, &child[i], reason, events);\n"
             "                        if (!e)\n",
             "                        e = cancel_children(tx, &child[i], reason, events);\n"
             "                        if (!e && child[i].queued_at < tx_now(tx))\n"),
    ], ["sim"]),
    Mutant("a key is kept in a transaction of its own", [
        Edit("src/domain/idempotency.c", '#include "domain/sql.h"\n',
             '#include "domain/sql.h"\n#include "store/engine.h"\n'),
        Edit("src/domain/idempotency.c", "        enum err e = tx_exec(tx, SQL_IDEMPOTENCY_ADD,",
             "        enum err e = engine_script(tx_scope(tx), tx->engine, \"COMMIT; BEGIN IMMEDIATE\", NULL) ? ERR_UNAVAILABLE :"
             " tx_exec(tx, SQL_IDEMPOTENCY_ADD,"),
    ], ["sim"]),
    Mutant("a run that waits for its next attempt is ready", [
        Edit("src/domain/run.c", "        if (!e && !run.hold)\n                e = enter_lane(tx, &run);",
             "        if (!e)\n                e = enter_lane(tx, &run);"),
    ], ["sim"]),
    Mutant("a claim that nobody heard of is not given back", [
        Edit("src/domain/claim.c", "                        e = run_requeue(tx, &run, &change, by);\n",
             "                        e = change.to == RUN_QUEUED ? ERR_OK : run_requeue(tx, &run, &change, by);\n"),
    ], ["sim"]),
    Mutant("an expired lease is not counted", [
        Edit("src/domain/claim.c", "        run->recoveries += !boot;\n", ""),
    ], ["sim"]),
    Mutant("an input that was taken lies there still", [
        Edit("src/domain/input_sql.def", "UPDATE task_input SET status = 1, run_id = ?2,",
             "UPDATE task_input SET status = 0, run_id = ?2,"),
    ], ["sim"]),
    Mutant("a step that begins to wait does not look whether its input is there", [
        Edit("src/domain/input.c", "return e == ERR_EMPTY ? ERR_OK : e ? e : hand_over(tx, run, &input, events);",
             "return e && e != ERR_EMPTY ? e : ERR_OK;"),
    ], ["sim"]),
    Mutant("a lane that was found empty stays so when that is undone", [
        Edit("src/domain/lane.c", "                set_filled(t, t->drained.items[--t->drained.n], true);\n",
             "                t->drained.n--;\n"),
    ], ["sim"]),
    Mutant("a run that is given back forgets what holds it", [
        Edit("src/domain/claim.c", "back.hold = task_holds(&task, run->kind == RUN_ROOT);", "back.hold = 0;"),
    ], ["model", "sim"]),
    Mutant("a task that is in review lets those go that wait for it", [
        Edit("src/domain/dependency.c", "        return status == TASK_COMPLETED ||",
             "        return status == TASK_COMPLETED || status == TASK_IN_REVIEW ||"),
        Edit("src/domain/dependency.c", "if (!task_is_closed(before) && !task_is_closed(task->status))",
             "if (!task_is_closed(before) && !task_is_closed(task->status) && task->status != TASK_IN_REVIEW)"),
    ], ["model"]),
    Mutant("a second verdict of a review takes the place of the first", [
        Edit("src/domain/verdict.c", "        if (review->status == REVIEW_RECORDED) {\n",
             "        if (review->status == REVIEW_RECORDED && is_repeat(review, by, v)) {\n"),
        Edit("src/domain/review.c", "return e || status == REVIEW_REQUESTED || status == REVIEW_IN_REVIEW ?",
             "return e || status != REVIEW_CANCELED ?"),
        Edit("src/domain/review_sql.def", "\" route_at = NULL WHERE id = ?1 AND status < 2\")\nSQL(REVIEW_FOLLOWED",
             "\" route_at = NULL WHERE id = ?1 AND status < 3\")\nSQL(REVIEW_FOLLOWED"),
    ], ["model"]),
    Mutant("a continuation does not know its round of review", [
        Edit("src/domain/verdict.c", "        told.review_round++; /* of the run that follows */\n", ""),
    ], ["model"]),
    Mutant("a new attempt leaves the review of the one before open", [
        Edit("src/domain/review.c", "        enum err e = tx_exec(tx, SQL_REVIEW_CANCEL, INT(task->id), INT(tx_now(tx)));\n",
             "        enum err e = ERR_OK;\n"),
    ], ["model"]),
    Mutant("a failure that may be passed is not", [
        Edit("src/domain/dependency.c", "(on_failure == ON_FAILURE_PROCEED && ended_badly(status))",
             "(on_failure == ON_FAILURE_PROCEED && status == TASK_CANCELED)"),
    ], ["model"]),
    Mutant("a batch on PostgreSQL is counted after its commit", [
        Edit("src/store/postgres.c", "        if (!e && pg->counted)\n", "        if (!e && pg->counted > QUEUE_MAX)\n"),
    ], ["postgres"]),
]
