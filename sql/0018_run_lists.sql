-- Runs that wait or have ended, by their status.  The queued ones of a workspace are found by run_open, the leased
-- ones by run_lease, all of it by these two: no list reads the runs of other workspaces.
--
-- min_compatible: 16

CREATE INDEX run_by_status ON run (workspace_id, status, id) WHERE status >= 4;
