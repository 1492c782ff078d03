"""A PostgreSQL server that means harm: it speaks the protocol up to a point, and from there on
sends without an end.

It runs in threads with blocking sockets and sends one block again and again, so that what the
process grows by is what the other side keeps.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import threading
from collections.abc import Iterator, Mapping

_GIGABYTE = 1 << 30
_BLOCK = 4096
_GENTLE = 32
"""Blocks that are sent one by one at first, so that they are read one by one."""
_SSL, _GSS = 80877103, 80877104
_INT8, _BOOL, _TEXT, _JSON = 20, 16, 25, 114


def message(kind: bytes, body: bytes = b"", length: int | None = None) -> bytes:
    """A message of the protocol; `length` is what it says of itself, where that is not true."""
    return kind + struct.pack(">i", (len(body) if length is None else length) + 4) + body


def columns(*types: int) -> bytes:
    """A RowDescription."""
    fields = b"".join(b"c\0" + struct.pack(">ihihih", 0, 0, oid, -1, -1, 0) for oid in types)
    return message(b"T", struct.pack(">h", len(types)) + fields)


def row(*values: bytes) -> bytes:
    """A DataRow."""
    return message(
        b"D",
        struct.pack(">h", len(values)) + b"".join(struct.pack(">i", len(v)) + v for v in values),
    )


READY = message(b"Z", b"I")
LOGGED_IN = message(b"R", struct.pack(">i", 0)) + message(b"S", b"client_encoding\0UTF8\0") + READY
PARSED = message(b"1") + message(b"2")
COMMAND = PARSED + message(b"n") + message(b"C", b"DONE\0")
POWERLESS = PARSED + columns(*[_BOOL] * 4) + row(*[b"f"] * 4) + message(b"C", b"SELECT 1\0") + READY
BEGUN = COMMAND * 3 + columns(_INT8) + READY
ANSWERED = (
    PARSED
    + columns(_INT8)
    + row(b"1")
    + message(b"C", b"FETCH 1\0")
    + COMMAND
    + READY
    + COMMAND
    + READY
)
SCRIPT = (LOGGED_IN, POWERLESS, BEGUN, ANSWERED)
"""What an honest server says: to the login, to the question about the role, to the cursor, to its
rows."""

_ERROR = b"SERROR\0VERROR\0C42P01\0M"
_LONG: Mapping[str, bytes] = {
    "a row": message(b"D", struct.pack(">hi", 1, _GIGABYTE - 10), _GIGABYTE),
    "an error": message(b"E", _ERROR, _GIGABYTE),
    "a notice": message(b"N", b"SNOTICE\0C00000\0M", _GIGABYTE),
    "a setting": message(b"S", b"a\0", _GIGABYTE),
    "a notification": message(b"A", b"\0\0\0\1", _GIGABYTE),
    "a description": message(b"T", b"\x7f\xff", _GIGABYTE),
    "a copy": message(b"H", b"\0\0\0") + message(b"d", b"", _GIGABYTE),
    "a login": message(b"R", struct.pack(">i", 8), _GIGABYTE),
    "nonsense": b"HTTP/1.1 200 OK\r\n\r\n",
}
_MANY: Mapping[str, bytes] = {
    "errors": message(b"E", _ERROR + b"x\0\0"),
    "notices": message(b"N", b"SNOTICE\0C00000\0Mx\0\0"),
    "notifications": message(b"A", b"\0\0\0\1a\0b\0"),
    "rows": row(b"1"),
    "results": COMMAND,
    "ends": READY,
    "descriptions": columns(_INT8),
    "backend keys": message(b"K", b"\0" * 8),
}
FLOODS = (*_LONG, *_MANY, "settings")
"""What may come without an end: one message, or many."""


def _flood(name: str) -> Iterator[bytes]:
    if name in _LONG:
        yield _LONG[name]
        while True:
            yield b"x" * _BLOCK
    if name == "settings":
        # each of them new: that is what a driver remembers
        for number in itertools.count():
            yield b"".join(
                message(b"S", b"%x\0b\0" % (number << 12 | part)) for part in range(_BLOCK // 16)
            )
    block = _MANY[name] * (_BLOCK // len(_MANY[name]))
    while True:
        yield block


@contextlib.contextmanager
def hostile(flood: str, after: int, tls: bool = False) -> Iterator[int]:
    """A port whose server is honest for so many parts of the script, and then floods. `tls`: in
    place of an answer to the request for TLS."""
    ending = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.1)
        accepting = threading.Thread(
            target=_accept, args=(listening, flood, after, tls, ending), daemon=True
        )
        accepting.start()
        try:
            yield listening.getsockname()[1]
        finally:
            ending.set()
            accepting.join()


def _accept(
    listening: socket.socket, flood: str, after: int, tls: bool, ending: threading.Event
) -> None:
    talks: list[threading.Thread] = []
    while not ending.is_set():
        with contextlib.suppress(TimeoutError):
            client, _ = listening.accept()
            talks.append(
                threading.Thread(
                    target=_talk, args=(client, flood, after, tls, ending), daemon=True
                )
            )
            talks[-1].start()
    for talk in talks:
        talk.join()


def _talk(
    client: socket.socket, flood: str, after: int, tls: bool, ending: threading.Event
) -> None:
    client.settimeout(0.2)
    with client, contextlib.suppress(OSError):
        while _startup(client) in (_SSL, _GSS):
            if tls:
                break
            client.sendall(b"N")
        for part in () if tls else SCRIPT[:after]:
            client.sendall(part)
            _until_sync(client, 2 if part is BEGUN else 1)
        for number, block in enumerate(_flood(flood)):
            if ending.wait(0.001 if number < _GENTLE else 0):
                break
            client.sendall(block)


def _startup(client: socket.socket) -> int:
    length, code = struct.unpack(">ii", _exactly(client, 8))
    _exactly(client, length - 8)
    return int(code)


def _until_sync(client: socket.socket, count: int) -> None:
    while count:
        kind, length = struct.unpack(">ci", _exactly(client, 5))
        _exactly(client, length - 4)
        count -= kind == b"S"


def _exactly(client: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = client.recv(size - len(found))
        if not part:
            raise ConnectionError("the client is gone")
        found += part
    return found
