"""What commands raise where they cannot do what was typed."""

from __future__ import annotations


class RequestFailed(Exception):
    """A request that was refused, got no answer, or makes no sense; the message is for people."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code
        """The HTTP status; 0 where no API server has answered."""


class WrongUsage(RequestFailed):
    """What was typed makes no sense together; nobody was asked anything."""
