"""kopf as the shell: login, watching, signals. Each handler takes, enqueues and returns; nothing is decided here.

Only `on.event` is used: it writes no annotation, sets no finalizer and keeps no copy of a spec. Releases and what they
work on, which change all the time, are watched by `runtime.watch`; kopf brings what people write now and then.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, cast

import kopf

from gatewright.api import GROUP, VERSION
from gatewright.runtime.operator import Operator


class _NoDiffs(kopf.DiffBaseStorage):
    """kopf would copy every object deeply on every event, to find what changed; that is not what we ask it for."""

    def build(self, *, body: kopf.Body, extra_fields: Iterable[Any] | None = None) -> kopf.BodyEssence:
        return cast(kopf.BodyEssence, {})

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Nothing is kept on the object."""


class _NoProgress(kopf.ProgressStorage):
    """The same for the progress of kopf's own handlers: there are none that could be in progress."""

    def fetch(self, *, key: str, body: kopf.Body) -> Any:
        return None

    def store(self, *, key: str, record: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        """Nothing is kept on the object."""

    def purge(self, *, key: str, body: kopf.Body, patch: kopf.Patch) -> None:
        """Nothing was kept."""

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None:
        """Nothing is kept on the object."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence


def register(registry: kopf.OperatorRegistry, operator: Operator) -> None:
    """All handlers, for one instance."""

    @kopf.on.startup(registry=registry)
    async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.posting.enabled = False
        settings.persistence.diffbase_storage = _NoDiffs()
        settings.persistence.progress_storage = _NoProgress()
        settings.scanning.disabled = True
        settings.watching.server_timeout = 300
        settings.watching.connect_timeout = 10
        settings.watching.reconnect_backoff = 0.2
        settings.networking.request_timeout = 30
        logging.getLogger("kopf.objects").setLevel(logging.WARNING)
        await operator.start()

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        """The pod's ServiceAccount, else what the kubeconfig says, exec plugins included."""
        return kopf.login_with_service_account(**kwargs) or kopf.login_via_client(**kwargs)

    @kopf.on.cleanup(registry=registry)
    async def stop(**_: Any) -> None:
        await operator.stop()

    @kopf.on.event(GROUP, VERSION, "connections", registry=registry)
    async def connection(type: str | None, event: Any, **_: Any) -> None:
        if operator.reconciler is not None:
            operator.reconciler.connection_event(type, dict(event["object"]))

    @kopf.on.event(GROUP, VERSION, "interventions", registry=registry)
    async def intervention(type: str | None, event: Any, **_: Any) -> None:
        if operator.reconciler is not None:
            operator.reconciler.intervention_event(type, dict(event["object"]))
