"""The login at a PostgreSQL, spoken here and not by libpq: TLS, the certificate, the password.

    libpq            Login                               server
      | startup ------> |                                  |
      |                 | TLS as sslmode has it ---------> |
      |                 | startup with the role ---------> |
      |                 | <-- which login it wants         |
      |                 | SCRAM, or a password ----------> |
      | <--- logged in  | <-- logged in, ready             |
      | <------------------ everything else -------------> |

libpq does what the server asks for before it looks up again: a server that names two thousand
million iterations of SCRAM would have the whole operator derive a key for minutes. Here the number
has a limit, a key is derived in a thread, one at a time for each namespace, and what it costs is
counted. The role's password and the certificate never reach libpq.
"""

from __future__ import annotations

import hashlib
import secrets
import ssl
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from scramp import ScramClient, ScramException

from gatewright.ports import Permanent, Retryable
from gatewright.providers.common import tls
from gatewright.providers.common.concurrency import NamespaceThreads
from gatewright.providers.common.context import ContextPart
from gatewright.providers.postgres import errors
from gatewright.providers.postgres.relay import Side

MOST_ITERATIONS = 200_000
"""Iterations of SCRAM that a server may ask for; PostgreSQL's own default is 4,096, the most of
others some 120,000."""
BYTES_PER_ITERATION = 16
"""What an iteration costs, in bytes that could have been read instead: 4,096 of them are as 64
KiB."""
SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_CHECKS: Mapping[str, tls.Checks] = {
    "allow": "nothing",
    "prefer": "nothing",
    "require": "nothing",
    "verify-ca": "certificate",
    "verify-full": "certificate and name",
}

_PROTOCOL = 3 << 16
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
_MAX_MESSAGE_BYTES = 32 * 1024
"""Bytes of one message of a login: an error has some text."""
_LOGGED_IN = b"R" + struct.pack("!ii", 8, 0)
_OK, _CLEARTEXT, _MD5, _SASL, _CONTINUE, _FINAL = 0, 3, 5, 10, 11, 12
_SCRAM, _BOUND = "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"
_OTHER_HOST = 62
"""X509_V_ERR_HOSTNAME_MISMATCH; for an address, 64."""
_OTHER_ADDRESS = 64

_STRANGE = "cannot connect to the database: what answers does not speak PostgreSQL's protocol"
_IS_NOT_BOUND = (
    "the login cannot be bound to the certificate, which channel_binding=require asks for"
)

_threads = ContextPart(lambda: NamespaceThreads("scram", 1))


@dataclass(frozen=True, slots=True)
class Login:
    """Who logs in where, as a URL says it."""

    user: str
    password: str = field(repr=False)
    sslmode: str
    direct: bool
    """Whether TLS begins without being asked for (sslnegotiation=direct)."""
    channel_binding: str
    namespace: str
    """Whose time a key's derivation takes."""
    charge: Callable[[int], None]
    """Told what a login cost, in bytes that could have been read instead."""
    token: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    """The role as which libpq comes: nobody else who finds the loopback port knows it."""

    async def open(self, host: str, driver: Side, server: Side) -> None:
        """Log in at the server, for the driver that waits. Raises Retryable, Permanent, OSError."""
        startup = await self._startup_message(driver)
        await self._start_tls(server, host)
        server.write(startup)
        await _LoginExchange(self, server).run()
        driver.write(_LOGGED_IN + await _read_until_ready(server))

    async def _startup_message(self, driver: Side) -> bytes:
        """Return what libpq begins with, by the role in place of the token."""
        (size,) = struct.unpack("!i", await driver.read(4))
        if not 8 <= size <= _MAX_MESSAGE_BYTES:
            raise ConnectionRefusedError("not our driver")

        body = await driver.read(size - 4)
        words = body[4:].rstrip(b"\0").split(b"\0")
        settings = dict(zip(words[::2], words[1::2], strict=False))
        (protocol,) = struct.unpack_from("!i", body)
        # Nobody else who finds the loopback port knows the token.
        if protocol != _PROTOCOL or settings.get(b"user") != self.token.encode():
            raise ConnectionRefusedError("not our driver")

        settings[b"user"] = self.user.encode()
        pairs = b"".join(b"%b\0%b\0" % pair for pair in settings.items())

        return struct.pack("!ii", len(pairs) + 9, _PROTOCOL) + pairs + b"\0"

    async def _start_tls(self, server: Side, host: str) -> None:
        if self.sslmode == "disable":
            return

        if not self.direct and not await self._is_tls_offered(server):
            return

        context = tls.client_context("postgresql", checks=_CHECKS[self.sslmode])
        problem = ""
        try:
            await server.secure(context, host)
        except ssl.SSLCertVerificationError as error:
            is_other = error.verify_code in (_OTHER_HOST, _OTHER_ADDRESS)
            problem = f"the certificate is {'for another host' if is_other else 'not trusted'}"
        except ssl.SSLError as error:
            # A TLS alert may come from anything on the way, so it may be over soon.
            reason = error.reason or "no reason"
            raise Retryable(f"cannot connect to the database: TLS failed ({reason})") from None

        if problem:
            raise Permanent(problem)

    async def _is_tls_offered(self, server: Side) -> bool:
        """Ask whether the server speaks TLS. Raises Permanent where it has to, and does not."""
        server.write(_SSL_REQUEST)
        answer = await server.read(1)
        if answer == b"N" and self.sslmode in ("allow", "prefer"):
            return False
        if answer == b"N":
            raise Permanent("the server does not speak TLS, which sslmode asks for")
        if answer != b"S":
            raise Retryable(_STRANGE)

        return True


class _LoginExchange:
    """What is said from the startup until the server lets the role in."""

    def __init__(self, login: Login, server: Side) -> None:
        self._login = login
        self._server = server
        self._client: ScramClient | None = None
        self._is_bound = False
        self._is_proven = True
        """Whether a server that began SCRAM has shown that it knows the password too."""

    async def run(self) -> None:
        """Answer what the server asks for, until it lets the role in.

        Raises Retryable, Permanent, OSError.
        """
        while True:
            kind, body = await _read_message(self._server)
            if kind == b"E":
                raise errors.error_of_login(body)
            if kind == b"N":
                continue
            if kind != b"R" or len(body) < 4:
                raise Retryable(_STRANGE)

            (code,) = struct.unpack_from("!i", body)
            if code == _OK:
                break

            await self._answer_request(code, body[4:])

        if not self._is_proven:
            unproven = "without having shown that it knows its password"
            raise Permanent(f"the server let the role in {unproven}")
        if self._login.channel_binding == "require" and not self._is_bound:
            raise Permanent(_IS_NOT_BOUND)

    async def _answer_request(self, code: int, data: bytes) -> None:
        if self._login.channel_binding == "require" and code in (_CLEARTEXT, _MD5):
            raise Permanent(_IS_NOT_BOUND)
        if code in (_CLEARTEXT, _MD5, _SASL) and not self._login.password:
            raise Permanent("a password is needed, and the URL has none")

        if code == _CLEARTEXT:
            self._send_password(self._login.password.encode() + b"\0")
        elif code == _MD5 and len(data) == 4:
            user, password = self._login.user.encode(), self._login.password.encode()
            self._send_password(_md5_password(user, password, data))
        elif code == _SASL and self._client is None:
            self._begin_scram(data)
        elif code == _CONTINUE and self._client is not None:
            await self._continue_scram(self._client, data)
        elif code == _FINAL and self._client is not None:
            _tell_scram(self._client.set_server_final, data)
            self._is_proven = True
        elif code in (_MD5, _SASL, _CONTINUE, _FINAL):
            raise Retryable(_STRANGE)
        else:
            remedy = "give the role a password (scram-sha-256)"
            raise Permanent(f"the server wants a login of kind {code}; {remedy}")

    def _begin_scram(self, data: bytes) -> None:
        offered = {name.decode("ascii", "replace") for name in data.split(b"\0") if name}
        binding = self._login.channel_binding
        client: ScramClient | None = None
        if binding != "disable":
            client = self._client_by(offered, self._server.secured)

        is_bound = client is not None and client.mechanism_name == _BOUND
        if binding == "require" and not is_bound:
            raise Permanent(_IS_NOT_BOUND)

        # Some certificates have no hash to bind to (Ed25519).
        client = client or self._client_by(offered, None)
        if client is None and _SCRAM not in offered:
            other = "that this connection can have"
            raise Permanent(f"the server offers no login by SCRAM-SHA-256 {other}")

        if client is None:
            strange = "characters that SCRAM does not take; give it a plain password"
            raise Permanent(f"the role or its password has {strange}")

        self._client, self._is_proven = client, False
        self._is_bound = client.mechanism_name == _BOUND

        first = client.get_client_first().encode()
        mechanism = client.mechanism_name.encode() + b"\0"
        self._send_password(mechanism + struct.pack("!i", len(first)) + first)

    def _client_by(self, offered: set[str], secured: ssl.SSLObject | None) -> ScramClient | None:
        possible = (_BOUND, _SCRAM) if secured else (_SCRAM,)
        usable = [name for name in possible if name in offered]
        binding = ("tls-server-end-point", secured) if secured else None
        try:
            return ScramClient(
                usable, self._login.user, self._login.password, channel_binding=binding
            )
        except (ScramException, ValueError, LookupError, TypeError):
            return None

    async def _continue_scram(self, client: ScramClient, data: bytes) -> None:
        _tell_scram(client.set_server_first, data)
        iterations = int(client.iterations)
        if iterations > MOST_ITERATIONS:
            wants = f"the server wants {iterations:,} iterations of SCRAM"
            remedy = "set scram_iterations lower and give the role its password again"
            raise Permanent(f"{wants}, and at most {MOST_ITERATIONS:,} are made; {remedy}")

        self._login.charge(iterations * BYTES_PER_ITERATION)
        final = await _threads().run(self._login.namespace, client.get_client_final)
        self._send_password(final.encode())

    def _send_password(self, body: bytes) -> None:
        self._server.write(b"p" + struct.pack("!i", len(body) + 4) + body)


def _tell_scram(tell: Callable[[str], None], data: bytes) -> None:
    """Tell SCRAM what the server says of it; whatever cannot be read there is the server's fault.
    Raises Permanent."""
    try:
        tell(data.decode())
        return
    except (ScramException, ValueError, LookupError, TypeError):
        pass

    raise Permanent(
        "what the server says in a login by SCRAM cannot be used: it does not know the "
        "password, or asks for fewer than "
        "4,096 iterations or for more than can be counted"
    )


async def _read_until_ready(server: Side) -> bytes:
    """Return what a server says between letting the role in and waiting for a question: settings,
    and whether there is such a database at all.

    Raises Retryable, Permanent, OSError.
    """
    messages = bytearray()

    while True:
        kind, body = await _read_message(server)
        if kind == b"E":
            raise errors.error_of_login(body)
        if kind not in (b"S", b"K", b"N", b"Z"):
            raise Retryable(_STRANGE)

        messages += kind + struct.pack("!i", len(body) + 4) + body

        if kind == b"Z":
            return bytes(messages)


async def _read_message(server: Side) -> tuple[bytes, bytes]:
    kind, size = struct.unpack("!ci", await server.read(5))
    if not 4 <= size <= _MAX_MESSAGE_BYTES:
        raise Retryable(_STRANGE)
    return kind, await server.read(size - 4)


def _md5_password(user: bytes, password: bytes, salt: bytes) -> bytes:
    inner = hashlib.md5(password + user, usedforsecurity=False).hexdigest().encode()
    return b"md5" + hashlib.md5(inner + salt, usedforsecurity=False).hexdigest().encode() + b"\0"
