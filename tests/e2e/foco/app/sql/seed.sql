-- Some hundred rows of three customers. 'globex' and 'Globex' differ by case alone, as years of free text leave them.
\set ON_ERROR_STOP on
BEGIN;
INSERT INTO foco.organizations (slug, name)
VALUES ('acme', 'Acme'), ('globex', 'Globex Corporation'), ('Globex', 'Globex (old account)'), ('initech', 'Initech');

INSERT INTO foco.workspaces (id, organization_id)
SELECT w.id, o.id
FROM (VALUES ('acme', 'acme'), ('globex', 'globex'), ('globex-old', 'Globex'), ('initech', 'initech')) AS w (id, slug)
JOIN foco.organizations o USING (slug);

INSERT INTO foco.tasks (workspace_id, title, status, legacy_tags)
SELECT w.id,
       'Task ' || n || ' of ' || w.id,
       CASE n % 4 WHEN 0 THEN 'archived' WHEN 1 THEN 'done' ELSE 'open' END,
       CASE n % 3 WHEN 0 THEN 'tag-' || n % 5 END
FROM foco.workspaces w, generate_series(1, 100) AS n;

INSERT INTO foco.comments (workspace_id, task_id, body)
SELECT workspace_id, id, 'Comment on ' || title FROM foco.tasks WHERE id % 2 = 0;
COMMIT;
