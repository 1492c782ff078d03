"""Is the database what a version needs? Each check counts what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from focomx.migrations import parsed, wanted
from focomx.owner import Connection, FailedError, connected

_RLS_SINCE = (2, 4, 0)

_OURS = "relnamespace = 'foco'::regnamespace"
_CHECKS = (
    (
        "constraints-validated",
        (
            "SELECT count(*) FROM pg_constraint WHERE connamespace = 'foco'::regnamespace AND "
            "NOT convalidated"
        ),
    ),
    (
        "indexes-valid",
        (
            "SELECT count(*) FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE "
            f"{_OURS} AND NOT indisvalid"
        ),
    ),
    (
        "tasks-have-workspaces",
        (
            "SELECT count(*) FROM foco.tasks t LEFT JOIN foco.workspaces w ON w.id = "
            "workspace_id WHERE w.id IS NULL"
        ),
    ),
    (
        "comments-have-tasks",
        (
            "SELECT count(*) FROM foco.comments c LEFT JOIN foco.tasks t ON t.id = task_id "
            "WHERE t.id IS NULL"
        ),
    ),
    (
        "service-role-is-plain",
        "SELECT count(*) FROM pg_roles WHERE rolname = 'foco_app' AND (rolsuper OR rolbypassrls)",
    ),
    (
        "service-role-owns-nothing",
        f"SELECT count(*) FROM pg_class WHERE {_OURS} AND relowner <> 'foco_owner'::regrole",
    ),
)
# For the versions since 2.4.0.
_RLS_CHECKS = (
    (
        "row-level-security-everywhere",
        f"SELECT count(*) FROM pg_class WHERE {_OURS} AND relkind = 'r' AND NOT relrowsecurity",
    ),
    (
        "policies-everywhere",
        f"SELECT count(*) FROM pg_class WHERE {_OURS} AND relkind = 'r'"
        " AND NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = pg_class.oid)",
    ),
)
_OWN_AND_FOREIGN = """
    SELECT count(*) FILTER (WHERE workspace_id = %(own)s), count(*) FILTER (WHERE workspace_id <> %(own)s)
    FROM foco.tasks
"""


def _isolation(connection: Connection) -> list[tuple[str, int]]:
    """As the service's own role: what another workspace's rows look like from here. Nothing is left
    behind."""
    with connection.transaction(force_rollback=True):
        (workspace,) = connection.execute("SELECT min(id) FROM foco.workspaces").fetchone() or (
            None,
        )
        connection.execute("SET LOCAL ROLE foco_app")
        connection.execute("SELECT set_config('foco.workspace', %s, true)", (workspace,))
        (own, foreign) = connection.execute(_OWN_AND_FOREIGN, {"own": workspace}).fetchone() or (
            0,
            0,
        )
        connection.execute("SELECT set_config('foco.workspace', '', true)")
        (unnamed,) = connection.execute("SELECT count(*) FROM foco.tasks").fetchone() or (1,)
    return [
        ("own-rows-visible", int(own == 0)),
        ("other-workspaces-hidden", foreign),
        ("no-workspace-no-rows", unnamed),
    ]


def _findings(connection: Connection, version: str) -> Iterator[tuple[str, int]]:
    applied = {
        row[0]: row[1]
        for row in connection.execute("SELECT name, checksum FROM foco.schema_migrations")
    }
    expected = {migration.name: migration.checksum for migration in wanted(version)}
    yield (
        "migrations-applied",
        sum(1 for name, checksum in expected.items() if applied.get(name) != checksum),
    )
    protected = parsed(version) >= _RLS_SINCE
    for name, query in (*_CHECKS, *(_RLS_CHECKS if protected else ())):
        (wrong,) = connection.execute(query.encode()).fetchone() or (1,)
        yield name, wrong
    if protected:
        yield from _isolation(connection)


def verify(env: Mapping[str, str]) -> dict[str, Any]:
    checks = 0
    with connected("verify") as connection:
        connection.execute("SET statement_timeout = '30s'")
        for name, wrong in _findings(connection, env["APP_VERSION"]):
            if wrong:
                raise FailedError(name, f"{wrong} found, 0 wanted")
            print(f"ok {name}", flush=True)
            checks += 1
    return {"version": env["APP_VERSION"], "checks": checks}
