"""Function tools as clients declare them -> what the engine may call. No I/O."""

import functools
import json
from collections.abc import Iterable, Sequence
from typing import Any

from llguidance import LLMatcher

from model.prompt import call_grammar
from server.engine.messages import Calls, Function
from server.errors import ClientError


def functions(declared: Iterable[tuple[str, dict[str, Any] | None]], param: str) -> tuple[Function, ...]:
    """From (name, JSON schema of the arguments) of each tool. Raises `ClientError` for a schema that cannot be."""
    found = []
    for i, (name, schema) in enumerate(declared):
        parameters = json.dumps(schema or {})
        if problem := _problem(name, parameters):
            reason = problem.splitlines()[0].partition("JSON schema: ")[2] or problem
            raise ClientError(
                f"expected the parameters of {name!r} to be a JSON schema: {reason}",
                "invalid_function_parameters",
                f"{param}[{i}].parameters",
            )
        found.append(Function(name, parameters))
    return tuple(found)


@functools.lru_cache(maxsize=1024)
def _problem(name: str, parameters: str) -> str:
    """What is wrong with a schema; a session's tools are looked at again for every response."""
    problem: str = LLMatcher.validate_grammar(call_grammar([(name, json.loads(parameters))]))
    return problem


def calls(choice: str, declared: Sequence[Function], only: str | None = None) -> Calls | None:
    """What `tool_choice` allows: `none`, `auto`, `required`, or only the function of that name.

    Raises `ClientError` if there is no such function, or none at all where one is required.
    """
    names = [f.name for f in declared]
    if only is not None and only not in names:
        raise ClientError(
            f"expected tool_choice to name one of the tools {names}, got {only!r}", "invalid_value", "tool_choice.name"
        )
    if choice == "required" and not declared:
        raise ClientError("expected at least one function with tool_choice 'required'", "invalid_value", "tool_choice")
    if choice == "none" or not declared:
        return None
    allowed = tuple(f for f in declared if only in (None, f.name))
    return Calls(allowed, required=only is not None or choice == "required")
