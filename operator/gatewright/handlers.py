"""kopf as the shell: the life of the process, signals, login. Nothing is decided here.

No kind is handled by kopf: it lists all objects at once, and keeps the body of each until it was
handled and for seconds after that, which tenants whose objects are large could use to take all
memory. `runtime.cluster.watch` keeps one at a time.
"""

from __future__ import annotations

from typing import Any

import kopf

from gatewright.runtime.operator import Operator


def register(registry: kopf.OperatorRegistry, operator: Operator) -> None:
    """All handlers, for one instance."""

    @kopf.on.startup(registry=registry)
    async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.posting.enabled = False
        settings.scanning.disabled = True
        settings.networking.request_timeout = 30
        await operator.start()

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        """The pod's ServiceAccount, else what the kubeconfig says, exec plugins included."""
        return kopf.login_with_service_account(**kwargs) or kopf.login_via_client(**kwargs)

    @kopf.on.cleanup(registry=registry)
    async def stop(**_: Any) -> None:
        await operator.stop()
