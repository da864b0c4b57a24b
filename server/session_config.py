"""The `session` object of the Realtime API (GA): its fields, defaults and limits, and how an update is merged.

No I/O. A rejected update changes nothing.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    model_serializer,
    model_validator,
)

from model.prompt import Tool, system_text
from server.engine.messages import Function
from server.errors import ClientError
from server.functions import functions

DEFAULT_INSTRUCTIONS = ""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PcmFormat(_Strict):
    type: Literal["audio/pcm"] = "audio/pcm"
    rate: Literal[24000] = 24000


class UlawFormat(_Strict):
    type: Literal["audio/pcmu"]


class AlawFormat(_Strict):
    type: Literal["audio/pcma"]


AudioFormat = Annotated[PcmFormat | UlawFormat | AlawFormat, Field(discriminator="type")]


class ServerVad(_Strict):
    type: Literal["server_vad"] = "server_vad"
    threshold: float = Field(default=0.5, ge=0, le=1)
    prefix_padding_ms: int = Field(default=300, ge=0, le=10_000)
    silence_duration_ms: int = Field(default=500, ge=0, le=30_000)
    idle_timeout_ms: int | None = Field(default=None, ge=5000, le=30_000)
    create_response: bool = True
    interrupt_response: bool = True


class SemanticVad(_Strict):
    type: Literal["semantic_vad"]
    eagerness: Literal["low", "medium", "high", "auto"] = "auto"
    create_response: bool = True
    interrupt_response: bool = True


TurnDetection = Annotated[ServerVad | SemanticVad, Field(discriminator="type")]


class NoiseReduction(_Strict):
    type: Literal["near_field", "far_field"]


class Transcription(_Strict):
    model: str | None = None
    language: str | None = None
    languages: list[str] | None = None
    keywords: list[str] | None = None
    prompt: str | None = None
    delay: Literal["minimal", "low", "medium", "high", "xhigh"] | None = None

    @model_serializer(mode="wrap")
    def _what_was_set(self, shown: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Pipecat's own type has fewer fields and takes no others, not even null ones."""
        return {k: v for k, v in shown(self).items() if v is not None}


class AudioInput(_Strict):
    format: AudioFormat = PcmFormat()
    noise_reduction: NoiseReduction | None = None
    transcription: Transcription | None = None
    turn_detection: TurnDetection | None = ServerVad()


class AudioOutput(_Strict):
    format: AudioFormat = PcmFormat()
    voice: str | dict[str, str] = "marin"
    speed: float = Field(default=1.0, ge=0.25, le=1.5)


class Audio(_Strict):
    input: AudioInput = AudioInput()
    output: AudioOutput = AudioOutput()


FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class FunctionTool(_Strict):
    type: Literal["function"]
    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class McpTool(BaseModel):
    """Refused, rather than shown and never called."""

    model_config = ConfigDict(extra="allow", frozen=True)
    type: Literal["mcp"]
    server_label: str

    @model_validator(mode="after")
    def _refuse(self) -> "McpTool":
        raise ValueError("expected tools of type function, got mcp: this server connects to no MCP server")


class ChosenTool(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)
    type: Literal["function"]
    name: str


Tools = list[Annotated[FunctionTool | McpTool, Field(discriminator="type")]]
ToolChoice = Literal["auto", "none", "required"] | ChosenTool


class TokenLimits(_Strict):
    post_instructions: Annotated[int, Field(ge=0)] | None = None


class RetentionRatio(_Strict):
    type: Literal["retention_ratio"]
    retention_ratio: Annotated[float, Field(ge=0, le=1)]
    token_limits: TokenLimits | None = None


MaxTokens = Annotated[int, Field(ge=1, le=4096)] | Literal["inf"]
Modalities = Annotated[list[Literal["audio", "text"]], Field(min_length=1, max_length=1)]


class SessionConfig(_Strict):
    """What a client may set, with the values that hold where it sets nothing."""

    type: Literal["realtime", "transcription"] = "realtime"
    model: str | None = None
    output_modalities: Modalities = ["audio"]
    instructions: str = DEFAULT_INSTRUCTIONS
    audio: Audio = Audio()
    include: list[str] | None = None
    tools: Tools = []
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool | None = None
    reasoning: dict[str, Any] | None = None
    max_output_tokens: MaxTokens = "inf"
    truncation: Literal["auto", "disabled"] | RetentionRatio = "auto"
    tracing: str | dict[str, Any] | None = None
    prompt: dict[str, Any] | None = None

    def shown(self, session_id: str, model: str, expires_at: int) -> dict[str, Any]:
        """The session object of the wire. `expires_at`: Unix time in seconds."""
        fields = self.model_dump()
        fixed = {"id": session_id, "expires_at": expires_at}
        if self.type == "transcription":
            heard = {"type": self.type, "audio": {"input": fields["audio"]["input"]}, "include": fields["include"]}
            return heard | fixed | {"object": "realtime.transcription_session"}
        return fields | fixed | {"object": "realtime.session", "model": model}


class ResponseOutput(_Strict):
    format: AudioFormat | None = None
    voice: str | dict[str, str] | None = None


class ResponseAudio(_Strict):
    output: ResponseOutput = ResponseOutput()


class ResponseConfig(_Strict):
    """The `response` object of `response.create`; None where the session's value holds."""

    conversation: Literal["auto", "none"] = "auto"
    input: list[dict[str, Any]] | None = None
    instructions: str | None = None
    output_modalities: Modalities | None = None
    audio: ResponseAudio = ResponseAudio()
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning: dict[str, Any] | None = None
    max_output_tokens: MaxTokens | None = None
    metadata: dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]] | None = Field(
        default=None, max_length=16
    )
    prompt: dict[str, Any] | None = None


def _merged(old: Any, new: Any) -> Any:
    """`new` laid over `old`: objects merge field by field unless their `type` changes, everything else replaces."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    if "type" in new and "type" in old and new["type"] != old["type"]:
        return new
    return old | {key: _merged(old.get(key), value) for key, value in new.items()}


# A client clears these with null; they go back to their defaults.
_CLEARED_BY_NULL = ("instructions", "tools", "tool_choice", "max_output_tokens", "truncation", "output_modalities")
# Free objects of the caller, not ours to merge into.
_REPLACED = ("tool_choice", "truncation", "tracing", "prompt", "reasoning")
# What the server itself says about a session; clients that send it back mean no harm.
_OURS = ("id", "object", "expires_at")


def updated(config: SessionConfig, patch: Any) -> SessionConfig:
    """`config` with the fields of `patch` changed. Raises `ClientError`; `config` itself never changes."""
    if not isinstance(patch, dict):
        raise ClientError(f"expected session to be an object, got {type(patch).__name__}", "invalid_type", "session")
    patch = {k: v for k, v in patch.items() if k not in _OURS}
    patch.pop("model", None)  # fixed by the URL; clients repeat it in every update
    old = config.model_dump()
    for name in _CLEARED_BY_NULL:
        if name in patch and patch[name] is None:
            patch[name] = SessionConfig.model_fields[name].get_default(call_default_factory=True)
    for name in _REPLACED:
        if name in patch:
            old[name] = None
    merged: SessionConfig = parse(SessionConfig, _merged(old, patch), "session")
    if merged.tools != config.tools:
        declared(merged.tools, "session.tools")
    return merged


def read_by_model(instructions: str, tools: Tools) -> str:
    """What the model reads of instructions and function tools."""
    functions = [t for t in tools if isinstance(t, FunctionTool)]
    return system_text(instructions, [Tool.from_schema(t.name, t.description, t.parameters) for t in functions])


def declared(tools: Tools, param: str) -> tuple[Function, ...]:
    """The function tools among `tools`. Raises `ClientError` for a schema that cannot be."""
    return functions([(t.name, t.parameters) for t in tools if isinstance(t, FunctionTool)], param)


_adapters: dict[type[Any], TypeAdapter[Any]] = {}  # making one costs more than checking a chunk of audio


def _fields(value: Any, location: tuple[int | str, ...], missing: bool) -> list[str]:
    """The fields that lead to a fault, of which the last may be missing. A location names the kinds that were tried of
    a union as well; these are in no value."""
    found = []
    for i, part in enumerate(location):
        last = i == len(location) - 1
        if isinstance(value, dict) and part == value.get("type") and not last:
            continue  # the kind, although there may be a field of that name, too
        if (isinstance(value, dict) and part in value) or (isinstance(value, list) and isinstance(part, int)):
            found.append(str(part))
            value = value[part]  # type: ignore[index]
        elif missing and last:
            found.append(str(part))
    return found


def as_client_error(
    found: Mapping[str, Any], value: Any, location: tuple[int | str, ...], where: str = ""
) -> ClientError:
    """What pydantic found at a location in `value`: names the field below `where`, what was expected and what came."""
    param = ".".join([*([where] if where else []), *_fields(value, location, found["type"] == "missing")])
    code = {"extra_forbidden": "unknown_parameter", "missing": "missing_required_parameter"}.get(
        found["type"], "invalid_value"
    )
    shown = repr(found["input"])
    came = "" if code == "missing_required_parameter" else f", got {shown if len(shown) < 80 else shown[:77] + '…'}"
    return ClientError(f"{param}: {found['msg']}{came}" if param else f"{found['msg']}{came}", code, param or None)


def parse(kind: type[Any], value: Any, where: str) -> Any:
    """`value` as a `kind`. Raises `ClientError` that names the field below `where`, what was expected and what came."""
    try:
        if kind not in _adapters:
            _adapters[kind] = TypeAdapter(kind)
        return _adapters[kind].validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise as_client_error(first, value, first["loc"], where) from error
