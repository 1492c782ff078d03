"""An audit that cannot pass by accident: pip-audit itself asks a service of advisories that stands
here."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.fakes.serving import serving
from tests.supply import SupplyError, audit, locked

HOLE = {
    "id": "GHSA-0000-0000-0000",
    "aliases": ["CVE-2026-0001"],
    "summary": "a hole",
    "modified": "2026-01-01T00:00:00Z",
}
KNOWN = {
    "id": "GHSA-known",
    "aliases": ["CVE-2019-12308"],
    "summary": "known",
    "modified": "2019-06-03T00:00:00Z",
}
LOCK = f"""\
aiohttp==3.14.5 \\
    --hash=sha256:{"0" * 64}
iniconfig==2.1.0 \\
    --hash=sha256:{"1" * 64}
"""


class Advisories:
    """A service that speaks OSV: what it knows, and what it was asked."""

    def __init__(self, known: dict[str, dict[str, Any]], status: int = 200) -> None:
        self.known, self.status, self.asked = known, status, list[tuple[str, str]]()

    async def query(self, request: web.Request) -> web.Response:
        body = json.loads(await request.text())
        name = body["package"]["name"]
        self.asked.append((name, body["version"]))
        if self.status != 200:
            return web.json_response({}, status=self.status)
        if name not in self.known:
            return web.json_response({})
        events = [{"introduced": "0"}, {"fixed": "99.1"}]
        affected = {"package": body["package"], "ranges": [{"type": "ECOSYSTEM", "events": events}]}
        return web.json_response({"vulns": [{**self.known[name], "affected": [affected]}]})

    async def audit(self, *locks: Path, **options: Any) -> str:
        app = web.Application()
        app.router.add_post("/query", self.query)
        async with serving(app) as url:
            return await asyncio.to_thread(audit.audit, locks, f"{url}/query", **options)


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "lock.txt"
    path.write_text(LOCK)
    return path


async def test_what_has_no_known_vulnerability_passes(lock: Path) -> None:
    service = Advisories({"django": KNOWN})
    assert await service.audit(lock) == "2 packages of lock.txt: no known vulnerability"
    assert service.asked == [("django", "2.2.1"), ("aiohttp", "3.14.5"), ("iniconfig", "2.1.0")]


async def test_everything_that_is_locked_is_asked_about() -> None:
    """The real lock files, with the service above."""
    service = Advisories({"django": KNOWN})
    assert "of operator.txt, dev.txt: no known vulnerability" in await service.audit(
        audit.OPERATOR, audit.DEVELOPERS
    )
    elsewhere = {"colorama"} if sys.platform == "linux" else set()
    pins = {
        item.name: str(item.specifier).removeprefix("==") for item, _ in locked(audit.DEVELOPERS)
    }
    wanted = {(name, version) for name, version in pins.items() if name not in elsewhere}
    assert set(service.asked) == {*wanted, audit.KNOWN}
    assert audit.KNOWN[0] not in pins, "pip-audit refuses two versions of one package"


async def test_a_vulnerability_fails_and_is_named(lock: Path) -> None:
    service = Advisories({"django": KNOWN, "aiohttp": HOLE, "iniconfig": HOLE})
    with pytest.raises(SupplyError) as failure:
        await service.audit(lock)
    assert str(failure.value).splitlines() == [
        "aiohttp 3.14.5 (in the image): CVE-2026-0001, GHSA-0000-0000-0000, fixed in 99.1",
        "iniconfig 2.1.0 (developers only): CVE-2026-0001, GHSA-0000-0000-0000, fixed in 99.1",
    ]


async def test_a_source_that_knows_nothing_is_no_source(lock: Path) -> None:
    service = Advisories({})
    with pytest.raises(
        SupplyError, match=r"knows of none for django 2.2.1, which has one: nothing was audited"
    ):
        await service.audit(lock)


async def test_a_source_that_fails_is_no_source(lock: Path) -> None:
    with pytest.raises(SupplyError, match="nothing was audited"):
        await Advisories({"django": KNOWN}, status=503).audit(lock)
    with pytest.raises(SupplyError, match="nothing was audited"):
        await asyncio.to_thread(audit.audit, [lock], "http://127.0.0.1:9/query")


async def test_a_package_without_a_hash_is_not_audited(lock: Path) -> None:
    lock.write_text("aiohttp==3.14.5\n")
    with pytest.raises(SupplyError, match="nothing was audited"):
        await Advisories({"django": KNOWN}).audit(lock)


async def test_what_is_accepted_passes_for_as_long_as_it_is_found(lock: Path) -> None:
    service = Advisories({"django": KNOWN, "aiohttp": HOLE})
    reasons = {"CVE-2026-0001": "not reached"}
    assert "no known vulnerability" in await service.audit(lock, accepted=reasons)
    service.known.pop("aiohttp")
    with pytest.raises(SupplyError, match="CVE-2026-0001 is accepted, and found no more"):
        await service.audit(lock, accepted=reasons)


def test_what_pip_audit_passed_over_fails(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip-audit itself passes over nothing that we know of: what it would have said is written
    here."""
    known = {"name": audit.KNOWN[0], "version": audit.KNOWN[1], "vulns": [KNOWN]}
    said = [
        known,
        {"name": "aiohttp", "version": "3.14.5", "vulns": []},
        {"name": "iniconfig", "skip_reason": "private"},
    ]
    monkeypatch.setattr(audit, "_ask", lambda *_: said)
    with pytest.raises(SupplyError, match=r"^not audited: iniconfig 2.1.0$"):
        audit.audit([lock])


def test_each_exception_has_its_reason() -> None:
    assert all(reason.strip() for reason in audit.ACCEPTED.values())
