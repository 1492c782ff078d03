"""What comes in on an HTTP connection: counted below aiohttp's parser, raw as it comes, and cut off
where it is too much.

    transport --data_received--> Intake   every byte, head and framing included, and the work that
                                   |      it makes
                                   └─ pieces of 16 KiB, one a turn of the loop
                                        └─> aiohttp's parser --> the body's reader

The parser works on what it is given until it is done, and what it makes of it is larger than what
came in: a hundred thousand `100 Continue`, or a chunk around every byte. So it is given a little at
a time, and what it has made of that is counted before it gets more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp.client_proto import ResponseHandler
from aiohttp.streams import StreamReader

ALLOWANCE = 2 * 1024 * 1024
"""What one answer may cost, in bytes: twice the longest body."""
HEAD = 64 * 1024
"""Bytes of all headers of an answer, those of interim answers included."""
HEADS = 8
"""Heads of one answer: `100 Continue` and `103 Early Hints` may come before it."""
PIECE = 16 * 1024
"""Bytes that are parsed at once; of the worst kind they take 5 ms."""
READ_COST = 256
"""Bytes that could be parsed in the time that it takes to receive a little."""
FRAMING_COST = 12
"""Bytes of a body that could be parsed for one byte of framing: a chunk has at least five, and
costs as much as 60."""


class Intake:
    """What comes in for one request."""

    __slots__ = ("charge", "cut", "framing", "head", "heads", "parsed", "spent")

    def __init__(self, charge: Callable[[int], None]) -> None:
        """`charge`: is told what has come in, in bytes, at once."""
        self.charge = charge
        self.cut = ""
        """Why the connection was cut off."""
        self.spent = 0
        """What it has cost so far."""
        self.parsed = 0
        """Bytes that the parser was given."""
        self.head = 0
        """Bytes until the body."""
        self.heads = 0
        self.framing = 0
        """Bytes between parts of the body."""

    def take(self, cost: int) -> None:
        """Count what comes in."""
        self.spent += cost
        self.charge(cost)
        if self.spent > ALLOWANCE:
            self.refuse("the answer comes in too many pieces")

    def take_head(self) -> None:
        """Count one head."""
        self.heads += 1
        if self.heads > HEADS:
            self.refuse(f"more than {HEADS} answers came for one request (such as 100 Continue)")

    def take_parsed(self, size: int, body: StreamReader | None) -> None:
        """Count what the parser has made of a piece. `body`: of the answer, if its head has
        come."""
        self.parsed += size

        if body is None or not self.head:
            self.head = self.parsed - body.total_bytes if body is not None else 0
            if (self.head or self.parsed) > HEAD:
                self.refuse(f"the headers are longer than {HEAD // 1024} KiB")
            return

        framing = self.parsed - self.head - body.total_bytes
        if framing > self.framing:
            more, self.framing = framing - self.framing, framing
            self.take((FRAMING_COST - 1) * more)

    def refuse(self, reason: str) -> None:
        """Let nothing more come in."""
        self.cut = self.cut or reason


class CountedHandler(ResponseHandler):
    """aiohttp's side of a connection, which takes no more than is allowed and parses a piece at a
    time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, intake: Intake) -> None:
        super().__init__(loop)
        self._intake = intake
        self._body: StreamReader | None = None
        self._unparsed = b""
        self._place = 0
        """Where the next piece of it begins."""
        self._turn: asyncio.Handle | None = None

    def begin(self, intake: Intake) -> None:
        """Take what comes from now on for the answer to another request."""
        self._intake = intake
        self._body = None

    def data_received(self, data: bytes) -> None:
        """Count what comes in, and parse it now if it is short."""
        # aiohttp goes on where it had paused.
        if not data:
            super().data_received(data)
            self._go_on()
            return

        self._intake.take(len(data) + READ_COST)

        # Whatever comes after the answer is not asked for.
        if self._intake.cut or (self._body is not None and self._body.is_eof()):
            self._drop()
        elif self._unparsed:
            self._unparsed, self._place = self._unparsed[self._place :] + data, 0
        elif len(data) <= PIECE and not self._reading_paused:
            self._parse(data)
        else:
            self._unparsed, self._place = data, 0
            self._pause_reading_for_buffer()
            self._parse_next()

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Count a head, and pass it on."""
        self._intake.take_head()
        if self._intake.cut:
            return

        message, body = data
        if self._body is None and not 100 <= message.code < 200:
            self._body = body
        super().feed_data(data, size)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Parse what came before the end."""
        while self._unparsed and not self._reading_paused:
            self._parse_next()
        self._forget()
        super().connection_lost(exc)

    def _parse_next(self) -> None:
        self._turn = None

        if self._body is not None and self._body.is_eof():
            self._drop()
            return

        piece = self._unparsed[self._place : self._place + PIECE]
        self._place += PIECE

        if self._place >= len(self._unparsed):
            self._unparsed = b""

        self._parse(piece)
        self._go_on()

    def _go_on(self) -> None:
        """Parse the next piece in another turn of the loop, so that everything else has its own in
        between."""
        if self._reading_paused or self._turn is not None or not self._buffer_paused:
            return
        if self._unparsed:
            self._turn = self._loop.call_soon(self._parse_next)
        else:
            self._resume_reading_for_buffer()

    def _parse(self, piece: bytes) -> None:
        super().data_received(piece)
        if not self._reading_paused:
            self._intake.take_parsed(len(piece), self._body)
        else:
            # The parser may hold some of it back.
            self._intake.parsed += len(piece)
        if self._intake.cut:
            self._drop()

    def _drop(self) -> None:
        """End the connection at once; a body that is complete can still be read."""
        self._forget()
        self.force_close()
        if self.transport is not None:
            self.transport.abort()

    def _forget(self) -> None:
        self._unparsed = b""
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
