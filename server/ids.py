"""Identifiers in the form that the Realtime API uses."""

import secrets


def new_id(prefix: str) -> str:
    """A new identifier such as `item_5f2c…`, unique in all likelihood for ever."""
    return f"{prefix}_{secrets.token_hex(10)}"
