-- What follows from other rows is not written a second time: a tree's last number is that of its
-- last event, a task's current run is its newest root run while that is under way.

DROP TABLE tree;
ALTER TABLE task DROP COLUMN current_run_id;
