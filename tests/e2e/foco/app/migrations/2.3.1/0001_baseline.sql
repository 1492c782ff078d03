-- The schema as 2.3.1 knows it: no row level security yet, the service alone keeps workspaces apart.
CREATE TABLE foco.organizations (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    slug       text NOT NULL,
    name       text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE foco.workspaces (
    id              text PRIMARY KEY,
    organization_id bigint NOT NULL REFERENCES foco.organizations
);

CREATE TABLE foco.tasks (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workspace_id text NOT NULL REFERENCES foco.workspaces,
    title        text NOT NULL,
    status       text NOT NULL CHECK (status IN ('open', 'done', 'archived')),
    legacy_tags  text,
    created_at   timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE foco.comments (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workspace_id text NOT NULL REFERENCES foco.workspaces,
    task_id      bigint NOT NULL REFERENCES foco.tasks ON DELETE CASCADE,
    body         text NOT NULL
);

GRANT USAGE ON SCHEMA foco TO foco_app, foco_monitor;
GRANT SELECT ON foco.organizations, foco.workspaces TO foco_app;
GRANT SELECT, INSERT, UPDATE ON foco.tasks, foco.comments TO foco_app;
GRANT SELECT ON ALL TABLES IN SCHEMA foco TO foco_monitor;
