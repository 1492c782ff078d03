-- The list of a workspace's newest tasks, and the policies above, look tasks up by workspace.
CREATE INDEX tasks_newest_of_workspace ON foco.tasks (workspace_id, id DESC);
CREATE INDEX comments_of_task ON foco.comments (task_id);
