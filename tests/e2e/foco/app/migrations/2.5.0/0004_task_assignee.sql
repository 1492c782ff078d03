-- Assignment: a column the versions before do not know, and do not mind; an assigned task is changed by its assignee.
ALTER TABLE foco.tasks ADD COLUMN assignee text;

CREATE POLICY task_changed_by_assignee ON foco.tasks AS RESTRICTIVE FOR UPDATE TO foco_app
    USING (assignee IS NULL OR assignee = current_setting('foco.user', true));
