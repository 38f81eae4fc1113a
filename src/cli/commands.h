/*
 * The command table, and its functions by noun.  Help, parsing and completion are made from it: a command
 * is a row and a function.
 */
#ifndef BATON_CLI_COMMANDS_H
#define BATON_CLI_COMMANDS_H

#include "cli/command.h"

/* The command table, ends with NULL words; options that every command takes. */
const struct command *cli_commands(void);
const struct cli_option *cli_common_options(void);
/* Whether it begins with these words, NUL-terminated; no words: every command does. */
bool command_below(const struct command *, struct str words);

enum err command_run(struct cli *);

enum err command_definition_create(struct cli *);
enum err command_definition_list(struct cli *);
enum err command_definition_get(struct cli *);
enum err command_definition_validate(struct cli *);

enum err command_task_run(struct cli *);
enum err command_task_create(struct cli *);
enum err command_task_update(struct cli *);
enum err command_task_list(struct cli *);
enum err command_task_get(struct cli *);
enum err command_task_cancel(struct cli *);
enum err command_task_retry(struct cli *);
enum err command_task_child(struct cli *);
enum err command_task_publish(struct cli *);
enum err command_task_start(struct cli *);
enum err command_task_enqueue(struct cli *);
enum err command_task_approve(struct cli *);
enum err command_task_reject(struct cli *);
enum err command_task_pause(struct cli *);
enum err command_task_resume(struct cli *);
enum err command_task_delete(struct cli *);
enum err command_task_tree(struct cli *);
enum err command_task_depend(struct cli *);
enum err command_task_undepend(struct cli *);
enum err command_task_dependencies(struct cli *);
enum err command_task_triage(struct cli *);
enum err command_profile_inspect(struct cli *);
enum err command_profile_update(struct cli *);
enum err command_profile_delete(struct cli *);
enum err command_task_input(struct cli *);
enum err command_task_inputs(struct cli *);

enum err command_inbox(struct cli *);
enum err command_dashboard(struct cli *);

enum err command_runs_list(struct cli *);
enum err command_runs_get(struct cli *);
enum err command_runs_steps(struct cli *);
enum err command_runs_logs(struct cli *);
enum err command_runs_events(struct cli *);
enum err command_runs_cancel(struct cli *);
enum err command_runs_retry(struct cli *);
enum err command_runs_claim(struct cli *);
enum err command_runs_attach_session(struct cli *);
enum err command_runs_start(struct cli *);
enum err command_runs_heartbeat(struct cli *);
enum err command_runs_complete(struct cli *);
enum err command_runs_fail(struct cli *);
enum err command_runs_release(struct cli *);
enum err command_runs_consume(struct cli *);
enum err command_runs_force_release(struct cli *);
enum err command_runs_force_fail(struct cli *);
enum err command_runs_recover(struct cli *);
enum err command_runs_explain(struct cli *);

enum err command_inspect(struct cli *);

enum err command_approvals_list(struct cli *);
enum err command_approvals_approve(struct cli *);
enum err command_approvals_deny(struct cli *);

enum err command_reviews_list(struct cli *);
enum err command_reviews_get(struct cli *);
enum err command_reviews_request(struct cli *);
enum err command_reviews_bind(struct cli *);
enum err command_reviews_approve(struct cli *);
enum err command_reviews_reject(struct cli *);
enum err command_reviews_submit(struct cli *);

enum err command_key_create(struct cli *);
enum err command_key_list(struct cli *);
enum err command_key_revoke(struct cli *);

enum err command_scheduler_status(struct cli *);
enum err command_scheduler_pause(struct cli *);
enum err command_scheduler_resume(struct cli *);
enum err command_scheduler_drain(struct cli *);
enum err command_scheduler_backlog(struct cli *);

enum err command_audit_list(struct cli *);
enum err command_audit_verify(struct cli *);
/* The whole chain in a database, by its path or URL; in words where it is not sound, else absent. */
enum err audit_look(struct cli *, const char *database, struct str *fault) NODISCARD;

enum err command_db_status(struct cli *);
enum err command_db_migrate(struct cli *);
enum err command_db_backup(struct cli *);
enum err command_db_restore(struct cli *);
enum err command_db_copy(struct cli *);

enum err command_secret_set(struct cli *);
enum err command_secret_list(struct cli *);
enum err command_secret_delete(struct cli *);

enum err command_completion(struct cli *);
enum err command_version(struct cli *);

enum err command_webhook_create(struct cli *);
enum err command_webhook_list(struct cli *);
enum err command_webhook_get(struct cli *);
enum err command_webhook_update(struct cli *);
enum err command_webhook_delete(struct cli *);
enum err command_webhook_deliveries(struct cli *);
enum err command_webhook_replay(struct cli *);

enum err command_workspace_create(struct cli *);
enum err command_workspace_list(struct cli *);
enum err command_workspace_get(struct cli *);
enum err command_workspace_update(struct cli *);
enum err command_workspace_delete(struct cli *);

#endif
