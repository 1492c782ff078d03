"""Names of hosts, looked up for everybody who asks: asynchronously, one look-up a name, a few at a
time for each namespace.

    find(host, namespace)
      ├─ it is being asked already      wait for the same answer
      ├─ it failed a moment ago         the same error at once
      └─ else                           wait for a share of the namespace's, then ask

Who writes a Connection chooses its name, and with it a name server that may never answer. So what a
look-up takes is taken from its own namespace: others share neither its place in a queue, nor a
thread, nor a socket, nor a memory. A look-up goes on when those who asked leave: it ends within
`LONGEST`, and only then makes room for the next.

c-ares asks, as /etc/hosts, resolv.conf (servers, search, ndots) and nsswitch.conf have it, A and
AAAA at once, by TCP where an answer is cut. Each look-up has a channel of its own: a channel
remembers answers for as long as their records say, up to an hour, which is too long for a failover,
and would share a slow server's time-outs among all. An answer is not kept at all: it is used for
the connection that it was asked for, and connections are.
"""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Mapping
from typing import Any
from weakref import WeakValueDictionary

import pycares

from gatewright.core.fair_memory import FairMemory
from gatewright.ports import Retryable

LOOKUPS_AT_ONCE = 4
"""Look-ups under way for one namespace."""
FAILURE_MAX_AGE_S = 5.0
"""Seconds for which a failure is remembered."""
MAX_FAILURES_REMEMBERED = 1024
"""Failures that are remembered at most; no namespace drives out those of another."""
LOOKUP_TIMEOUT_S = 8.0
"""Seconds that a look-up takes at most."""
_FIRST_TIMEOUT_S = 1.0
"""Seconds until a name server is asked again, doubled each time: 1, 2, 4."""
_TRIES = 3

LookupAnswer = list[str] | str
"""Addresses, or why there are none."""

_NO_ANSWER = "no answer from the name server"
_CANNOT_ASK = "the resolver cannot ask for it"
_WORDS = {
    pycares.errno.ARES_ENOTFOUND: "there is no such name",
    pycares.errno.ARES_ENODATA: "it has no address",
    pycares.errno.ARES_ETIMEOUT: _NO_ANSWER,
    pycares.errno.ARES_ECANCELLED: _NO_ANSWER,
    pycares.errno.ARES_ESERVFAIL: "the name server failed",
    pycares.errno.ARES_EREFUSED: "the name server refuses to answer",
    pycares.errno.ARES_ECONNREFUSED: "no name server is there",
}


class NameResolver:
    """All look-ups of one event loop."""

    def __init__(self, **options: Any) -> None:
        """`options`: of c-ares, for another name server than the system's."""
        self._options = options
        self._loop: asyncio.AbstractEventLoop | None = None
        self._flights: dict[str, _Lookup] = {}
        self._failed: FairMemory[str, tuple[float, str]] = FairMemory(MAX_FAILURES_REMEMBERED)
        """By name; charged to the namespace that asked."""
        self._shares: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def find(self, host: str, namespace: str) -> list[str]:
        """Return the addresses of a name, at least one. Raises Retryable."""
        self._attach_to_loop()
        flight = self._flights.get(host) or await self._begin_lookup(host, namespace)
        # Who leaves takes nobody's answer along.
        answer = await asyncio.shield(flight.answer)
        if isinstance(answer, str):
            raise _error_of_failure(host, answer)
        return answer

    def close(self) -> None:
        """End every look-up, and forget every failure."""
        if self._loop is asyncio.get_running_loop():
            for flight in tuple(self._flights.values()):
                flight.end(_NO_ANSWER)
        self._flights = {}
        self._failed.clear()

    async def _begin_lookup(self, host: str, namespace: str) -> _Lookup:
        self._raise_known_failure(host)
        share = self._shares.get(namespace)
        if share is None:
            share = self._shares[namespace] = asyncio.Semaphore(LOOKUPS_AT_ONCE)

        await share.acquire()

        try:
            # While this one waited, another may have asked the same, or have met a failure.
            flight = self._flights.get(host)
            if flight is not None:
                share.release()
                return flight
            self._raise_known_failure(host)
        except BaseException:
            share.release()
            raise

        # From here on the share is the flight's, which gives it back however it lands.
        flight = self._flights[host] = _Lookup()
        flight.answer.add_done_callback(
            functools.partial(self._on_lookup_done, host, namespace, share)
        )
        flight.start(host, self._options)

        return flight

    def _on_lookup_done(
        self,
        host: str,
        namespace: str,
        share: asyncio.Semaphore,
        done: asyncio.Future[LookupAnswer],
    ) -> None:
        share.release()
        self._flights.pop(host, None)
        answer = done.result()
        if isinstance(answer, str):
            until = asyncio.get_running_loop().time() + FAILURE_MAX_AGE_S
            self._failed.put(namespace, host, (until, answer))

    def _raise_known_failure(self, host: str) -> None:
        until, words = self._failed.get(host) or (0.0, "")
        if asyncio.get_running_loop().time() < until:
            raise _error_of_failure(host, words)
        self._failed.pop(host)

    def _attach_to_loop(self) -> None:
        """Start afresh on another loop (that of the next test): sockets belong to the loop that
        watches them."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._flights, self._shares = loop, {}, WeakValueDictionary()
            self._failed.clear()


class _Lookup:
    """One look-up under way."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[LookupAnswer] = self._loop.create_future()
        self._watched: set[int] = set()
        self._channel: pycares.Channel | None = None
        self._again: asyncio.TimerHandle | None = None
        self._limit = self._loop.call_later(LOOKUP_TIMEOUT_S, self.end, _NO_ANSWER)

    def start(self, host: str, options: Mapping[str, Any]) -> None:
        """Ask."""
        try:
            self._channel = pycares.Channel(
                timeout=_FIRST_TIMEOUT_S, tries=_TRIES, sock_state_cb=self._watch_socket, **options
            )
            self._channel.getaddrinfo(host, None, type=socket.SOCK_STREAM, callback=self._on_answer)
            self._wait_for_timeout()
        except (pycares.AresError, UnicodeError):
            self.end(_CANNOT_ASK)
        except BaseException:
            self.end(_CANNOT_ASK)
            raise

    def end(self, answer: LookupAnswer) -> None:
        """Give everybody this answer, and close the sockets."""
        if self.answer.done():
            return
        self.answer.set_result(answer)
        self._limit.cancel()
        if self._again is not None:
            self._again.cancel()
        # Not from within c-ares, which may be the one that calls.
        self._loop.call_soon(self._close_channel)

    def _close_channel(self) -> None:
        channel, self._channel = self._channel, None
        for descriptor in tuple(self._watched):
            self._unwatch_socket(descriptor)
        if channel is not None:
            channel.cancel()
            channel.close()

    def _on_answer(self, result: pycares.AddrInfoResult | None, error: int | None) -> None:
        if error is not None or result is None:
            self.end(_WORDS.get(error or 0, "the name server's answer cannot be read"))
            return

        addresses = dict.fromkeys(node.addr[0].decode() for node in result.nodes)
        self.end(list(addresses) or "it has no address")

    def _watch_socket(self, descriptor: int, readable: bool, writable: bool) -> None:
        # c-ares clears up in a thread of its own; by then nothing is watched any more.
        if self._channel is None and self.answer.done():
            return

        self._unwatch_socket(descriptor)

        ready, none = self._on_socket_ready, pycares.ARES_SOCKET_BAD
        if readable:
            self._loop.add_reader(descriptor, ready, descriptor, none)

        if writable:
            self._loop.add_writer(descriptor, ready, none, descriptor)

        if readable or writable:
            self._watched.add(descriptor)

    def _unwatch_socket(self, descriptor: int) -> None:
        if descriptor in self._watched:
            self._watched.discard(descriptor)
            self._loop.remove_reader(descriptor)
            self._loop.remove_writer(descriptor)

    def _on_socket_ready(self, readable: int, writable: int) -> None:
        if self._channel is not None:
            self._channel.process_fd(readable, writable)
            self._wait_for_timeout()

    def _wait_for_timeout(self) -> None:
        """Wake c-ares when its own next time-out is due."""
        if self._again is not None:
            self._again.cancel()
        if self._channel is not None and not self.answer.done():
            left: float = self._channel.timeout(LOOKUP_TIMEOUT_S)  # type: ignore[no-untyped-call]
            self._again = self._loop.call_later(
                left, self._on_socket_ready, pycares.ARES_SOCKET_BAD, pycares.ARES_SOCKET_BAD
            )


def _error_of_failure(host: str, words: str) -> Retryable:
    return Retryable(f"{host}: the name cannot be resolved ({words})")


__all__ = [
    "FAILURE_MAX_AGE_S",
    "LOOKUPS_AT_ONCE",
    "LOOKUP_TIMEOUT_S",
    "MAX_FAILURES_REMEMBERED",
    "NameResolver",
]
