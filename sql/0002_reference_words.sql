-- A reference keeps the word by which the steps name it, so that a name given to another definition
-- later does not change what they mean.  Rows from before have none and are found by name.
-- min_compatible: 1

ALTER TABLE definition_reference ADD COLUMN word TEXT;
