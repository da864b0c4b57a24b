"""What the model reads before a conversation, and how it writes a function call. The one text format that training and
the server share; plain strings, no torch.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Tool:
    """A function tool as the model reads it: `name(argument: type, …) description`."""

    name: str
    arguments: tuple[tuple[str, str], ...]
    description: str

    @classmethod
    def from_schema(cls, name: str, description: str | None, parameters: dict[str, Any] | None) -> "Tool":
        """From a JSON schema; an enum becomes its values, anything unknown a string."""
        properties = (parameters or {}).get("properties")
        arguments = []
        for argument, schema in properties.items() if isinstance(properties, dict) else ():
            schema = schema if isinstance(schema, dict) else {}
            kind = "|".join(map(str, schema["enum"])) if schema.get("enum") else str(schema.get("type", "string"))
            arguments.append((argument, "number" if kind == "integer" else kind))
        return cls(name, tuple(arguments), description or "")

    def schema(self) -> dict[str, Any]:
        """The JSON schema of the arguments; all are required."""
        kinds = {n: {"enum": t.split("|")} if "|" in t else {"type": t} for n, t in self.arguments}
        return {"type": "object", "properties": kinds, "required": list(kinds)}

    def text(self) -> str:
        return f"{self.name}({', '.join(f'{n}: {t}' for n, t in self.arguments)}) {self.description}".strip()


def system_text(instructions: str, tools: list[Tool]) -> str:
    """Instructions and tools in one text."""
    listed = "Tools: " + " ".join(tool.text() for tool in tools) if tools else ""
    return f"{instructions} {listed}".strip()


# JSON as `json.dumps` writes it, which is how training wrote it.
_JSON_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


def call_grammar(functions: Iterable[tuple[str, dict[str, Any]]]) -> str:
    """The calls of these functions (name, JSON schema of the arguments), as a grammar of llguidance.

    Without a word on further arguments a schema admits none. The blank before the name is the text tokenizer's.
    """
    rules = []
    for i, (name, schema) in enumerate(functions):
        closed = {"type": "object", "additionalProperties": False, **schema, "x-guidance": _JSON_STYLE}
        rules.append(f"call{i}: {json.dumps(f' {name} ')} %json {json.dumps(closed)}")
    return "\n".join([f"start: {' | '.join(f'call{i}' for i in range(len(rules)))}", *rules])


def call_text(name: str, arguments: str) -> str:
    """A call as the model writes it: the name, then JSON."""
    return f"{name} {arguments}"
