"""Every request to Supabase is one that its own OpenAPI file describes, and so is every answer of
the fake."""

from __future__ import annotations

import time

from gatewright.core.model.operation import Operation
from gatewright.providers.registry import ACTIONS, CONNECTIONS, GATES
from gatewright.providers.supabase import action as actions
from tests.contract import specs, world
from tests.fakes.serving import linked, serving
from tests.fakes.supabase import PROJECT, Supabase, stamp

NOW = 1_800_000_000
QUESTIONS = [
    {"advisors": {}},
    {"backups": {"maxAge": "26h"}},
    {"health": {"services": ["db", "auth", "pooler"]}},
    {"query": {"sql": "select 1", "parameters": ["a"]}},
    {"query": {"sql": "select 1"}},
    {"apiKeys": {"name": "web", "newerThan": "1h"}},
]
ACTS = [
    {"restorePoint": {"name": "before-2.4"}},
    {"undo": {"name": "kept"}},
    {"restorePitr": {"to": "1700000000"}},
]


def filled() -> Supabase:
    """A project in which every question has an answer."""
    return Supabase(
        world.TOKEN,
        window={
            "earliest_physical_backup_date_unix": 1_690_000_000,
            "latest_physical_backup_date_unix": int(time.time()),
        },
        backups=[
            {"id": 1, "is_physical_backup": True, "status": "COMPLETED", "inserted_at": stamp(NOW)}
        ],
        services=[
            {"name": name, "healthy": True, "status": "ACTIVE_HEALTHY"}
            for name in ("db", "auth", "pooler")
        ],
        keys=[
            {"name": "web", "type": "secret", "inserted_at": stamp(NOW), "updated_at": stamp(NOW)}
        ],
        points={"kept": "AVAILABLE"},
        sql=lambda text, parameters: [{"value": 1}],
    )


async def test_requests_are_the_vendors() -> None:
    spec = specs.load("supabase")
    with specs.recorded() as calls:
        async with serving(filled().app()) as url:
            link = linked("supabase", {"url": url}, {"token": world.TOKEN})
            await CONNECTIONS["supabase"].check(link)
            gate = GATES["supabase"]
            for question in QUESTIONS:
                await gate.measure(
                    gate.config.model_validate({"project": PROJECT, **question}), link
                )
            action = ACTIONS["supabase"]
            for number, raw in enumerate(ACTS):
                config = action.config.model_validate({"project": PROJECT, **raw})
                operation = Operation(f"1.database.step.{number}-abcdef", "act", "supabase/step")
                await action.look(config, link)
                while (await action.perform(config, link, operation, None)).state != "Succeeded":
                    await action.follow(config, link, operation, None)
            await actions._database_started_at(PROJECT, link)
        assert {
            (call.request.method, call.request.url.path.rpartition("/")[2]) for call in calls
        } >= {
            ("POST", "undo"),
            ("POST", "restore-pitr"),
            ("POST", "restore-point"),
            ("GET", "restore-point"),
            ("POST", "secrets"),
            ("DELETE", "secrets"),
            ("GET", "secrets"),
            ("POST", "read-only"),
        }
        spec.require(calls, base=url)
        # what an unknown restore point is answered is the one thing that the file does not tell
        known = [call for call in calls if call.reply is not None and call.reply.status != 404]
        assert len(calls) - len(known) == 1
        spec.require(known, base=url, replies=True)
