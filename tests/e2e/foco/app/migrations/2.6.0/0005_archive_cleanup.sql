-- Contract step: archived tasks go (their comments with them), tags move into the title, the old column is dropped.
-- This destroys data and commits. Once 0006 has failed, only the backup has these rows.
DELETE FROM foco.tasks WHERE status = 'archived';
UPDATE foco.tasks SET title = title || ' #' || legacy_tags WHERE legacy_tags IS NOT NULL;
ALTER TABLE foco.tasks DROP COLUMN legacy_tags;
