-- A row belongs to the workspace that the transaction names in foco.workspace; 2.3.1 names it already, so this breaks
-- no query of the version that is still serving. A transaction that names none sees nothing.
ALTER TABLE foco.organizations ENABLE ROW LEVEL SECURITY;
ALTER TABLE foco.workspaces ENABLE ROW LEVEL SECURITY;
ALTER TABLE foco.tasks ENABLE ROW LEVEL SECURITY;
ALTER TABLE foco.comments ENABLE ROW LEVEL SECURITY;
ALTER TABLE foco.schema_migrations ENABLE ROW LEVEL SECURITY;

CREATE POLICY workspace_is_current ON foco.workspaces FOR SELECT TO foco_app
    USING (id = current_setting('foco.workspace', true));

CREATE POLICY organization_of_workspace ON foco.organizations FOR SELECT TO foco_app
    USING (EXISTS (SELECT FROM foco.workspaces w WHERE w.organization_id = organizations.id));

CREATE POLICY task_of_workspace ON foco.tasks TO foco_app
    USING (workspace_id = current_setting('foco.workspace', true))
    WITH CHECK (workspace_id = current_setting('foco.workspace', true));

CREATE POLICY comment_of_workspace ON foco.comments TO foco_app
    USING (workspace_id = current_setting('foco.workspace', true))
    WITH CHECK (workspace_id = current_setting('foco.workspace', true));

-- The monitor counts rows of all workspaces and changes none.
CREATE POLICY monitor_reads ON foco.organizations FOR SELECT TO foco_monitor USING (true);
CREATE POLICY monitor_reads ON foco.workspaces FOR SELECT TO foco_monitor USING (true);
CREATE POLICY monitor_reads ON foco.tasks FOR SELECT TO foco_monitor USING (true);
CREATE POLICY monitor_reads ON foco.comments FOR SELECT TO foco_monitor USING (true);
CREATE POLICY monitor_reads ON foco.schema_migrations FOR SELECT TO foco_monitor USING (true);
