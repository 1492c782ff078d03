"""API servers whose credentials are fetched, by a program or from another server: the client
library knows all the ways."""

from __future__ import annotations

import dataclasses
from typing import Any

from kubernetes import client as kubernetes_client
from kubernetes import config as kubernetes_config

from gatewright.plugin.failures import RequestFailed
from gatewright.plugin.kubeconfig import ApiAccess


def open_fetched(
    access: ApiAccess, kubeconfig: str | None, context: str | None
) -> tuple[ApiAccess, Any]:
    """Return the access with its credentials, and the connections to the server. Raises
    RequestFailed."""
    configuration = kubernetes_client.Configuration()
    try:
        kubernetes_config.load_kube_config(kubeconfig, context, configuration, persist_config=False)
    except (kubernetes_config.ConfigException, OSError) as error:
        raise RequestFailed(f"cannot load the kubeconfig: {error}") from None
    api = kubernetes_client.ApiClient(configuration)

    def authorization() -> str | None:
        # The library asks again when what it was given has run out.
        headers: dict[str, str] = {}
        api.update_params_for_auth(headers, [], ["BearerToken"], "", "GET", None)
        return headers.get("authorization") or headers.get("Authorization")

    server = configuration.host.rstrip("/")
    opened = dataclasses.replace(access, server=server, authorization=authorization)
    return opened, api.rest_client.pool_manager
