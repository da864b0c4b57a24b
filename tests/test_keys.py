"""Keys on a command line: what opens a server to others, and what does not."""

import pytest

from server import serve
from server.options import api_keys


@pytest.mark.parametrize("key", ["", "  "])
def test_an_empty_key_opens_no_server(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        serve.main(["--host", "0.0.0.0", "--api-key", key])
    assert "expected a key" in capsys.readouterr().err


def test_keys_are_taken_without_the_blanks_around_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTIPHON_API_KEYS", "one, two\n,")
    assert api_keys([]) == ("one", "two")
    assert api_keys(["three "]) == ("three",)
