"""Paths of the API, and for which namespace a request is made."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from gatewright.ports import Permanent

_NAMESPACED = re.compile(r"/(?:api/[^/]+|apis/[^/]+/[^/]+)/namespaces/([^/?]+)")


def whose(path: str, body: Any) -> str:
    """Return the namespace that a request is made for; empty where it is for all.

    A review names it in its body.
    """
    namespaced = _NAMESPACED.match(path)
    if namespaced is not None:
        return namespaced[1]
    if path.endswith("accessreviews"):
        return str(body["spec"]["resourceAttributes"].get("namespace", ""))
    return ""


def _path_segment(name: str) -> str:
    if name in (".", ".."):
        raise Permanent(f'"{name}" is no name of an object')
    return quote(name, safe="")


def api_path(api: str, plural: str, namespace: str = "", name: str = "", sub: str = "") -> str:
    """Return an API path: `path("apps/v1", "deployments", "shop", "web")`.

    Raises Permanent where a name would lead elsewhere.
    """
    root = f"/api/{api}" if "/" not in api else f"/apis/{api}"

    parts = [f"namespaces/{_path_segment(namespace)}"] if namespace else []
    parts += [plural, *([_path_segment(name)] if name else []), *([sub] if sub else [])]
    return "/".join([root, *parts])
