"""One of each system that the sample names, and foco.mx itself, which is whatever Vercel's
production is.

    foco.mx  <- Vercel (deployments, variables, numbers)      Sentry, GitHub, Supabase's API: tests/fakes
    PostgreSQL, Redis behind Upstash's REST API: real         Slack: emulate; PagerDuty, Statuspage: tests/fakes

All are served by this process, at an address that pods reach.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.contract import world
from tests.e2e.runbook.database import Database, database
from tests.e2e.runbook.seeds import SEEDS
from tests.e2e.runbook.services import Backups, OpenAI, Registry, Site
from tests.fakes.flags import Ofrep
from tests.fakes.github import Github
from tests.fakes.pagerduty import Pagerduty
from tests.fakes.redis_server import RedisServer, redis_server
from tests.fakes.sentry import Sentry
from tests.fakes.slack import Between
from tests.fakes.statuspage import Statuspage
from tests.fakes.supabase import PROJECT, Supabase, stamp
from tests.fakes.upstash import Upstash
from tests.fakes.vercel import Vercel
from tests.harness.loop import Background

OLD, NEW = "2.3.1", "2.4.0"
FLAGS = ("NEXT_PUBLIC_ENABLE_VOICE_SYSTEM", "NEXT_PUBLIC_ENABLE_CRICO")
PREFIX = "foco:cache:"


@dataclass
class Foco:
    """Everything around one Release."""

    background: Background
    address: str
    """Of this machine, as pods see it."""
    database: Database
    redis: RedisServer
    workspace: str
    """Base URL of the Slack workspace that all share."""
    urls: dict[str, str] = field(default_factory=dict)
    """By the name of the sample's Connection."""

    def __post_init__(self) -> None:
        self.vercel = Vercel(
            token=SEEDS["vercel"], bypass=SEEDS["bypass"], phases=["BUILDING", "READY"]
        )
        self.vercel.jobs = ["pending", "succeeded"]
        self.vercel.host = self.address
        self.supabase = Supabase(SEEDS["supabase"])
        self.github, self.sentry = Github(SEEDS["github"]), Sentry(SEEDS["sentry"])
        self.site = Site(self.vercel, SEEDS["site"])
        self.upstash = Upstash(self.redis, SEEDS["upstash"])
        self.openai = OpenAI({SEEDS["openai-old"]})
        beta: dict[str, Any] = {"beta-user@foco.mx": True, "*": False}
        self.beta = Ofrep(SEEDS["beta"], {"voice-system": dict(beta), "crico": dict(beta)})
        self.backups, self.registry = Backups(SEEDS["backups"]), Registry()
        self.slack = Between(self.workspace)
        self.pagerduty, self.statuspage = (
            Pagerduty(SEEDS["pagerduty"]),
            Statuspage(SEEDS["statuspage"]),
        )
        self._fill()

    def _fill(self) -> None:
        for name in (
            "lint",
            "type-check",
            "unit",
            "integration",
            "e2e",
            "build",
            "migrate-staging",
        ):
            self.github.check(name, "success")
        self.github.labels |= {"P0", "user-report"}
        day = time.time() - 3600
        self.supabase.backups = [
            {"id": 1, "is_physical_backup": True, "status": "COMPLETED", "inserted_at": stamp(day)}
        ]
        self.supabase.pitr = False
        self.supabase.services = [
            {"name": name, "healthy": True, "status": "ACTIVE_HEALTHY"}
            for name in ("db", "auth", "rest")
        ]
        self.supabase.keys = [
            {"id": "1", "type": "secret", "name": "service_role", "prefix": "sb_", **_made(30)}
        ]
        self._number(0.0, 42.0, 1200.0)
        for key, value, kind in (
            ("NEXT_PUBLIC_SUPABASE_URL", f"https://{PROJECT}.supabase.co", "plain"),
            ("NEXT_PUBLIC_SUPABASE_ANON_KEY", SEEDS["anon"], "encrypted"),
            ("SUPABASE_SERVICE_ROLE_KEY", SEEDS["role-old"], "sensitive"),
            ("OPENAI_API_KEY", SEEDS["openai-old"], "sensitive"),
            ("NEXT_PUBLIC_APP_VERSION", OLD, "plain"),
        ):
            self.vercel.set(key, value, kind)

    def _number(self, failed: float, duration: float, lcp: float) -> None:
        """Of 1000 requests; milliseconds."""
        invoked, painted = "vercel.function_invocation", "vercel.speed_insights"
        self.vercel.metrics |= {
            ("vercel.request.count", "sum"): 1000,
            ("vercel.request.count", "sum|http_status ge 500"): failed,
            (f"{invoked}.count", "sum"): 1000,
            (f"{invoked}.function_duration_ms", "avg"): duration,
            (f"{invoked}.function_duration_ms", "p95"): duration * 5,
            (f"{painted}.lcp_count", "sum"): 500,
            (f"{painted}.lcp_ms", "p95"): lcp,
        }

    def slow_pages(self, slow: bool) -> None:
        """Pages load in 3.5 s, or in 1.2 s."""
        self.vercel.metrics["vercel.speed_insights.lcp_ms", "p95"] = 3500.0 if slow else 1200.0

    def rotate(self, revoke: bool = True) -> None:
        """What a person does at Vercel, Supabase and OpenAI, but for the Secrets of the cluster."""
        self.openai.keys.add(SEEDS["openai-new"])
        if revoke:
            self.openai.keys.discard(SEEDS["openai-old"])
        self.supabase.keys[0] |= _made(0)
        self.vercel.set("SUPABASE_SERVICE_ROLE_KEY", SEEDS["role-new"], "sensitive", age=0)
        self.vercel.set("OPENAI_API_KEY", SEEDS["openai-new"], "sensitive", age=0)

    def channel_id(self, name: str) -> str:
        """The ID of a channel of the workspace."""
        request = urllib.request.Request(
            f"{self.workspace}/api/conversations.list",
            b"{}",
            {"Authorization": f"Bearer {SEEDS['slack']}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return next(
                str(item["id"]) for item in json.load(answer)["channels"] if item["name"] == name
            )

    @property
    def messages(self) -> str:
        """All that anybody was told, and every mark that was left with a vendor."""
        told = [
            self.slack.calls,
            self.pagerduty.alerts,
            self.pagerduty.changes,
            self.statuspage.incidents,
        ]
        marks = [item.meta for item in self.vercel.deployments.values()]
        comments = [item.get("comment") for item in self.vercel.env.values()]
        said = [
            self.vercel.asked,
            self.github.deployments,
            self.github.states,
            self.sentry.releases,
            self.sentry.deploys,
        ]
        return repr([*told, marks, comments, *said, list(self.supabase.secrets)])

    # --- opening

    def open(self) -> None:
        """Serve all of them, with 2.3.1 in production."""
        self._runners: list[web.AppRunner] = []
        apps = {
            "vercel": self.vercel.app(),
            "supabase": self.supabase.app(),
            "github": self.github.app(),
            "sentry": self.sentry.app(),
            "site": self.site.app(),
            "cache": self.upstash.app(),
            "openai": self.openai.app(),
            "beta-users": self.beta.app(),
            "slack": self.slack.app(),
            "on-call": self.pagerduty.app(),
            "status-page": self.statuspage.app(),
            "backups": self.backups.app(),
            "npm": self.registry.app(),
        }
        below = {"openai": "/v1", "slack": "/api", "status-page": "/v1"}
        for name, app in apps.items():
            self.urls[name] = self.background.run(self._serve(app)) + below.get(name, "")
        self.urls["openai-before-rotation"] = self.urls["openai"]
        self.background.run(self.vercel.add(OLD))
        self.sentry.releases[f"foco@{OLD}"] = {
            "version": f"foco@{OLD}",
            "projects": [],
            "dateReleased": stamp(0),
        }
        for number in range(50):
            self.redis.do("SET", f"{PREFIX}{number}", "cached")
        self.redis.do("SET", "foco:session:1", "kept")
        self._ended = threading.Event()
        self._visitors = threading.Thread(target=self._visit, daemon=True)
        self._visitors.start()

    async def _serve(self, app: web.Application) -> str:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        self._runners.append(runner)
        await web.TCPSite(runner, self.address, 0).start()
        return f"http://{self.address}:{runner.addresses[0][1]}"

    def _visit(self) -> None:
        """Visitors of the site, whose sessions are cached and whose tasks are read."""
        with (
            self.redis.session() as session,
            self.database.server.admin(self.database.name) as tasks,
        ):
            while not self._ended.wait(0.2):
                tasks.execute("SELECT count(*) FROM public.tasks")
                session.do("MGET", *["foco:session:1"] * 60)

    def close(self) -> None:
        """Stop serving."""
        self._ended.set()
        self._visitors.join(5)
        for runner in self._runners:
            self.background.run(runner.cleanup())


def _made(days: float) -> dict[str, str]:
    at = stamp(time.time() - days * 86_400)
    return {"inserted_at": at, "updated_at": at}


@contextlib.contextmanager
def standins(
    background: Background, address: str, server: world.Postgres, workspace: str, name: str
) -> Iterator[Foco]:
    """A world of its own for one Release."""
    with redis_server() as redis:
        made = Foco(background, address, database(server, address, name), redis, workspace)
        made.open()
        try:
            yield made
        finally:
            made.close()
