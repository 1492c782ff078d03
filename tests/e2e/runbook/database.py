"""PostgreSQL as Supabase has it, with a database for each scene: tables with policies, and rows
enough for a backup."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.contract import world
from tests.e2e.runbook.seeds import SEEDS

ROWS = 6000
"""Of the largest table: its backup is as large as the sample's proof wants it."""
PROTECTED = "SELECT relrowsecurity FROM pg_class WHERE oid = 'public.tasks'::regclass"
COLUMNS = """
    SELECT string_agg(column_name, ' ' ORDER BY ordinal_position) FROM information_schema.columns
    WHERE table_schema = 'public' AND table_name = 'tasks'
"""


@dataclass(frozen=True)
class Database:
    """A database of its own in the PostgreSQL that all share."""

    server: world.Postgres
    address: str
    name: str

    @property
    def url(self) -> str:
        """For the role that Gatewright has."""
        return self._led(self.server.url(database=self.name))

    @property
    def owners_url(self) -> str:
        """For the Jobs that migrate."""
        return self._led(self.server.url("owner", SEEDS["owner"], self.name))

    def _led(self, url: str) -> str:
        return url.replace("@127.0.0.1:", f"@{self.address}:")

    def run(self, *statements: str) -> None:
        """As the administrator."""
        with self.server.admin(self.name) as admin:
            for statement in statements:
                admin.execute(statement)

    def ask(self, query: str) -> Any:
        """The first value of the answer."""
        with self.server.admin(self.name) as admin:
            row = admin.execute(query).fetchone()
            return row[0] if row else None


@contextlib.contextmanager
def postgres(address: str) -> Iterator[world.Postgres]:
    """PostgreSQL as Supabase has it, as far as it is looked at, for this machine and for pods."""
    more = (
        "max_connections=200",
        "shared_preload_libraries=pg_stat_statements",
        f"listen_addresses=127.0.0.1,{address}",
    )
    with world.postgres(*more) as server:
        with server.admin() as admin:
            admin.execute("GRANT pg_read_all_stats TO reader")
            admin.execute(f"CREATE ROLE owner LOGIN PASSWORD '{SEEDS['owner']}'")
            (rules,) = admin.execute("SHOW hba_file").fetchone() or ("",)
            with Path(rules).open("a") as file:
                file.write("host all all all scram-sha-256\n")
            admin.execute("SELECT pg_reload_conf()")
        yield server


def database(server: world.Postgres, address: str, name: str) -> Database:
    """Make a database with three tables and their policies."""
    with server.admin() as admin:
        admin.execute(f'CREATE DATABASE "{name}"')
    made = Database(server, address, name)
    made.run("CREATE EXTENSION pg_stat_statements", "GRANT CREATE ON SCHEMA public TO owner")
    tables = {
        "tasks": "workspace members",
        "organizations": "organization members",
        "workspaces": "members",
    }
    for table, policy in tables.items():
        made.run(
            f"CREATE TABLE public.{table} (id int primary key, workspace int, title text)",
            f"ALTER TABLE public.{table} OWNER TO owner",
            f"ALTER TABLE public.{table} ENABLE ROW LEVEL SECURITY",
            f'CREATE POLICY "{policy}" ON public.{table} USING (workspace = 1)',
        )
    made.run(
        "INSERT INTO public.tasks SELECT n, n % 4, repeat(md5(n::text), 6) FROM "
        f"generate_series(1, {ROWS}) AS n"
    )
    return made
