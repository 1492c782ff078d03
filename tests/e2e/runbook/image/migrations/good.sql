ALTER TABLE public.tasks ADD COLUMN IF NOT EXISTS priority int NOT NULL DEFAULT 0;
CREATE INDEX IF NOT EXISTS tasks_by_priority ON public.tasks (workspace, priority);
