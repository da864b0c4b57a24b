"""Who may connect: API keys that the operator sets, and client secrets that expire, for browsers. No I/O."""

import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request

from server.errors import InvalidKey

Wire = dict[str, Any]
_BEARER, _KEY_PROTOCOL, _SECRET = "bearer", "openai-insecure-api-key.", "ek_"


@dataclass(frozen=True, slots=True)
class ClientSecret:
    """A key for one purpose: until `expires_at`, and with the session that it was made for."""

    value: str
    expires_at: int
    session: Wire = field(default_factory=dict)


class Keys:
    """The keys of one server; without any, everybody may connect."""

    def __init__(self, api_keys: tuple[str, ...], unix_time: Callable[[], float]) -> None:
        self._api_keys, self._unix_time = api_keys, unix_time
        self._secrets: dict[str, ClientSecret] = {}

    def issue(self, session: Wire, seconds: int) -> ClientSecret:
        """A new client secret."""
        now = self._unix_time()
        self._secrets = {k: s for k, s in self._secrets.items() if s.expires_at > now}
        secret = ClientSecret(_SECRET + secrets.token_hex(16), int(now) + seconds, session)
        self._secrets[secret.value] = secret
        return secret

    def check(self, key: str) -> Wire:
        """The session that `key` was made for, empty for an API key. Raises `InvalidKey`."""
        secret = self._secrets.get(key)
        if secret is not None and secret.expires_at > self._unix_time():
            return secret.session
        if secret is not None:
            raise InvalidKey("expected a client secret that has not expired")
        if self._api_keys and not any(hmac.compare_digest(key.encode(), k.encode()) for k in self._api_keys):
            raise InvalidKey("expected a valid API key")
        return {}

    def check_api_key(self, request: Request) -> None:
        """For HTTP: only an API key will do. Raises `InvalidKey`."""
        key = key_of(request.headers, ())
        if key in self._secrets and self._api_keys:
            raise InvalidKey("expected an API key, got a client secret")
        self.check(key)


def key_of(headers: Mapping[str, str], subprotocols: tuple[str, ...]) -> str:
    """The key a client shows: in its bearer header, or, from a browser, among its WebSocket subprotocols."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == _BEARER and key:
        return key.strip()
    for protocol in subprotocols:
        if protocol.startswith(_KEY_PROTOCOL):
            return protocol.removeprefix(_KEY_PROTOCOL)
    return ""
