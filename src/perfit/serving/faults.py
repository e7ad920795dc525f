"""What a client is told when a request cannot be answered: a status and OpenAI's error object, never anybody's text."""

from __future__ import annotations

import logging
from typing import Any

from perfit.errors import (
    BaseModelError,
    ClosedError,
    ConfigError,
    DamagedError,
    DataError,
    MissingExtraError,
    PerfitError,
    StoreError,
    UnknownUserError,
    UnreachableError,
)
from perfit.failures import describe_failure

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "invalid_request_error",
    409: "conflict_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    503: "service_unavailable",
}


class RefusedError(PerfitError):
    """A request that is not answered.

    Args:
        status: The HTTP status.
        message: One line: what, and the way out.
        param: The field it is about.
        code: A word for programs.
        retry_after: Seconds after which it may go better.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ):
        super().__init__(message)
        self.status, self.param, self.code, self.retry_after = status, param, code, retry_after

    def as_dict(self) -> dict[str, Any]:
        """OpenAI's error object."""
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


def refused(error: Exception) -> RefusedError:
    """An exception as the client sees it: faults of the request whole, those of the server without paths or names."""
    if isinstance(error, RefusedError):
        return error
    if isinstance(error, UnknownUserError):
        return RefusedError(404, str(error), param="user", code="user_not_found")
    if isinstance(error, ClosedError):
        return RefusedError(
            503, "the server is shutting down; ask again in a moment", code="shutting_down", retry_after=5
        )
    if isinstance(error, ConfigError | DataError):
        text = str(error)
        name = text.partition(":")[0]
        return RefusedError(400, text, param=name if name.isidentifier() else None, code="invalid_value")
    if isinstance(error, DamagedError):
        return RefusedError(500, "what is stored for this is damaged; perfit info --verify says more", code="damaged")
    if isinstance(error, UnreachableError):
        return RefusedError(
            503, "what is stored for this cannot be reached now; try again", code="unreachable", retry_after=5
        )
    if isinstance(error, StoreError):
        return RefusedError(409, "the run is in use or cannot be written now; try again", code="in_use", retry_after=5)
    if isinstance(error, MissingExtraError):
        return RefusedError(501, str(error), code="missing_extra")
    return RefusedError(500, "a fault of the server; its log names the kind", code="internal_error")


def log_fault(log: logging.Logger, name: str, what: str, fault: RefusedError, error: Exception) -> None:
    """A fault of the server in its log: the kind and the place, and what it says where that can hold nobody's text.

    Args:
        log: Where to.
        name: Of the request.
        what: Its route.
        fault: As the client sees it; only a fault of the server is told.
        error: As it was raised.
    """
    if fault.status < 500 or isinstance(error, ClosedError):
        return
    cause = error.__cause__ if isinstance(error, RefusedError) and error.__cause__ is not None else error
    # Of our own only those of the base never name a user.
    said = f" ({cause})" if isinstance(cause, BaseModelError) else ""
    where = "; ".join(describe_failure(cause)["where"][-3:])
    log.error("%s %s failed: %s%s at %s", name, what, type(cause).__name__, said, where or "the engine")
