"""What the model reads before a conversation, and how it writes a function call. The one text format that training and
the server share; plain strings, no torch.
"""

import json
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

    def text(self) -> str:
        return f"{self.name}({', '.join(f'{n}: {t}' for n, t in self.arguments)}) {self.description}".strip()


def system_text(instructions: str, tools: list[Tool]) -> str:
    """Instructions and tools in one text."""
    listed = "Tools: " + " ".join(tool.text() for tool in tools) if tools else ""
    return f"{instructions} {listed}".strip()


def call_text(name: str, arguments: str) -> str:
    """A call as the model writes it: the name, then JSON."""
    return f"{name} {arguments}"


def read_call(text: str) -> tuple[str, str]:
    """(name, JSON of the arguments) of a call. Raises ValueError if it is none."""
    name, _, arguments = text.strip().partition(" ")
    value = json.loads(arguments)
    if not name or not isinstance(value, dict):
        raise ValueError(f"expected a name and a JSON object, got {text!r}")
    return name, json.dumps(value)
