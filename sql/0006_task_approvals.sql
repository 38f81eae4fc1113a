-- The approvals of tasks themselves, which have no run.
CREATE INDEX approval_task ON approval (task_id) WHERE run_id IS NULL;
