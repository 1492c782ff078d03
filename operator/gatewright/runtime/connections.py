"""Connections, ready to be used: found by kind or name, with the Secrets that they name.

Secrets are read by name and kept for a short while (`runtime.connection_secrets`). Whether a
Connection works stands in its `Ready` condition (`runtime.telling.readiness`). Nobody tells when a
Secret was mended: whoever asks whether a Connection works reads its Secrets anew.

Before the Secrets of a Connection are read, the policy on its author must be in force
(`runtime.admission_probe`).

A run resolves its Connections once, before its first change, and keeps what it found (`Pins`). What
was implied ("the namespace's only one") then goes on meaning the very same object, whatever is
added later; an object of the same name that was made anew is another one, and is not used by a run
that began with the first.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from gatewright.api.base import SecretKeyRef, SecretSource, seconds
from gatewright.api.connection import ConnectionSpec
from gatewright.core.model import fingerprint
from gatewright.ports import Cluster, OpenConnection, Permanent, Retryable
from gatewright.providers.registry import CONNECTIONS
from gatewright.providers.validate import connection_problems
from gatewright.runtime.admission_probe import Prove, trust_author
from gatewright.runtime.connection_secrets import SecretReader
from gatewright.runtime.telling.judgements import Place, Reason
from gatewright.runtime.telling.log_limits import about
from gatewright.runtime.telling.readiness import WORKS_MESSAGE, Readiness

PROBED_SECRET_MAX_AGE_S = 1.0
"""Seconds for which those who ask whether a Connection works share what was read: many may name one
Secret."""
MAX_PER_NAMESPACE = 256
"""Connections of one namespace that are used; of more, those that were heard of first."""
MAX_NAMES_IN_MESSAGE = 10
"""Connections that a message names."""
KEPT_METADATA = ("namespace", "name", "uid", "generation", "resourceVersion")

PROOF_RETRY_S = 30.0
"""Seconds after which a Connection is judged anew whose author could not be known to have been
asked."""


class Pin(NamedTuple):
    """A Connection that a run has found."""

    name: str
    uid: str
    returning: bool = False
    """The run is on its way back: nothing may keep it, and what it uses has been proved when it
    began."""


Pins = Mapping[tuple[str, str], Pin]
"""What a run uses: kind of a Connection and its name as the spec has it ("" where it is
implied)."""
NO_PINS: Pins = {}

log = logging.getLogger("gatewright.connections")


def no_pins(key: tuple[str, str]) -> Pins:
    """No Release has pinned anything."""
    return NO_PINS


@dataclass(frozen=True, slots=True)
class _ParsedConnection:
    """What one edition of a Connection says."""

    body: Mapping[str, Any]
    timeout: float
    config: BaseModel
    references: tuple[SecretKeyRef, ...]


class Unproved(Permanent):
    """Nobody can know whether the author of a Connection was asked for the right to what it
    opens."""


class Connections:
    """All Connections that are watched."""

    def __init__(self, cluster: Cluster, prove: Prove = trust_author) -> None:
        """`prove`: why the Secrets of a Connection may not be read, as nobody asks who writes
        one."""
        self._cluster = cluster
        self._prove = prove
        self._proved: dict[Place, tuple[Any, Any]] = {}
        self._objects: dict[str, dict[str, dict[str, Any]]] = {}
        self._crowded: set[str] = set()
        """Namespaces that have more Connections than are used."""
        self.secrets = SecretReader(cluster, self._keys_named)
        self._read_once: dict[Place, _ParsedConnection] = {}
        self._opened: dict[Place, str] = {}
        """Identity that each had when it was opened last."""
        self._readiness = Readiness(cluster, self._body_of, self._probe_connection)

    def event(self, kind: str | None, body: Mapping[str, Any]) -> bool:
        """Take in a watch event of a Connection; return whether its spec is new."""
        namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
        here = self._objects.setdefault(namespace, {})

        if kind == "DELETED":
            here.pop(name, None)
            self._proved.pop((namespace, name), None)
            self._read_once.pop((namespace, name), None)
            self._opened.pop((namespace, name), None)
            if not here:
                del self._objects[namespace]
            self._readiness.forget((namespace, name))
            return False

        old = here.get(name)
        if old is None and len(here) >= MAX_PER_NAMESPACE:
            self._leave_out(namespace)
            return False

        here[name] = _kept_part(body)

        new = old is None or _edition_of(old) != _edition_of(body)
        if new:
            self._readiness.edited((namespace, name))

        return new

    def _leave_out(self, namespace: str) -> None:
        """Leave out a Connection that is one more than are used of a namespace.

        The memory of all would be filled by them.
        """
        if namespace not in self._crowded:
            log.warning(
                "namespace %s has more than %d Connections; the others are not used",
                namespace,
                MAX_PER_NAMESPACE,
                extra=about(namespace),
            )
        self._crowded.add(namespace)

    @property
    def left_out(self) -> bool:
        """Whether there are Connections that are not used, and may be as soon as others are
        deleted."""
        return bool(self._crowded)

    def said_of(self, place: Place) -> tuple[Any, ...] | None:
        """Return what a Release that waits for a Connection may be waiting for.

        That is its edition, and whether it works.
        """
        connection = self._objects.get(place[0], {}).get(place[1])
        if connection is None:
            return None
        return (*_edition_of(connection), connection["status"]["conditions"])

    def forget_vanished(self, there: Collection[Place]) -> None:
        """Forget those that were not in a list of all: the watch has not told how they went.

        `there`: the ones that were.
        """
        self._crowded = {
            namespace for namespace, name in there if name not in self._objects.get(namespace, {})
        }
        for namespace, name in self._places():
            if (namespace, name) not in there:
                self.event("DELETED", {"metadata": {"namespace": namespace, "name": name}})

    def resolve(self, namespace: str, kind: str, name: str | None) -> tuple[str, str]:
        """Return name and UID of the named Connection of a kind, or of the namespace's only one.

        Raises Permanent.
        """
        connection = self._find_connection(namespace, kind, name)
        problems = connection_problems(connection["spec"], namespace)
        if problems:
            raise Permanent(
                f"{_title_of(kind, connection)} cannot be used: {problems[0]}; mend it there"
            )
        return connection["metadata"]["name"], connection["metadata"]["uid"]

    async def open(
        self, namespace: str, kind: str, name: str | None, pinned: Pins = NO_PINS
    ) -> OpenConnection:
        """Open the named Connection of a kind, or the namespace's only one.

        Where a run has pinned one (`pinned`), it is that. Raises Retryable, Permanent.
        """
        connection = self._look_up(namespace, kind, name, pinned)
        pin = pinned.get((kind, name or ""))
        try:
            # What a run on its way back uses was proved when it began: nothing may keep it now.
            if pin is None or not pin.returning:
                await self._require_proof(connection)
            return await self._open_connection(connection)
        except Permanent as error:
            self.used(namespace, connection["metadata"]["name"], error)
            raise

    def system(
        self, namespace: str, kind: str, name: str | None, pinned: Pins = NO_PINS
    ) -> str | None:
        """Return which external system a Connection leads to; None where that cannot be known.

        Two Connections of one kind and address are one system, whatever credentials or team they
        name. Which of them may open the same project is known over there alone, and a wait too many
        is better than two runs on one project.
        """
        try:
            connection = self._look_up(namespace, kind, name, pinned)
            _, config = _config_of(connection)
        except (Permanent, ValidationError):
            return None
        return f"{kind}:{_address_of(config) or connection['metadata']['uid']}"

    async def check(self, namespace: str, name: str) -> None:
        """Ask whether a Connection works, and say so in its status."""
        await self._readiness.check((namespace, name))

    def look(self, namespace: str, name: str) -> None:
        """Ask in the background whether a Connection works of which nobody knows it, or which did
        not."""
        self._readiness.look((namespace, name))

    def uid(self, namespace: str, name: str) -> str | None:
        """UID of the Connection of a name, if there is one."""
        connection = self._objects.get(namespace, {}).get(name)
        return str(connection["metadata"]["uid"]) if connection is not None else None

    def used(self, namespace: str, name: str, error: Exception | None) -> None:
        """Note that a request went through a Connection.

        What that changes of its readiness is written in the background.
        """
        self._readiness.used((namespace, name), error)

    def look_at_all(self) -> None:
        """What was edited while nobody acted is judged; what is NotReady may have been mended."""
        for place in self._places():
            self.look(*place)

    async def close(self) -> None:
        """Stop judging, and forget all Secrets."""
        self.secrets.close()
        await self._readiness.close()

    def _places(self) -> list[Place]:
        places: list[Place] = []
        for namespace, here in self._objects.items():
            places += [(namespace, name) for name in here]
        return places

    def _body_of(self, place: Place) -> Mapping[str, Any] | None:
        return self._objects.get(place[0], {}).get(place[1])

    async def _probe_connection(self, connection: Mapping[str, Any]) -> tuple[Reason, str]:
        """Return whether a Connection works, and why not.

        Raises Retryable where the API server does not answer.
        """
        problems = connection_problems(connection["spec"], connection["metadata"]["namespace"])
        if problems:
            return "InvalidSpec", problems[0]

        try:
            await self._require_proof(connection)
            link = await self._open_connection(connection, PROBED_SECRET_MAX_AGE_S)
        except Unproved as error:
            # Nobody tells when a policy comes into force.
            self._readiness.ask_later(
                (connection["metadata"]["namespace"], connection["metadata"]["name"]), PROOF_RETRY_S
            )
            return "NotReady", str(error)
        except Permanent as error:
            return "NotReady", str(error)

        kind, _ = _config_of(connection)
        try:
            await CONNECTIONS[kind].check(link)
        except (Retryable, Permanent) as error:
            return "NotReady", str(error)
        except Exception as error:
            log.exception(
                "a credential check raised what it may not raise",
                extra=about(connection["metadata"]["namespace"], connection["metadata"]["name"]),
            )
            return "NotReady", f"the credential check failed: {type(error).__name__}"

        return "Ready", WORKS_MESSAGE

    def _look_up(self, namespace: str, kind: str, name: str | None, pinned: Pins) -> dict[str, Any]:
        """Return the object that a run has pinned, else the one that its name stands for now."""
        pinned_one = self._find_pinned(namespace, kind, name, pinned)
        return pinned_one or self._find_connection(namespace, kind, name)

    def _find_pinned(
        self, namespace: str, kind: str, name: str | None, pinned: Pins
    ) -> dict[str, Any] | None:
        """Return the object that a run has pinned, where it has.

        Raises Permanent where that is not there any more.
        """
        if (kind, name or "") not in pinned:
            return None

        own, uid, _ = pinned[kind, name or ""]
        connection = self._objects.get(namespace, {}).get(own)
        if connection is None:
            raise Permanent(f'{kind} Connection "{own}", which this run uses, was deleted')
        if connection["metadata"]["uid"] != uid:
            raise Permanent(
                f'{kind} Connection "{own}" was deleted and made again since this run began; '
                "the new one may lead elsewhere, and is used from the next run or Retry on"
            )
        if kind not in connection.get("spec", {}):
            raise Permanent(
                f'Connection "{own}", which this run uses, is no {kind} Connection any more'
            )

        return connection

    def _find_connection(self, namespace: str, kind: str, name: str | None) -> dict[str, Any]:
        here = self._objects.get(namespace, {})
        fitting = {key: obj for key, obj in here.items() if kind in obj.get("spec", {})}
        names = _names_in_message(sorted(fitting))

        # One that was left out may be the one that is meant.
        if namespace in self._crowded and (name is None or name not in fitting):
            remedy = "name one" if name is None else f"{name} is not among them"
            raise Permanent(
                f"namespace {namespace} has more than {MAX_PER_NAMESPACE} Connections, and only "
                f"{MAX_PER_NAMESPACE} are used; {remedy}, or delete what nobody uses"
            )

        if name is not None and name not in fitting:
            raise Permanent(
                f'there is no {kind} Connection "{name}" in namespace {namespace} '
                f"(there: {names or 'none'}); make it, or name another"
            )
        if name is None and not fitting:
            raise Permanent(f"there is no {kind} Connection in namespace {namespace}; make one")
        if name is None and len(fitting) > 1:
            raise Permanent(
                f"namespace {namespace} has {len(fitting)} {kind} Connections ({names}), and none "
                "is named; say which by connection:"
            )

        return fitting[name] if name is not None else next(iter(fitting.values()))

    async def _require_proof(self, connection: Mapping[str, Any]) -> None:
        """Have the policy on its author proved, once an edition. Raises Unproved, Retryable."""
        meta = connection["metadata"]
        place, edition = (meta["namespace"], meta["name"]), _edition_of(connection)
        if self._proved.get(place) == edition:
            return
        doubt = await self._prove(*place)
        if doubt:
            raise Unproved(f"Connection {place[1]} is not opened: {doubt}")
        self._proved[place] = edition

    async def _open_connection(
        self, connection: Mapping[str, Any], age: float | None = None
    ) -> OpenConnection:
        """Read what a Connection names, and return it open. Raises Retryable, Permanent.

        `age`: seconds for which a Secret that was read counts.
        """
        meta = connection["metadata"]
        parsed = self._parse_connection(connection)
        place = meta["namespace"], meta["name"]

        try:
            secrets, versions = await self.secrets.read_values(
                meta["namespace"], parsed.references, age
            )
        except Permanent:
            self._record_identity(place, "")
            raise

        # Whoever keeps clients open for a Connection opens new ones when its Secrets have changed.
        identity = fingerprint([meta["uid"], meta.get("generation"), versions])
        self._record_identity(place, identity)

        return OpenConnection(
            meta["name"], identity, parsed.config, parsed.timeout, secrets, meta["namespace"]
        )

    def _record_identity(self, place: Place, identity: str) -> None:
        """Note how a Connection was opened; "" where its Secrets did not allow it."""
        if self._body_of(place) is None:
            return
        if identity and self._opened.get(place, identity) != identity:
            self._readiness.forget_secrets(place)
        self._opened[place] = identity

    def _parse_connection(self, connection: Mapping[str, Any]) -> _ParsedConnection:
        """Return what a Connection says, parsed once an edition. Raises Permanent.

        Every question goes through one.
        """
        meta = connection["metadata"]
        place = meta["namespace"], meta["name"]
        parsed = self._read_once.get(place)
        if parsed is not None and parsed.body is connection:
            return parsed

        try:
            timeout = seconds(ConnectionSpec.model_validate(connection["spec"]).timeout)
            _, config = _config_of(connection)
        except ValidationError as error:
            raise Permanent(
                f"Connection {meta['name']}: {error.error_count()} problems in its spec"
            ) from None

        parsed = self._read_once[place] = _ParsedConnection(
            connection, timeout, config, tuple(_secret_refs_in(config))
        )
        return parsed

    def _keys_named(self, namespace: str, name: str) -> set[str]:
        """Return the keys of a Secret that the Connections of its namespace name."""
        keys: set[str] = set()
        for other in self._objects.get(namespace, {}):
            parsed = self._read_once.get((namespace, other))
            if parsed is not None:
                keys |= {ref.key for ref in parsed.references if ref.name == name}
        return keys


def _kept_part(body: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what is asked of a Connection, and no more.

    There may be many, and whoever writes one may have put anything beside it.
    """
    meta = {name: body["metadata"][name] for name in KEPT_METADATA if name in body["metadata"]}
    conditions = (body.get("status") or {}).get("conditions") or ()

    ready = [condition for condition in conditions if condition.get("type") == "Ready"][:1]
    return {"metadata": meta, "spec": body.get("spec") or {}, "status": {"conditions": ready}}


def _edition_of(body: Mapping[str, Any]) -> tuple[Any, Any]:
    return body["metadata"].get("uid"), body["metadata"].get("generation")


def _names_in_message(names: list[str]) -> str:
    more = len(names) - MAX_NAMES_IN_MESSAGE
    listed = ", ".join(names[:MAX_NAMES_IN_MESSAGE])
    return f"{listed} and {more} more" if more > 0 else listed


def _title_of(kind: str, body: Mapping[str, Any]) -> str:
    return f'{kind} Connection "{body["metadata"]["name"]}"'


def _config_of(connection: Mapping[str, Any]) -> tuple[str, BaseModel]:
    """Return the kind of a Connection and its checked configuration.

    Raises ValidationError, Permanent.
    """
    try:
        kind, raw = ConnectionSpec.model_validate(connection["spec"]).provider
        return kind, CONNECTIONS[kind].config.model_validate(raw)
    except ValidationError:
        raise
    except (ValueError, KeyError):
        raise Permanent(
            f"Connection {connection['metadata']['name']}: names no known provider"
        ) from None


def _address_of(config: BaseModel) -> str | None:
    """Return host, port and path of a system, however its URL is spelt.

    For a URL in a Secret it is where that stands.
    """
    url = getattr(config, "url", None)
    if isinstance(url, SecretSource):
        return f"{url.secretRef.name}/{url.secretRef.key}"
    if not isinstance(url, str):
        return None
    parts = urlsplit(url)
    port = "" if parts.port in (None, 80, 443) else f":{parts.port}"
    return f"{(parts.hostname or '').rstrip('.')}{port}{parts.path.rstrip('/')}"


def _secret_refs_in(value: Any) -> Iterator[SecretKeyRef]:
    """Yield every Secret reference in a configuration."""
    if isinstance(value, SecretKeyRef):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secret_refs_in(getattr(value, name))
    elif isinstance(value, Mapping):
        for member in value.values():
            yield from _secret_refs_in(member)
