"""Users of one namespace, each with what RBAC gives them, and what the API server tells them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping
from typing import Any

from gatewright.codegen import authors
from tests.harness.api import Api, ApiError
from tests.harness.lab import RELEASES, Lab, Late

RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces/{}"
Right = tuple[str, str, str, str]
"""Verb, group, resource, name; an empty name is any."""


class People:
    """Users of one namespace, each with what RBAC gives them; a moment passes before RBAC knows."""

    def __init__(
        self, lab: Lab, namespace: str, path: str = RELEASES, policy: str = authors.POLICY_NAME
    ) -> None:
        """`path`: of the objects that they write; `policy`: the one that answers."""
        self.lab, self.namespace, self.policy = lab, namespace, policy
        self.path = path.format(namespace)
        self._open: dict[str, Api] = {}
        self._numbers = itertools.count(1)

    def with_rights(self, *rights: Right, also: tuple[str, ...] = ()) -> Api:
        """Somebody new, who may write Releases and Connections and has these rights."""
        user = f"{self.namespace}-user{next(self._numbers)}"
        write = ["create", "update", "patch", "delete", "get"]
        rules = [
            {
                "apiGroups": ["gatewright.dev"],
                "resources": ["releases", "connections", *also],
                "verbs": write,
            }
        ]
        for verb, group, resource, name in rights:
            rule: dict[str, Any] = {"apiGroups": [group], "resources": [resource], "verbs": [verb]}
            rules.append(rule | ({"resourceNames": [name]} if name else {}))
        self.bind(user, "Role", user, rules)
        return self.user(user)

    def bind(self, user: str, kind: str, role: str, rules: Any = None) -> None:
        api, base = self.lab.api, RBAC.format(self.namespace)
        if rules is not None:
            api.create(f"{base}/roles", {"metadata": {"name": role}, "rules": rules})
        subject = {"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
        reference = {"kind": kind, "name": role, "apiGroup": "rbac.authorization.k8s.io"}
        body = {"metadata": {"name": f"{user}-{role}"}, "subjects": [subject], "roleRef": reference}
        api.create(f"{base}/rolebindings", body)

    def user(self, user: str) -> Api:
        if user not in self._open:
            config = self.lab.server.kubeconfig_for(user, [])
            self._open[user] = Api(self.lab.background, config, user)
        return self._open[user]

    def close(self) -> None:
        for api in self._open.values():
            api.close()

    def said(self, api: Api, body: Mapping[str, Any]) -> str:
        """What a user is told who creates this (as a dry run); nothing where it is admitted."""
        return told(lambda: api.create(f"{self.path}?dryRun=All", body))

    def changes(self, api: Api, name: str, patch: Mapping[str, Any], part: str = "") -> str:
        return told(lambda: api.merge(f"{self.path}/{name}{part}?dryRun=All", patch))

    def passes(self, api: Api, body: Mapping[str, Any]) -> None:
        said: list[str] = []
        with contextlib.suppress(Late):
            self.lab.wait(
                lambda: said.append(self.said(api, body)) or not said[-1], 10, "it to be admitted"
            )
        assert said[-1] == ""

    def refuses(self, api: Api, body: Mapping[str, Any], right: Right, where: str) -> None:
        """For lack of this right alone, in words that say so."""
        words = (
            f"{where}: {self.name_of(api)} may not {spoken(right)} in namespace {self.namespace};"
        )
        said = self.tells(api, body, words)
        assert self.policy in said and "RBAC must allow" in said

    def tells(self, api: Api, body: Mapping[str, Any], words: str) -> str:
        said: list[str] = []
        with contextlib.suppress(Late):
            self.lab.wait(lambda: said.append(self.said(api, body)) or words in said[-1], 10, words)
        assert words in said[-1]
        return said[-1]

    def name_of(self, api: Api) -> str:
        return next(user for user, one in self._open.items() if one is api)


def spoken(right: Right) -> str:
    verb, group, resource, name = right
    what = f"{resource}.{group}" if group else resource
    return f"{verb} {what}" + (
        f"/{name}" if name else "" if verb in ("create", "delete") else " of any name"
    )


def told(ask: Callable[[], Any]) -> str:
    try:
        ask()
    except ApiError as error:
        assert error.status in (403, 422), error
        return str(error)
    return ""
