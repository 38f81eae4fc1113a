-- No list reads what is of other workspaces.  Runs that wait or have ended are found by their status, the queued ones by
-- run_open, the leased ones by run_lease, all of a workspace by these two; approvals that are decided beside
-- approval_open.
--
-- min_compatible: 16

CREATE INDEX run_by_status ON run (workspace_id, status, id) WHERE status >= 4;
CREATE INDEX approval_of_workspace ON approval (workspace_id, id);
