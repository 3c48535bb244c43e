"""What can go wrong with a request to a server."""

from __future__ import annotations

from .rejection import Rejection


class BadRequest(Exception):
    """The server rejects this request (400, 413, 422, …), and would reject it again.

    Attributes:
        rejection: what the server's reply says.
    """

    def __init__(self, message: str, rejection: Rejection | None = None) -> None:
        super().__init__(message)
        self.rejection = Rejection(message) if rejection is None else rejection


class FatalError(Exception):
    """No request can be answered: the key, address or model is wrong, or a required field is not supported.

    Attributes:
        status: the HTTP status; None if the error is not a reply of the server.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class RateLimited(Exception):
    """Too many requests.

    Attributes:
        retry_after: seconds, from the Retry-After header; None without one.
        overload: whether the server has too much to do.
    """

    overload = True

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ServerUnavailable(Exception):
    """The server cannot be reached, or is temporarily unavailable.

    Attributes:
        retry_after: seconds, from the Retry-After header; None without one.
        overload: whether it may have too much to do.
    """

    def __init__(self, message: str, retry_after: float | None = None, *, overload: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.overload = overload


class RequestFailed(Exception):
    """This request failed: an internal error, a closed connection, a timeout, an invalid reply.

    Attributes:
        overload: whether the server may have too much to do.
        transport: whether there was no complete reply.
    """

    def __init__(self, message: str, *, overload: bool = False, transport: bool = False) -> None:
        super().__init__(message)
        self.overload = overload
        self.transport = transport


SERVER_ERRORS = (BadRequest, FatalError, RateLimited, ServerUnavailable, RequestFailed)
