"""What a request is answered with when it fails: a status and the error object that clients expect."""

from __future__ import annotations

import re
from typing import Any

from sttx_core.errors import SttxError, UsageError

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_OPTION = re.compile(r"--([a-z][a-z-]*)")


class RequestError(Exception):
    """A request that cannot be answered.

    Args:
        status: the HTTP status.
        message: one sentence for a person.
        param: the field that is wrong.
        code: a short name of what is wrong, for programs.
    """

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code

    def body(self) -> dict[str, Any]:
        """Return the error object."""
        default = "invalid_request_error" if self.status < 500 else "server_error"
        kind = _TYPES.get(self.status, default)
        fields = {"message": str(self), "type": kind, "param": self.param, "code": self.code}
        return {"error": fields}

    @classmethod
    def of(cls, error: SttxError) -> RequestError:
        """Return what the caller's mistake, or bad data, is answered with; options become fields."""
        status = 400 if isinstance(error, UsageError) else 500
        named = _OPTION.search(str(error))
        message = _OPTION.sub(lambda match: match[1].replace("-", "_"), str(error))
        return cls(status, message, param=named[1].replace("-", "_") if named else None)


def bad(message: str, param: str | None = None, code: str | None = None) -> RequestError:
    """Return the error for a request that must change."""
    return RequestError(400, message, param=param, code=code)
