"""The orchestrator on a real PostgreSQL: what migrations do, and that a restore really brings
everything back."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.e2e.foco import host as stand_in
from tests.e2e.foco.host import Host, Ran, Service

TABLES = ("organizations", "workspaces", "tasks", "comments", "schema_migrations")
WITHOUT_RLS = (
    "SELECT relname FROM pg_class WHERE relnamespace = 'foco'::regnamespace AND relkind "
    "= 'r' AND NOT relrowsecurity"
)


def done(ran: Ran) -> Ran:
    assert ran.code == 0, ran.text
    return ran


def contents(host: Host) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table, and the definition of every object, as one comparable value."""
    rows = {table: host.sql(f"SELECT t::text FROM foco.{table} t ORDER BY 1") for table in TABLES}
    dump = subprocess.run(
        ["pg_dump", "--schema-only", "--schema=foco", host.url("owner")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    # Newer minor versions put a random token on their first and last lines.
    lines = [
        (line,) for line in dump.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))
    ]
    sequences = host.sql(
        "SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = 'foco' ORDER BY 1"
    )
    return {**rows, "definitions": lines, "sequences": sequences}


@contextmanager
def session(host: Host, role: str, *statements: str) -> Iterator[psycopg.Connection]:
    """A session that leaves its transaction open, as a forgotten console does."""
    connection = psycopg.connect(host.url(role))
    try:
        for statement in statements:
            connection.execute(statement.encode())
        yield connection
    finally:
        connection.close()


# -- migrate
# ---------------------------------------------------------------------------------------------------
def test_2_4_0_turns_row_level_security_on_everywhere(database: Host) -> None:
    assert len(database.sql(WITHOUT_RLS)) == 5
    ran = done(database.orchestrate("migrate", "2.4.0"))
    assert ran.outputs == {
        "version": "2.4.0",
        "applied": "0002_row_level_security 0003_newest_tasks_index",
    }
    assert database.sql(WITHOUT_RLS) == []
    assert done(database.orchestrate("verify", "2.4.0")).outputs == {
        "version": "2.4.0",
        "checks": 12,
    }


def test_migrating_again_changes_nothing(database: Host) -> None:
    done(database.orchestrate("migrate", "2.4.0"))
    before = contents(database)
    assert done(database.orchestrate("migrate", "2.4.0")).outputs["applied"] == ""
    assert contents(database) == before


def test_two_migrations_at_once_apply_each_file_once(database: Host) -> None:
    rans: list[Ran] = []
    threads = [
        threading.Thread(target=lambda: rans.append(database.orchestrate("migrate", "2.5.0")))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [ran.code for ran in rans] == [0, 0, 0], [ran.text for ran in rans]
    applied = sorted(name for ran in rans for name in ran.outputs["applied"].split())
    assert applied == ["0002_row_level_security", "0003_newest_tasks_index", "0004_task_assignee"]


def test_a_migration_waits_for_a_busy_table_but_not_for_ever(database: Host) -> None:
    with session(database, "owner", "LOCK TABLE foco.tasks IN ACCESS EXCLUSIVE MODE") as blocker:
        # Longer than lock_timeout, shorter than all attempts.
        timer = threading.Timer(4, blocker.close)
        timer.start()
        ran = database.orchestrate("migrate", "2.4.0")
        timer.join()
    assert done(ran).text.count("55P03") >= 1


def test_an_applied_file_that_changed_is_refused(database: Host) -> None:
    database.sql("UPDATE foco.schema_migrations SET checksum = 'other'")
    ran = database.orchestrate("migrate", "2.4.0")
    assert ran.code == 1
    assert ran.outputs["failed"] == "0001_baseline"
    assert len(database.sql(WITHOUT_RLS)) == 5


def test_users_notice_nothing_while_2_4_0_migrates(database: Host, web: Service) -> None:
    answers: list[int] = []
    stop = threading.Event()

    def use() -> None:
        while not stop.is_set():
            answers.append(
                stand_in.call(f"{web.url}/api/tasks", "POST", {"title": "while migrating"})[0]
            )
            answers.append(stand_in.call(f"{web.url}/api/tasks")[0])

    users = [threading.Thread(target=use) for _ in range(3)]
    for thread in users:
        thread.start()
    done(database.orchestrate("migrate", "2.4.0"))
    stop.set()
    for thread in users:
        thread.join()
    assert len(answers) > 20
    assert set(answers) == {200, 201}


# -- what the service's role may see
# ---------------------------------------------------------------------------
def test_the_service_sees_its_workspace_alone(database: Host) -> None:
    done(database.orchestrate("migrate", "2.4.0"))
    with session(
        database, "app", "SELECT set_config('foco.workspace', 'acme', false)"
    ) as connection:
        assert connection.execute("SELECT DISTINCT workspace_id FROM foco.tasks").fetchall() == [
            ("acme",)
        ]
        assert connection.execute("SELECT slug FROM foco.organizations").fetchall() == [("acme",)]
        moved = connection.execute(
            "UPDATE foco.tasks SET title = 'x' WHERE workspace_id = 'initech'"
        )
        assert moved.rowcount == 0
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(
                "INSERT INTO foco.tasks (workspace_id, title, status) VALUES ('initech', "
                "'x', 'open')"
            )


def test_without_a_workspace_the_service_sees_nothing(database: Host) -> None:
    done(database.orchestrate("migrate", "2.4.0"))
    assert database.sql("SELECT count(*) FROM foco.tasks", "app") == [(0,)]


def test_the_monitor_counts_and_cannot_change(database: Host) -> None:
    done(database.orchestrate("migrate", "2.4.0"))
    assert database.sql("SELECT count(*) FROM foco.tasks", "monitor") == [(400,)]
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        database.sql("DELETE FROM foco.tasks", "monitor")
    with (
        session(
            database, "monitor", "SET default_transaction_read_only = off", "COMMIT"
        ) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("DELETE FROM foco.tasks")


# -- verify
# ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        ("ALTER TABLE foco.comments DISABLE ROW LEVEL SECURITY", "row-level-security-everywhere"),
        ("DROP POLICY task_of_workspace ON foco.tasks", "own-rows-visible"),
        ("CREATE POLICY open ON foco.tasks TO foco_app USING (true)", "other-workspaces-hidden"),
        ("DELETE FROM foco.schema_migrations WHERE version = '2.4.0'", "migrations-applied"),
        (
            "ALTER TABLE foco.tasks ADD CONSTRAINT short CHECK (length(title) < 99) NOT VALID",
            "constraints-validated",
        ),
    ],
)
def test_verify_names_what_is_wrong(database: Host, damage: str, finding: str) -> None:
    done(database.orchestrate("migrate", "2.4.0"))
    database.sql(damage)
    ran = database.orchestrate("verify", "2.4.0")
    assert (ran.code, ran.outputs["failed"]) == (1, finding)


# -- backup, the half-way migration, restore
# --------------------------------------------------------------------
def test_2_6_0_fails_half_way_and_only_the_restore_brings_rows_back(
    database: Host, web: Service
) -> None:
    done(database.orchestrate("migrate", "2.4.0"))
    before = contents(database)
    backup = done(database.orchestrate("backup", "2.6.0"))
    assert backup.outputs["tables"] == 5
    assert backup.outputs["bytes"] > 1000

    ran = database.orchestrate("migrate", "2.6.0")
    assert ran.code == 1
    assert ran.outputs["failed"] == "0006_unique_organization_slugs"
    assert ran.outputs["reason"].startswith("23505")
    # The first of the two files stands: rows and a column are gone. Of the second there is no
    # trace.
    assert database.sql("SELECT count(*) FROM foco.tasks WHERE status = 'archived'") == [(0,)]
    with pytest.raises(psycopg.errors.UndefinedColumn):
        database.sql("SELECT legacy_tags FROM foco.tasks")
    assert database.sql("SELECT slug FROM foco.organizations WHERE slug = 'Globex'") == [
        ("Globex",)
    ]
    assert database.sql("SELECT max(name) FROM foco.schema_migrations") == [
        ("0005_archive_cleanup",)
    ]
    assert database.orchestrate("verify", "2.6.0").outputs["failed"] == "migrations-applied"

    restored = done(database.orchestrate("rollback", "2.6.0", BACKUP_ID=backup.outputs["id"]))
    assert restored.outputs == {
        "id": backup.outputs["id"],
        "tables": 5,
        "rows": backup.outputs["rows"],
    }
    assert contents(database) == before
    done(database.orchestrate("verify", "2.4.0"))
    # The service was cut off by the restore and goes on without a restart.
    assert done(database.smoke(web, EXPECT_VERSION="2.3.1")).outputs["passed"] == 6


def test_a_restore_may_be_repeated(database: Host) -> None:
    backup = done(database.orchestrate("backup", "2.4.0"))
    before = contents(database)
    for _ in range(2):
        done(database.orchestrate("rollback", "2.4.0", BACKUP_ID=backup.outputs["id"]))
        assert contents(database) == before


def test_a_restore_ends_sessions_that_hold_locks_and_removes_what_was_added(database: Host) -> None:
    backup = done(database.orchestrate("backup", "2.4.0"))
    database.sql(
        "CREATE TABLE foco.added (x int); ALTER TABLE foco.added ENABLE ROW LEVEL SECURITY"
    )
    with (
        session(database, "app", "SELECT count(*) FROM foco.tasks"),
        session(
            database, "owner", "LOCK TABLE foco.organizations", "SELECT pg_advisory_xact_lock(2451)"
        ),
    ):
        done(database.orchestrate("rollback", "2.4.0", BACKUP_ID=backup.outputs["id"]))
    assert database.sql("SELECT to_regclass('foco.added')") == [(None,)]


def test_a_restore_under_traffic(database: Host, web: Service) -> None:
    done(database.orchestrate("migrate", "2.4.0"))
    backup = done(database.orchestrate("backup", "2.4.0"))
    traffic = database.start_traffic(web, rate=60)
    for _ in range(3):
        done(database.orchestrate("rollback", "2.4.0", BACKUP_ID=backup.outputs["id"]))
    database.end(traffic)
    done(database.smoke(web))


def test_a_named_backup_is_taken_once(database: Host) -> None:
    """A Job that is tried again after the migration must not put the migrated state in place of the
    old."""
    name = f"run-{time.time_ns()}"
    first = done(database.orchestrate("backup", "2.6.0", BACKUP_NAME=name)).outputs
    database.orchestrate("migrate", "2.6.0")
    assert done(database.orchestrate("backup", "2.6.0", BACKUP_NAME=name)).outputs == first
    done(database.orchestrate("rollback", "2.6.0", BACKUP_ID=name))
    assert database.sql("SELECT count(*) FROM foco.tasks WHERE status = 'archived'") == [(100,)]


def test_half_a_backup_is_not_taken_for_a_whole_one(database: Host) -> None:
    """The store got a dump and no manifest: that attempt died, and the next one makes its own."""
    name = f"run-{time.time_ns()}"
    (database.directory / "backups" / f"{name}.dump").write_bytes(b"half")
    outputs = done(database.orchestrate("backup", "2.4.0", BACKUP_NAME=name)).outputs
    assert outputs["id"] != name
    done(database.orchestrate("rollback", "2.4.0", BACKUP_ID=outputs["id"]))


def test_a_damaged_backup_is_refused_before_anything_is_touched(database: Host) -> None:
    backup = done(database.orchestrate("backup", "2.4.0")).outputs["id"]
    with (database.directory / "backups" / f"{backup}.dump").open("r+b") as file:
        file.seek(200)
        file.write(b"damage")
    before = contents(database)
    ran = database.orchestrate("rollback", "2.4.0", BACKUP_ID=backup)
    assert (ran.code, ran.outputs["failed"]) == (1, "prove")
    assert contents(database) == before


def test_a_restore_that_brings_other_rows_leaves_everything_as_it_was(database: Host) -> None:
    backup = done(database.orchestrate("backup", "2.4.0")).outputs["id"]
    manifest = database.directory / "backups" / f"{backup}.json"
    data = json.loads(manifest.read_text())
    data["rows"]["tasks"] += 1
    manifest.write_text(json.dumps(data))
    database.sql("DELETE FROM foco.comments")
    before = contents(database)
    ran = database.orchestrate("rollback", "2.4.0", BACKUP_ID=backup)
    assert ran.code == 1
    assert "came back with 400 rows" in ran.outputs["reason"]
    assert contents(database) == before


@pytest.mark.parametrize(
    ("env", "failed"),
    [({}, "BACKUP_ID"), ({"BACKUP_ID": "no-such"}, "BACKUP_ID"), ({"BACKUP_ID": ""}, "BACKUP_ID")],
)
def test_a_restore_needs_a_backup_that_is_there(
    database: Host, env: dict[str, str], failed: str
) -> None:
    ran = database.orchestrate("rollback", "2.4.0", **env)
    assert (ran.code, ran.outputs["failed"]) == (1, failed)


def test_the_store_refuses_strangers(database: Host) -> None:
    ran = database.orchestrate("backup", "2.4.0", BACKUP_STORE_TOKEN="wrong")
    assert ran.code == 1
    assert "401" in ran.outputs["reason"]


def test_nothing_says_a_password(database: Host) -> None:
    backup = database.orchestrate("backup", "2.6.0")
    rans = [
        backup,
        database.orchestrate("migrate", "2.6.0"),
        database.orchestrate("verify", "2.6.0"),
        database.orchestrate("rollback", "2.6.0", BACKUP_ID=backup.outputs["id"]),
        database.orchestrate(
            "migrate", "2.6.0", DATABASE_URL=database.url("owner").replace("/foco", "/nowhere")
        ),
    ]
    said = "".join(ran.text for ran in rans) + database.log("postgres") + database.log("store")
    assert "nowhere" in said
    for secret in (*database.passwords.values(), database.token):
        assert secret not in said
