"""Every error of the server, and the one place where errors get their wire codes.

AntiphonError
├── ClientError            the client sent something that cannot be done; the session goes on
├── InvalidKey             the client showed no key, or a wrong one
├── EngineFull             no free slot
├── SessionLost            the engine has no such session any more
├── SequenceTooLong        a conversation would outgrow the model's context
├── ServerDraining         the server is about to stop: it takes no new session, or ends one between two turns
└── EngineUnavailable      the engine's process did not start, or died
"""

from typing import Any


class AntiphonError(Exception):
    """Root of the tree. The message says what was expected and what came."""

    code = "server_error"
    kind = "server_error"


class ClientError(AntiphonError):
    """A client event that was refused; nothing was changed."""

    kind = "invalid_request_error"

    def __init__(self, message: str, code: str = "invalid_value", param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


class InvalidKey(AntiphonError):
    code = "invalid_api_key"
    kind = "invalid_request_error"


class EngineFull(AntiphonError):
    code = "server_overloaded"


class SessionLost(AntiphonError):
    code = "session_lost"


class SequenceTooLong(AntiphonError):
    code = "context_length_exceeded"


class ServerDraining(AntiphonError):
    code = "server_draining"


class EngineUnavailable(AntiphonError):
    code = "engine_unavailable"


def wire_error(error: AntiphonError, client_event_id: str | None = None) -> dict[str, Any]:
    """The `error` object of the wire."""
    return {
        "type": error.kind,
        "code": error.code,
        "message": str(error),
        "param": getattr(error, "param", None),
        "event_id": client_event_id,
    }
