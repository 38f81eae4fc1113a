-- Workers beside servers, and the volumes on which workspaces have their files.
--
-- min_compatible: 16

ALTER TABLE workspace ADD COLUMN volume TEXT; -- that of the worker that took a run of it first

ALTER TABLE server ADD COLUMN worker INTEGER NOT NULL DEFAULT 0; -- how many runs its worker performs at once
ALTER TABLE server ADD COLUMN volume TEXT;
