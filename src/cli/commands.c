#include "cli/commands.h"

static const struct cli_option common_options[] = {
        { "output", "FORMAT", "table, json (the server's reply) or jsonl (an item per line)", 'o' },
        { "server", "URL", "address of the server, http://… or unix:PATH (BATON_SERVER)", 0 },
        { "key", "KEY", "bearer key (BATON_KEY)", 0 },
        { "key-file", "FILE", "file that holds the key", 0 },
        { "data", "DIR", "data directory of a local server (BATON_DATA)", 0 },
        { "workspace", "ID", "workspace to work in (BATON_WORKSPACE)", 0 },
        { "no-color", NULL, "no colours (NO_COLOR)", 0 },
        { "help", NULL, "this help", 'h' },
        { 0 },
};

#define INPUT_OPTIONS                                                                       \
        { "input", "NAME=VALUE", "a member of the input: JSON, else text; repeatable", 0 }, \
        {                                                                                   \
                "input-file", "FILE", "the input as a JSON object", 0                       \
        }
#define PAGE_OPTIONS                                                         \
        { "limit", "N", "at most so many, 1 to 500", 0 },                    \
        {                                                                    \
                "cursor", "CURSOR", "go on after a page: its next_cursor", 0 \
        }

static const struct cli_option run_options[] = { INPUT_OPTIONS, { 0 } };
static const struct cli_option page_options[] = { PAGE_OPTIONS, { 0 } };
static const struct cli_option name_options[] = {
        { "name", "NAME", "name of a document that has none", 0 }, { 0 }
};
static const struct cli_option version_options[] = {
        { "version", "N", "that version instead of the newest", 0 }, { 0 }
};
static const struct cli_option task_run_options[] = {
        INPUT_OPTIONS,
        { "title", "TEXT", "title of the task", 0 },
        { "stream", NULL, "follow the run to its end with a live step list", 0 },
        { "wait", NULL, "wait for the end and print the result", 0 },
        { 0 }
};
#define TASK_OPTIONS                                                                     \
        { "title", "TEXT", "what is to be done", 0 },                                    \
        { "description", "TEXT", "more about it", 0 },                                   \
        { "priority", "P", "low, medium, high or urgent", 0 },                           \
        { "max-attempts", "N", "runs before it has failed", 0 },                         \
        { "timeout", "SECONDS", "deadline of a run", 0 },                                \
        { "capabilities", "A,B", "what a claimer must be able to do", 0 },               \
        { "preferred", "A,B", "what it had better be able to do", 0 },                   \
        { "owner", "KIND:REF", "who owns it: human, pool, agent_session, …", 0 },        \
        { "channel", "NAME", "network channel of its runs", 0 },                         \
        { "approval", "POLICY", "none, or manual: a person approves it before it runs", 0 }, \
        { "review", "POLICY", "none, on_success, on_failure or always: runs that ended so are judged", 0 }, \
        { "auto-enqueue", NULL, "a run as soon as what it waits for is done", 0 }
static const struct cli_option task_create_options[] = {
        TASK_OPTIONS,
        { "identifier", "TEXT", "a name of your own", 0 },
        { "definition", "ID", "definition that its runs follow", 0 },
        { "draft", NULL, "not yet a task: see task publish", 0 },
        INPUT_OPTIONS,
        { "start", NULL, "enqueue its first run at once", 0 },
        { 0 }
};
static const struct cli_option task_update_options[] = {
        TASK_OPTIONS, { "clear-owner", NULL, "it has no owner any more", 0 }, { 0 }
};
static const struct cli_option task_list_options[] = { { "status", "S", "only those", 0 },
                                                       { "priority", "P", "only those", 0 },
                                                       { "definition", "ID",
                                                         "only those of a definition", 0 },
                                                       { "parent", "ID", "only its children", 0 },
                                                       { "drafts", NULL, "drafts too", 0 },
                                                       { "search", "TEXT",
                                                         "only with this in title or identifier", 0 },
                                                       PAGE_OPTIONS,
                                                       { 0 } };
static const struct cli_option inbox_options[] = {
        { "lane", "LANE", "only approvals, failed_runs, blocked, my_work or archived", 0 },
        { "unread", NULL, "only what has something new", 0 },
        { "query", "TEXT", "only those with this text in title or identifier", 0 },
        PAGE_OPTIONS,
        { 0 }
};
static const struct cli_option depend_options[] = {
        { "on-failure", "WHAT", "block, proceed or cancel when that task does not complete", 0 }, { 0 }
};
static const struct cli_option profile_options[] = {
        { "agents", "A,B", "agents that may claim its runs", 0 },
        { "agent", "NAME", "the only one that may", 0 },
        { "preferred-agents", "A,B", "agents that get them sooner", 0 },
        { "capabilities", "A,B", "what a claimer must be able to do, beside what the task says", 0 },
        { "preferred", "A,B", "what it had better be able to do", 0 },
        { "provider", "NAME", "model provider that the agent is told to use", 0 },
        { "model", "NAME", "model that it is told to use", 0 },
        { "guidance", "TEXT", "what it is told beside the task", 0 },
        { "file", "FILE", "the whole profile as JSON instead of these", 0 },
        { 0 }
};
static const struct cli_option input_options[] = {
        { "message", "TEXT", "what is said", 0 },
        { "value", "JSON", "its data: any value, for programs", 0 },
        { "name", "NAME", "for the step that waits for an input of that name", 0 },
        { 0 }
};
static const struct cli_option inputs_options[] = {
        { "status", "S", "pending, consumed or canceled", 0 },
        { "name", "NAME", "only those of that name", 0 },
        PAGE_OPTIONS,
        { 0 }
};
static const struct cli_option reason_options[] = {
        { "reason", "TEXT", "why; kept with the run", 0 }, { 0 }
};
static const struct cli_option runs_list_options[] = { { "status", "S", "only those", 0 },
                                                       { "task", "ID", "only those of a task", 0 },
                                                       { "definition", "ID",
                                                         "only those of a definition", 0 },
                                                       PAGE_OPTIONS,
                                                       { 0 } };
static const struct cli_option follow_options[] = {
        { "follow", NULL, "go on until the run ends", 'f' }, { 0 }
};
static const struct cli_option events_options[] = { { "follow", NULL, "go on until the run ends",
                                                      'f' },
                                                    { "after", "SEQUENCE", "only later ones", 0 },
                                                    { "limit", "N", "at most so many", 0 },
                                                    { 0 } };
static const struct cli_option approvals_list_options[] = {
        { "status", "S", "pending, approved, denied, expired or canceled", 0 },
        { "run", "ID", "only those of a run", 0 },
        PAGE_OPTIONS,
        { 0 }
};
static const struct cli_option comment_options[] = {
        { "comment", "TEXT", "kept with the decision", 0 }, { 0 }
};
static const struct cli_option reviews_list_options[] = {
        { "status", "S", "requested, in_review, recorded or canceled", 0 },
        { "run", "ID", "only those of a run", 0 },
        { "task", "ID", "only those of a task", 0 },
        { "session", "ID", "only those given to a session", 0 },
        PAGE_OPTIONS,
        { 0 }
};
static const struct cli_option reviews_request_options[] = {
        { "policy", "P", "on_success, on_failure or always (always): how the run must have ended", 0 },
        { "round", "N", "which round (the run's own)", 0 },
        { "attempt", "N", "which attempt to judge it in this round (1)", 0 },
        { "reason", "TEXT", "why; shown to the reviewer", 0 },
        { "deadline", "SECONDS", "how long it may take", 0 },
        { 0 }
};
static const struct cli_option reviews_bind_options[] = {
        { "session", "ID", "whose it is to be (the caller's own)", 0 }, { 0 }
};
#define VERDICT_OPTIONS                                                            \
        { "reason", "TEXT", "why", 0 },                                            \
        { "confidence", "SHARE", "how sure, 0 to 1 (1)", 0 },                      \
        { "delivery", "ID", "of this verdict: the same one again changes nothing", 0 }, \
        { "text", "TEXT", "the whole review", 0 }
static const struct cli_option reviews_approve_options[] = { VERDICT_OPTIONS, { 0 } };
#define REJECTION_OPTIONS                                                          \
        VERDICT_OPTIONS,                                                           \
        { "missing", "TEXT", "what is missing; may be repeated", 0 },              \
        { "guidance", "TEXT", "what the next run should do", 0 }
static const struct cli_option reviews_reject_options[] = { REJECTION_OPTIONS, { 0 } };
static const struct cli_option reviews_submit_options[] = {
        { "outcome", "O", "approved, rejected, blocked, error, timeout or invalid_output", 0 },
        REJECTION_OPTIONS,
        { 0 }
};
static const struct cli_option key_create_options[] = {
        { "name", "NAME", "what it is for", 0 },
        { "scopes", "A,B", "tasks:read tasks:write tasks:approve runs:claim admin", 0 },
        { "actor-kind", "KIND", "who acts with it: human, agent_session, … (human)", 0 },
        { "ref", "REF", "which one of them (the name)", 0 },
        { "session", "ID", "session that it is bound to", 0 },
        { "agent", "NAME", "agent that it is bound to", 0 },
        { "capabilities", "A,B", "what its holder may claim", 0 },
        { "bound-to", "ID", "workspace that it is bound to (that of --workspace)", 0 },
        { "expires-at", "TIME", "end of its validity, as 2026-12-31T00:00:00Z", 0 },
        { 0 }
};
static const struct cli_option pause_options[] = { { "reason", "TEXT", "why; shown to who asks", 0 }, { 0 } };
static const struct cli_option drain_options[] = {
        { "timeout", "SECONDS", "wait at most so long, 0 to 86400 (60)", 0 },
        { "reason", "TEXT", "why; shown to who asks", 0 },
        { 0 }
};
static const struct cli_option backlog_options[] = {
        { "limit", "N", "at most so many, 1 to 500", 0 },
        { "include-paused", NULL, "runs of paused tasks too", 0 },
        { 0 }
};
static const struct cli_option workspace_update_options[] = {
        { "name", "NAME", "its name", 0 },
        { "slug", "SLUG", "its short name", 0 },
        { "quota", "BYTES", "what its files may take", 0 },
        { "retention", "SECONDS", "delete trees of tasks that have ended so long ago; 0: never", 0 },
        { "channels", "A,B", "network channels that its runs may be in; empty: any", 0 },
        { "volume", "NAME", "where its files are from now on (see GET /v1/workers); none: where the next worker is", 0 },
        { 0 }
};
static const struct cli_option webhook_create_options[] = {
        { "events", "A,B", "event types and hook points that are sent (all)", 0 },
        { "description", "TEXT", "what it is for", 0 },
        { 0 }
};
static const struct cli_option webhook_update_options[] = {
        { "url", "URL", "where to", 0 },
        { "events", "A,B", "event types and hook points that are sent; empty: all", 0 },
        { "description", "TEXT", "what it is for", 0 },
        { "enable", NULL, "send what happens from now on, and what waits", 0 },
        { "disable", NULL, "send nothing", 0 },
        { 0 }
};
static const struct cli_option webhook_deliveries_options[] = {
        { "status", "S", "pending, delivered or dead", 0 }, PAGE_OPTIONS, { 0 }
};
static const struct cli_option audit_list_options[] = {
        { "action", "ACTION", "only those, as key.created", 0 },
        { "resource", "ID", "only those of one key, task, …, or of a secret by name", 0 },
        { "actor", "KIND:REF", "only what they did", 0 },
        { "since", "TIME", "not earlier, as 2026-12-31T00:00:00Z", 0 },
        { "until", "TIME", "earlier", 0 },
        PAGE_OPTIONS,
        { 0 }
};
static const struct cli_option audit_verify_options[] = {
        { "head", "HASH", "what an earlier verification printed: it must still be there", 0 },
        { "database", "PATH", "a database file or data directory, or a copy, instead of the server", 0 },
        { 0 }
};
#define STORE_OPTION                                                                                   \
        { "store", "URL", "a PostgreSQL database instead of the file in the data directory (BATON_STORE)", 0 }
static const struct cli_option db_status_options[] = { STORE_OPTION, { 0 } };
static const struct cli_option db_migrate_options[] = {
        { "plan", NULL, "list what would be done, change nothing", 0 },
        { "apply", NULL, "do it", 0 },
        STORE_OPTION,
        { 0 }
};
static const struct cli_option db_backup_options[] = {
        { "force", NULL, "replace the file", 0 }, STORE_OPTION, { 0 }
};
static const struct cli_option db_restore_options[] = {
        { "verify", NULL, "look at the file only", 0 },
        { "force", NULL, "keep the database that is there aside", 0 },
        { 0 }
};
static const struct cli_option db_copy_options[] = {
        { "to", "URL|FILE", "where to: empty, or newly migrated", 0 }, STORE_OPTION, { 0 }
};
static const struct cli_option workspace_create_options[] = {
        { "slug", "SLUG", "its short name", 0 },
        { "retention", "SECONDS", "delete trees of tasks that have ended so long ago", 0 },
        { "channels", "A,B", "network channels that its runs may be in (any)", 0 },
        { 0 }
};

#define RUN_STATUS                                                                            \
        "Exit status: 0 the run completed, 1 it failed, 3 it was canceled, 4 it timed out;\n" \
        "2 bad input, 6 no server, 130 after Ctrl-C (the run goes on)."

#define TOKEN_OPTION                                                                          \
        { "token", "TOKEN", "of the claim (BATON_CLAIM_TOKEN); a key of its session needs none", 0 }
#define CLAIMER_OPTIONS                                                  \
        { "session", "ID", "session that takes it", 0 },                 \
        { "agent", "NAME", "agent that takes it", 0 },                   \
        { "capabilities", "A,B", "what it can do", 0 },                  \
        {                                                                \
                "lease", "SECONDS", "length of the lease (300)", 0       \
        }
static const struct cli_option claim_options[] = {
        CLAIMER_OPTIONS,
        { "channel", "NAME", "only runs of that network channel", 0 },
        { "priority-min", "P", "only runs of that priority or above", 0 },
        { "max", "N", "at most so many, 1 to 100 (1)", 0 },
        { "wait", "SECONDS", "wait so long for one, at most 60", 0 },
        { 0 }
};
static const struct cli_option attach_options[] = { CLAIMER_OPTIONS, TOKEN_OPTION, { 0 } };
static const struct cli_option start_options[] = { TOKEN_OPTION, { 0 } };
static const struct cli_option heartbeat_options[] = {
        TOKEN_OPTION, { "lease", "SECONDS", "its length from now on", 0 }, { 0 }
};
static const struct cli_option complete_options[] = {
        TOKEN_OPTION, { "result", "JSON", "what came of it", 0 }, { 0 }
};
static const struct cli_option fail_options[] = {
        TOKEN_OPTION,
        { "error", "TEXT", "what went wrong", 0 },
        { "kind", "KIND", "failed, transient, timed_out, policy, … (failed)", 0 },
        { 0 }
};
static const struct cli_option release_options[] = {
        TOKEN_OPTION, { "reason", "TEXT", "why", 0 }, { 0 }
};

#define FORCE_NOTES                                                                           \
        "Up to 50 runs, each on its own. The tokens of their holders are void afterwards.\n" \
        "Exit status with several: 0 all were done, 1 one was refused."
#define INSPECT_NOTES                                                                          \
        "Next action: recovery_required, stranded, awaiting_review, claim_available, running,\n"   \
        "waiting_for_session or terminal. Takes the id of a task or of a run."

static const struct command commands[] = {
        { "serve", "[options]", "run the server", NULL, NULL, 0, 0, NULL },
        { "worker", "[options]", "perform runs beside the servers on a PostgreSQL database", NULL, NULL, 0, 0, NULL },
        { "run", "FILE", "run a definition from a file, follow it, print its result", run_options,
          command_run, 1, 1,
          "Uses the server of the data directory, or starts one there that ends when it is idle\n"
          "(its log: server.log). The document is stored under its name, and so are documents\n"
          "beside it that it refers to. A value of --input that is a directory is passed as an\n"
          "absolute path, and a server started here may clone from it.\n\n" RUN_STATUS },
        { "definition create", "FILE", "store a definition", name_options,
          command_definition_create, 1, 1, NULL },
        { "definition list", "", "list definitions", page_options, command_definition_list, 0, 0,
          NULL },
        { "definition get", "ID", "show a definition, by id or name", version_options,
          command_definition_get, 1, 1, NULL },
        { "definition validate", "FILE", "check a document, store nothing", name_options,
          command_definition_validate, 1, 1, "Exit status: 0 it is valid, 2 it is not." },
        { "task run", "DEFINITION", "start a run of a stored definition", task_run_options,
          command_task_run, 1, 1, "With --stream or --wait:\n" RUN_STATUS },
        { "task list-definitions", "", "list what `task run` can run", page_options,
          command_definition_list, 0, 0, NULL },
        { "task create", "--title TEXT", "create a task", task_create_options, command_task_create,
          0, 0, NULL },
        { "task update", "ID", "change a task", task_update_options, command_task_update, 1, 1, NULL },
        { "task list", "", "list tasks", task_list_options, command_task_list, 0, 0, NULL },
        { "task get", "ID", "show a task", NULL, command_task_get, 1, 1, NULL },
        { "task inspect", "ID", "its newest run, what is wrong with it, what comes next", NULL,
          command_inspect, 1, 1, INSPECT_NOTES },
        { "task cancel", "ID", "cancel a task and its runs", reason_options, command_task_cancel, 1,
          1, NULL },
        { "task retry", "ID", "another attempt after a run that ended badly", NULL,
          command_task_retry, 1, 1, NULL },
        { "task child", "PARENT --title TEXT", "create a task below another", task_create_options,
          command_task_child, 1, 1, NULL },
        { "task tree", "ID", "list a task and all below it", page_options, command_task_tree, 1, 1,
          NULL },
        { "task depend", "ID ON", "let a task wait for another", depend_options,
          command_task_depend, 2, 2, NULL },
        { "task undepend", "ID ON", "let it wait no longer", NULL, command_task_undepend, 2, 2,
          NULL },
        { "task dependencies", "ID", "list what it waits for", NULL, command_task_dependencies, 1,
          1, NULL },
        { "task input", "ID --message TEXT", "send an input to whoever works on a task", input_options,
          command_task_input, 1, 1,
          "A step that waits for it (wait_input) goes on; else it lies in the task's inbox until one\n"
          "does, or until who holds a run of the task takes it." },
        { "task inputs", "ID", "list the inputs of a task, oldest first", inputs_options,
          command_task_inputs, 1, 1, NULL },
        { "task publish", "ID", "make a draft a task and enqueue it", NULL, command_task_publish, 1,
          1, NULL },
        { "task start", "ID", "a new attempt at a ready task", NULL, command_task_start, 1, 1,
          NULL },
        { "task enqueue", "ID", "a new attempt that may have to wait", NULL, command_task_enqueue,
          1, 1, NULL },
        { "task approve", "ID", "let a task run", comment_options, command_task_approve, 1, 1,
          NULL },
        { "task reject", "ID", "do not let it run", comment_options, command_task_reject, 1, 1,
          NULL },
        { "task pause", "ID --reason TEXT", "hold its runs and those below", reason_options,
          command_task_pause, 1, 1, NULL },
        { "task resume", "ID", "end its pause", NULL, command_task_resume, 1, 1, NULL },
        { "task delete", "ID", "delete a task", NULL, command_task_delete, 1, 1, NULL },
        { "task profile inspect", "ID", "who should work on a task, and how", NULL,
          command_profile_inspect, 1, 1, NULL },
        { "task profile update", "ID", "say who should, replacing what was said", profile_options,
          command_profile_update, 1, 1, NULL },
        { "task profile delete", "ID", "let it inherit everything", NULL, command_profile_delete, 1, 1,
          NULL },
        { "task triage", "read|archive|dismiss ID", "mark a task in your inbox", NULL,
          command_task_triage, 2, 2,
          "read: seen. archive: put away for good. dismiss: set aside until something new happens." },
        { "inbox", "", "list what you may have to look at", inbox_options, command_inbox, 0, 0, NULL },
        { "dashboard", "", "a workspace at a glance", NULL, command_dashboard, 0, 0, NULL },
        { "runs list", "", "list runs", runs_list_options, command_runs_list, 0, 0, NULL },
        { "runs get", "ID", "show a run", NULL, command_runs_get, 1, 1, NULL },
        { "runs inspect", "ID", "who holds it, what is wrong with it, what comes next", NULL,
          command_inspect, 1, 1, INSPECT_NOTES },
        { "runs steps", "ID", "list the steps of a run", NULL, command_runs_steps, 1, 1, NULL },
        { "runs logs", "ID", "print what its commands wrote", follow_options, command_runs_logs, 1,
          1, NULL },
        { "runs events", "ID", "list what happened in a run", events_options, command_runs_events,
          1, 1, NULL },
        { "runs cancel", "ID", "cancel a run", reason_options, command_runs_cancel, 1, 1, NULL },
        { "runs retry", "ID", "a new run after one that ended badly", NULL, command_runs_retry, 1,
          1, NULL },
        { "runs claim", "[ID]", "take the next run, or this one", claim_options, command_runs_claim, 0,
          1, "Exit status: 3 there is nothing to claim." },
        { "runs attach-session", "ID", "let a session take a run", attach_options,
          command_runs_attach_session, 1, 1, NULL },
        { "runs start", "ID", "say that its work has begun", start_options, command_runs_start, 1, 1,
          NULL },
        { "runs heartbeat", "ID", "prolong its lease", heartbeat_options, command_runs_heartbeat, 1, 1,
          NULL },
        { "runs complete", "ID", "end it well", complete_options, command_runs_complete, 1, 1, NULL },
        { "runs fail", "ID --error TEXT", "end it badly", fail_options, command_runs_fail, 1, 1, NULL },
        { "runs release", "ID", "give it back", release_options, command_runs_release, 1, 1, NULL },
        { "runs consume", "ID INPUT", "take an input of its task, once it is dealt with", start_options,
          command_runs_consume, 2, 2, NULL },
        { "runs force-release", "ID...", "take claimed runs from their holders", reason_options,
          command_runs_force_release, 1, 50, FORCE_NOTES },
        { "runs force-fail", "ID... --reason TEXT", "end runs, whatever they do", reason_options,
          command_runs_force_fail, 1, 50, FORCE_NOTES },
        { "runs recover", "ID", "take the attention mark from a run, and the run from a silent holder",
          reason_options, command_runs_recover, 1, 1, NULL },
        { "runs explain", "ID", "why it does not go on", NULL, command_runs_explain, 1, 1, NULL },
        { "approvals list", "", "list approvals", approvals_list_options, command_approvals_list, 0,
          0, NULL },
        { "approvals approve", "ID", "let a run go on", comment_options, command_approvals_approve,
          1, 1, NULL },
        { "approvals deny", "ID", "refuse", comment_options, command_approvals_deny, 1, 1, NULL },
        { "reviews list", "", "list reviews", reviews_list_options, command_reviews_list, 0, 0, NULL },
        { "reviews get", "ID", "show a review", NULL, command_reviews_get, 1, 1, NULL },
        { "reviews request", "RUN", "ask for a review of a run that has ended", reviews_request_options,
          command_reviews_request, 1, 1, NULL },
        { "reviews bind", "ID", "take a review, or give it to a session", reviews_bind_options,
          command_reviews_bind, 1, 1, NULL },
        { "reviews approve", "ID --reason TEXT", "the work is good", reviews_approve_options,
          command_reviews_approve, 1, 1, NULL },
        { "reviews reject", "ID --reason TEXT --missing TEXT", "something is missing: a run follows that adds it",
          reviews_reject_options, command_reviews_reject, 1, 1, NULL },
        { "reviews submit", "ID --outcome O --reason TEXT", "any other verdict", reviews_submit_options,
          command_reviews_submit, 1, 1, NULL },
        { "key create", "--name NAME --scopes A,B", "create a key; it is shown once",
          key_create_options, command_key_create, 0, 0, NULL },
        { "key list", "", "list keys", page_options, command_key_list, 0, 0, NULL },
        { "key revoke", "ID", "end the validity of a key", NULL, command_key_revoke, 1, 1, NULL },
        { "workspace create", "NAME", "create a workspace", workspace_create_options,
          command_workspace_create, 1, 1, NULL },
        { "workspace list", "", "list workspaces", page_options, command_workspace_list, 0, 0,
          NULL },
        { "workspace get", "ID", "show a workspace", NULL, command_workspace_get, 1, 1, NULL },
        { "workspace update", "ID", "change name, slug, quota, retention, channels or volume", workspace_update_options,
          command_workspace_update, 1, 1, NULL },
        { "workspace delete", "ID", "delete a workspace in which nothing is open", NULL,
          command_workspace_delete, 1, 1, NULL },
        { "scheduler status", "", "whether runs are handed out, and what waits", NULL,
          command_scheduler_status, 0, 0, NULL },
        { "scheduler pause", "", "hand out no run any more; what runs goes on", pause_options,
          command_scheduler_pause, 0, 0, NULL },
        { "scheduler resume", "", "hand out runs again", pause_options, command_scheduler_resume, 0,
          0, NULL },
        { "scheduler drain", "", "pause, and wait until no claim is active", drain_options,
          command_scheduler_drain, 0, 0,
          "The scheduler stays paused, also when this command is interrupted.\n"
          "Exit status: 0 no claim is active, 1 the time was over or the scheduler was resumed." },
        { "scheduler backlog", "", "list queued runs, most urgent first", backlog_options,
          command_scheduler_backlog, 0, 0, NULL },
        { "secret set", "NAME", "make or replace a secret; its value comes from standard input", NULL,
          command_secret_set, 1, 1,
          "On a terminal the value is asked for and not shown. A line end at its end is left out." },
        { "secret list", "", "list the names of secrets", page_options, command_secret_list, 0, 0,
          NULL },
        { "secret delete", "NAME", "delete a secret", NULL, command_secret_delete, 1, 1, NULL },
        { "webhook create", "URL", "send events to a URL; the secret is shown once",
          webhook_create_options, command_webhook_create, 1, 1, NULL },
        { "webhook list", "", "list webhooks", page_options, command_webhook_list, 0, 0, NULL },
        { "webhook get", "ID", "show a webhook", NULL, command_webhook_get, 1, 1, NULL },
        { "webhook update", "ID", "change, enable or disable a webhook", webhook_update_options,
          command_webhook_update, 1, 1, NULL },
        { "webhook delete", "ID", "delete a webhook", NULL, command_webhook_delete, 1, 1, NULL },
        { "webhook deliveries", "ID", "list what was sent and what waits",
          webhook_deliveries_options, command_webhook_deliveries, 1, 1, NULL },
        { "webhook replay", "ID DELIVERY", "send a delivery once more", NULL,
          command_webhook_replay, 2, 2, NULL },
        { "audit list", "", "list who changed what may be done", audit_list_options,
          command_audit_list, 0, 0, NULL },
        { "audit verify", "", "check that the audit log is as it was written", audit_verify_options,
          command_audit_verify, 0, 0,
          "Keep the head that it prints elsewhere: given with --head later, it shows that nothing\n"
          "was written anew since. Exit status: 0 the log is sound, 1 it is not." },
        { "db status", "", "engine, schema, size and rows of the database", db_status_options,
          command_db_status, 0, 0,
          "Asks no server. Exit status: 0 it has this program's schema, 1 migrations are pending,\n"
          "3 there is none, 5 it needs a newer program." },
        { "db migrate", "--plan|--apply", "bring the database to this program's schema", db_migrate_options,
          command_db_migrate, 0, 0,
          "A server does it at its start; this does it beforehand, all or nothing, while none runs that\n"
          "could not go on." },
        { "db backup", "FILE", "copy the database to a file, also while a server uses it", db_backup_options,
          command_db_backup, 1, 1,
          "The file is whole or not there. Keep secret.key of the data directory elsewhere: without it\n"
          "the secrets in the backup cannot be read. For PostgreSQL: pg_dump." },
        { "db restore", "FILE", "make a backup the database of a data directory, or verify it",
          db_restore_options, command_db_restore, 1, 1,
          "Looks at it first: pages, schema, rows that must agree, the chain of the audit log. Exit\n"
          "status: 0 it is sound, 1 it is not, 5 a server or a database is there." },
        { "db copy", "--to URL|FILE", "copy the database to another engine, and compare", db_copy_options,
          command_db_copy, 0, 0,
          "All tables in one snapshot, into one transaction: the target is filled or left as it was.\n"
          "Take secret.key and admin.key along." },
        { "config", "[options]", "print the server's options and where each comes from", NULL, NULL,
          0, 0, "Takes the options of baton serve, and -o json." },
        { "completion", "SHELL", "print a completion script for bash, zsh or fish", NULL,
          command_completion, 1, 1,
          "bash: source <(baton completion bash)\n"
          "zsh:  source <(baton completion zsh)\n"
          "fish: baton completion fish | source" },
        { "doctor", "[-o FORMAT] [options of serve]", "what this machine can do for a server", NULL,
          NULL, 0, 0,
          "Asks no server. Takes the options of `baton serve`, above all --data and --sandbox.\n"
          "Exit status: 0 all that is needed is there, 1 something is missing." },
        { "version", "", "print the version", NULL, command_version, 0, 0, NULL },
        { "help", "[COMMAND]", "this help", NULL, NULL, 0, 0, NULL },
        { 0 },
};

const struct command *cli_commands(void)
{
        return commands;
}

const struct cli_option *cli_common_options(void)
{
        return common_options;
}

bool command_below(const struct command *c, struct str words)
{
        return !words.n || (str_starts(str_from(c->words), words.p) &&
                            (c->words[words.n] == ' ' || c->words[words.n] == '\0'));
}
