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
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ValidationError

from gatewright.core.fingerprints import fingerprint
from gatewright.ports import Cluster, OpenConnection, Permanent, Retryable
from gatewright.providers.common import words
from gatewright.providers.registry import CONNECTIONS
from gatewright.providers.validate import connection_problems
from gatewright.runtime.admission_probe import Prove, trust_author
from gatewright.runtime.connection_objects import ConnectionObjects, edition_of, title_of
from gatewright.runtime.connection_secrets import SecretReader
from gatewright.runtime.connection_specs import ParsedConnections, address_of, config_of
from gatewright.runtime.pins import NO_PINS, Pins
from gatewright.runtime.telling.judgements import Place, Reason
from gatewright.runtime.telling.log_limits import about
from gatewright.runtime.telling.readiness import WORKS_MESSAGE, Readiness

PROBED_SECRET_MAX_AGE_S = 1.0
"""Seconds for which those who ask whether a Connection works share what was read: many may name one
Secret."""
PROOF_RETRY_S = 30.0
"""Seconds after which a Connection is judged anew whose author could not be known to have been
asked."""


log = logging.getLogger("gatewright.connections")


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
        self._objects = ConnectionObjects()
        self._specs = ParsedConnections()
        self.secrets = SecretReader(cluster, self._keys_named)
        self._opened: dict[Place, str] = {}
        """Identity that each had when it was opened last."""
        self._readiness = Readiness(cluster, self._objects.get, self._probe_connection)

    def event(self, kind: str | None, body: Mapping[str, Any]) -> bool:
        """Take in a watch event of a Connection; return whether its spec is new."""
        place = body["metadata"]["namespace"], body["metadata"]["name"]

        if kind == "DELETED":
            self._objects.remove(place)
            self._proved.pop(place, None)
            self._specs.forget(place)
            self._opened.pop(place, None)
            self._readiness.forget(place)
            return False

        new = self._objects.put(place, body)
        if new:
            self._readiness.edited(place)

        return new

    @property
    def left_out(self) -> bool:
        """Whether there are Connections that are not used, and may be as soon as others are
        deleted."""
        return self._objects.left_out

    def said_of(self, place: Place) -> tuple[Any, ...] | None:
        """Return what a Release that waits for a Connection may be waiting for.

        That is its edition, and whether it works.
        """
        connection = self._objects.get(place)
        if connection is None:
            return None
        return (*edition_of(connection), connection["status"]["conditions"])

    def forget_vanished(self, there: Collection[Place]) -> None:
        """Forget those that were not in a list of all: the watch has not told how they went.

        `there`: the ones that were.
        """
        for namespace, name in self._objects.vanished(there):
            self.event("DELETED", {"metadata": {"namespace": namespace, "name": name}})

    def resolve(self, namespace: str, kind: str, name: str | None) -> tuple[str, str]:
        """Return name and UID of the named Connection of a kind, or of the namespace's only one.

        Raises Permanent.
        """
        connection = self._objects.find(namespace, kind, name)
        problems = connection_problems(connection["spec"], namespace)
        if problems:
            raise Permanent(
                f"{title_of(kind, connection)} cannot be used: {problems[0]}; mend it there"
            )
        return connection["metadata"]["name"], connection["metadata"]["uid"]

    async def open(
        self, namespace: str, kind: str, name: str | None, pinned: Pins = NO_PINS
    ) -> OpenConnection:
        """Open the named Connection of a kind, or the namespace's only one.

        Where a run has pinned one (`pinned`), it is that. Raises Retryable, Permanent.
        """
        connection = self._objects.look_up(namespace, kind, name, pinned)
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
            connection = self._objects.look_up(namespace, kind, name, pinned)
            _, config = config_of(connection)
        except (Permanent, ValidationError):
            return None
        return f"{kind}:{address_of(config) or connection['metadata']['uid']}"

    async def check(self, namespace: str, name: str) -> None:
        """Ask whether a Connection works, and say so in its status."""
        await self._readiness.check((namespace, name))

    def look(self, namespace: str, name: str) -> None:
        """Ask in the background whether a Connection works of which nobody knows it, or which did
        not."""
        self._readiness.look((namespace, name))

    def uid(self, namespace: str, name: str) -> str | None:
        """UID of the Connection of a name, if there is one."""
        connection = self._objects.get((namespace, name))
        return str(connection["metadata"]["uid"]) if connection is not None else None

    def used(self, namespace: str, name: str, error: Exception | None) -> None:
        """Note that a request went through a Connection.

        What that changes of its readiness is written in the background.
        """
        self._readiness.used((namespace, name), error)

    def look_at_all(self) -> None:
        """What was edited while nobody acted is judged; what is NotReady may have been mended."""
        for place in self._objects.places():
            self.look(*place)

    async def close(self) -> None:
        """Stop judging, and forget all Secrets."""
        self.secrets.close()
        await self._readiness.close()

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

        kind, _ = config_of(connection)
        try:
            with words.of_answers(link):
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

    async def _require_proof(self, connection: Mapping[str, Any]) -> None:
        """Have the policy on its author proved, once an edition. Raises Unproved, Retryable."""
        meta = connection["metadata"]
        place, edition = (meta["namespace"], meta["name"]), edition_of(connection)
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
        parsed = self._specs.parse(connection)
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
        if self._objects.get(place) is None:
            return
        if identity and self._opened.get(place, identity) != identity:
            self._readiness.forget_secrets(place)
        self._opened[place] = identity

    def _keys_named(self, namespace: str, secret: str) -> set[str]:
        """Return the keys of a Secret that the Connections of its namespace name."""
        return self._specs.keys_named(self._objects.places_in(namespace), secret)
