"""The response file: what is wrong with it is named, with its place; secrets stand elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stream.response.config import ResponseFileError, keys_of, read_response_file

LITELLM = '[gateways.proxy]\ntype = "litellm"\nurl = "https://llm.example.org"\n'


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "response.toml"
    path.write_text(text, "utf-8")
    return path


def test_an_empty_file_rehearses_and_asks_for_approval(tmp_path: Path) -> None:
    config = read_response_file(written(tmp_path, ""))
    assert (config.mode, config.approved, config.gateways) == ("dry-run", [], {})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('mode = "apply"\n', ["there is no gateway", "gateways.NAME"]),
        ('mode = "go"\n', ["mode", "dry-run"]),
        ('approved = ["review"]\n', ["approved"]),
        ('[recommend]\nhigh = "shoot"\n', ["recommend.high", "throttle"]),
        ("[hours]\nblock = 0\n", ["hours.block", "greater than 0"]),
        ("[limits]\napplied_per_hour = -1\n", ["limits.applied_per_hour"]),
        (LITELLM, ["gateways.proxy", "key_file or key_env"]),
        (LITELLM + 'key_env = "A"\nkey_file = "b"\n', ["key_file or key_env"]),
        (LITELLM + 'key = "sk-secret"\n', ["key_file or key_env", "does not stand in this file"]),
        (LITELLM.replace("https://", "https://me:pass@") + 'key_env = "A"\n', ["no user or password"]),
        ('[gateways.x]\ntype = "nginx"\n', ["gateways.x", "litellm"]),
        ('colour = "red"\n', ["colour", "no such key"]),
        ("mode = \n", ["is no TOML"]),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(ResponseFileError) as caught:
        read_response_file(written(tmp_path, text))
    for word in words:
        assert word in str(caught.value)
    assert "sk-secret" not in str(caught.value)
    assert "pass" not in str(caught.value).replace("password", "")


def test_the_key_is_read_from_where_the_file_says(tmp_path: Path) -> None:
    config = read_response_file(written(tmp_path, LITELLM + 'key_env = "LITELLM_KEY"\n'))
    assert keys_of(config, {"LITELLM_KEY": "sk-1 "})["proxy"].get_secret_value() == "sk-1"
    with pytest.raises(ResponseFileError, match="gateway proxy: key_env: there is no variable LITELLM_KEY"):
        keys_of(config, {})


def test_the_readmes_file_is_understood(tmp_path: Path) -> None:
    readme = (Path(__file__).parent.parent.parent / "README.md").read_text("utf-8")
    (text,) = (block for block in re.findall(r"```toml\n(.*?)```", readme, re.S) if "[gateways." in block)
    config = read_response_file(written(tmp_path, text))
    assert (config.mode, config.approved) == ("apply", ["throttle"])
    assert {gateway.type for gateway in config.gateways.values()} == {"litellm", "topic", "file"}
