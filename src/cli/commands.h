/* The functions of the command table, by noun. */
#ifndef BATON_CLI_COMMANDS_H
#define BATON_CLI_COMMANDS_H

#include "cli/command.h"

enum err command_run(struct cli *);

enum err command_definition_create(struct cli *);
enum err command_definition_list(struct cli *);
enum err command_definition_get(struct cli *);
enum err command_definition_validate(struct cli *);

enum err command_task_run(struct cli *);
enum err command_task_create(struct cli *);
enum err command_task_list(struct cli *);
enum err command_task_get(struct cli *);
enum err command_task_cancel(struct cli *);
enum err command_task_retry(struct cli *);

enum err command_runs_list(struct cli *);
enum err command_runs_get(struct cli *);
enum err command_runs_steps(struct cli *);
enum err command_runs_logs(struct cli *);
enum err command_runs_events(struct cli *);
enum err command_runs_cancel(struct cli *);
enum err command_runs_retry(struct cli *);
enum err command_runs_explain(struct cli *);

enum err command_approvals_list(struct cli *);
enum err command_approvals_approve(struct cli *);
enum err command_approvals_deny(struct cli *);

enum err command_key_create(struct cli *);
enum err command_key_list(struct cli *);
enum err command_key_revoke(struct cli *);

enum err command_secret_set(struct cli *);
enum err command_secret_list(struct cli *);
enum err command_secret_delete(struct cli *);

enum err command_completion(struct cli *);

enum err command_workspace_create(struct cli *);
enum err command_workspace_list(struct cli *);
enum err command_workspace_get(struct cli *);

#endif
