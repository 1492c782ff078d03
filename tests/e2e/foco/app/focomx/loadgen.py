"""Constant mixed traffic: RATE requests a second against BASE_URL, whatever the answers are.

An open loop: a slow service does not slow its users down, they pile up (to MAX_IN_FLIGHT; beyond
that a request counts as failed). Each request has its own connection, so new pods get their share
at once. Every ten seconds one line of JSON says what users saw; a test reads "failures" there.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections import Counter
from itertools import cycle

import aiohttp

# In twenty requests: 8 organizations, 5 lists of tasks, 4 new tasks, 2 features, 1 front page.
_MIX = "OTOCOTFOCOTOPOCTOCTF"
_ROUTES = {
    "O": "/api/organizations",
    "T": "/api/tasks",
    "C": "/api/tasks",
    "F": "/api/features",
    "P": "/",
}
_WORKSPACES = ("acme", "globex", "initech")


class Traffic:
    def __init__(self, session: aiohttp.ClientSession, base: str, in_flight: int) -> None:
        self._session = session
        self._base = base.rstrip("/")
        self._limit = in_flight
        self._running: set[asyncio.Task[None]] = set()
        self.seen: Counter[str] = Counter()
        self.slowest = 0.0

    def send(self, kind: str, workspace: str) -> None:
        if len(self._running) >= self._limit:
            self.seen["overflow"] += 1
            return
        task = asyncio.create_task(self._require_one(kind, workspace))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _require_one(self, kind: str, workspace: str) -> None:
        started = time.monotonic()
        arguments = {"json": {"title": f"load {time.time_ns()}"}} if kind == "C" else {}
        try:
            async with self._session.request(
                "POST" if kind == "C" else "GET",
                self._base + _ROUTES[kind],
                headers={"X-Workspace": workspace},
                **arguments,  # type: ignore[arg-type]
            ) as response:
                await response.read()
                self.seen[str(response.status)] += 1
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            self.seen[type(error).__name__] += 1
        self.slowest = max(self.slowest, time.monotonic() - started)

    def report(self) -> str:
        failures = sum(n for what, n in self.seen.items() if what not in ("200", "201"))
        line = {
            "requests": sum(self.seen.values()),
            "failures": failures,
            "slowestMs": round(self.slowest * 1000),
            "answers": dict(sorted(self.seen.items())),
        }
        self.seen.clear()
        self.slowest = 0.0
        return json.dumps(line)


async def drive(base: str, rate: float, in_flight: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    timeout = aiohttp.ClientTimeout(total=10)
    connector = aiohttp.TCPConnector(force_close=True, limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        traffic = Traffic(session, base, in_flight)
        due = reported = time.monotonic()
        for kind, workspace in zip(cycle(_MIX), cycle(_WORKSPACES)):
            due += 1 / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if stop.is_set():
                break
            # After a pause of the whole machine the missed requests are not made up for in one
            # burst.
            due = max(due, time.monotonic() - 1)
            traffic.send(kind, workspace)
            if time.monotonic() - reported >= 10:
                reported = time.monotonic()
                print(traffic.report(), flush=True)
        print(traffic.report(), flush=True)


def main() -> None:
    env = os.environ
    asyncio.run(
        drive(env["BASE_URL"], float(env.get("RATE", "20")), int(env.get("MAX_IN_FLIGHT", "100")))
    )


if __name__ == "__main__":
    main()
