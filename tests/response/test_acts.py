"""What reaches the gateways, in which order, and that whatever fails or is killed leaves a key as it was in the end."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from proxy import MASTER, T0, Proxy, config_of, made_alert
from pydantic import SecretStr

from stream.alerts import Alert
from stream.response.board import Ban, Board
from stream.response.config import FileConfig, ResponseConfig
from stream.response.denyfile import DenyFile, text_of
from stream.response.gateways import gateways_of
from stream.response.record import Response, Word
from stream.worker.responder.acts import Acts

NOW = T0 + 100
KEYS = {"proxy": SecretStr(MASTER)}


class Desk:
    """A responder without Kafka: its records are kept in a list, and a restart reads them all again."""

    def __init__(self, config: ResponseConfig, keys: dict[str, SecretStr] = KEYS) -> None:
        self.log: list[Response | str] = []
        self.alerts: list[Alert] = []
        self.config, self.keys = config, keys
        self.now = NOW
        self.steps: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.dies_at = -1
        self.start()

    def start(self) -> None:
        self.board = Board(self.config)
        for entry in self.log:
            if isinstance(entry, str):
                self.board.forget(entry)
            else:
                self.board.keep(Response.model_validate_json(entry.model_dump_json()))
        for alert in self.alerts:
            self.board.take(alert, T0)
        self.gateways = gateways_of(self.config, self.keys)
        self.acts = Acts(
            self.config, self.board, self.gateways, self,
            stepped=lambda response: self.steps.update([response.state]),
            failed=lambda name: self.failures.update([name]),
        )  # fmt: skip

    async def write(self, changed: list[Response], deleted: list[str] = []) -> None:  # noqa: B006
        if len(self.log) == self.dies_at:
            raise RuntimeError("killed")
        for response in changed:
            self.board.keep(response)
        for response_id in deleted:
            self.board.forget(response_id)
        self.log += [*changed, *deleted]

    def tell(self, *alerts: Alert) -> None:
        self.alerts += alerts
        for alert in alerts:
            self.board.take(alert, T0)

    def say(self, verb: str, word_id: str = "w1") -> None:
        for response_id in self.board.responses:
            said = {
                "word": verb,
                "word_id": word_id,
                "response_id": response_id,
                "at": self.now,
                "by": "ada",
                "why": "so",
            }
            self.board.hear(Word.model_validate(said))

    async def turn(self, seconds: float = 0.0) -> None:
        self.now += seconds
        await self.acts(self.now)

    async def close(self) -> None:
        for gateway in self.gateways.values():
            await gateway.close()

    @property
    def states(self) -> list[str]:
        return [response.state for response in self.board.responses.values()]

    @property
    def only(self) -> Response:
        (response,) = self.board.responses.values()
        return response


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    running = Proxy("key-17", "b")
    await running.start()
    yield running
    for desk in running.desks:
        await desk.close()
    await running.stop()


def desk_of(proxy: Proxy, *alerts: Alert, **more: Any) -> Desk:
    desk = Desk(config_of(proxy.url, **{"approved": ["throttle", "block"], **more}))
    desk.tell(*alerts)
    proxy.desks.append(desk)
    return desk


async def test_a_block_is_written_down_applied_and_undone_when_the_incident_is_over(proxy: Proxy) -> None:
    desk = desk_of(proxy, made_alert(severity="critical"))
    await desk.turn()
    assert proxy.keys["key-17"]["blocked"] is True
    assert desk.states == ["active"]
    assert proxy.requests[0][0].headers["litellm-changed-by"] == "overdraw"
    desk.tell(made_alert(status="resolved"))
    await desk.turn(60)
    assert proxy.keys["key-17"]["blocked"] is False
    assert proxy.asked() == ["/key/block", "/key/unblock"]
    assert [step.state for step in desk.only.steps] == ["proposed", "approved", "active", "ending", "ended"]
    assert proxy.keys["b"]["blocked"] is None


@pytest.mark.parametrize("before", [None, 50_000])
async def test_a_throttle_gives_back_the_limit_that_was_there(proxy: Proxy, before: int | None) -> None:
    proxy.keys["key-17"]["tpm_limit"] = before
    desk = desk_of(proxy, made_alert(severity="high"))
    await desk.turn()
    assert proxy.keys["key-17"] == {"tpm_limit": 900, "rpm_limit": None, "blocked": None}
    await desk.turn(6 * 3600)
    assert proxy.keys["key-17"]["tpm_limit"] == before
    assert desk.states == ["ended"]


async def test_calls_are_limited_by_calls(proxy: Proxy) -> None:
    desk = desk_of(proxy, made_alert(severity="high", unit="calls", upper=50))
    await desk.turn()
    assert proxy.keys["key-17"] == {"tpm_limit": None, "rpm_limit": 5, "blocked": None}


async def test_a_key_that_is_as_strict_already_is_not_touched_and_not_set_free_afterwards(proxy: Proxy) -> None:
    proxy.keys["key-17"] |= {"blocked": True}
    proxy.keys["b"] |= {"tpm_limit": 100}
    desk = desk_of(proxy, made_alert(severity="critical"), made_alert(key="b", severity="high"))
    await desk.turn()
    assert desk.states == ["active", "active"]
    desk.tell(made_alert(status="resolved"), made_alert(key="b", status="resolved"))
    await desk.turn(60)
    assert desk.states == ["ended", "ended"]
    assert proxy.asked() == []


async def test_a_limit_that_somebody_has_changed_meanwhile_stays(proxy: Proxy) -> None:
    desk = desk_of(proxy, made_alert(severity="high"))
    await desk.turn()
    proxy.keys["key-17"]["tpm_limit"] = 5
    desk.say("undo")
    await desk.turn(1)
    assert proxy.keys["key-17"]["tpm_limit"] == 5
    assert desk.states == ["ended"]


async def test_a_rehearsal_tells_a_gateway_nothing_and_goes_through_all_states(proxy: Proxy) -> None:
    desk = desk_of(proxy, made_alert(severity="critical"), mode="dry-run")
    await desk.turn()
    assert desk.states == ["active"]
    assert "rehearsed" in desk.only.steps[-1].why
    await desk.turn(2 * 3600)
    assert desk.states == ["ended"]
    assert proxy.requests == []


async def test_what_was_applied_is_undone_by_a_rehearsal_as_well(proxy: Proxy) -> None:
    desk = desk_of(proxy, made_alert(severity="critical"))
    await desk.turn()
    await desk.close()
    desk.config = config_of(proxy.url, mode="dry-run")
    desk.start()
    desk.tell(made_alert(status="resolved"))
    await desk.turn(60)
    assert proxy.keys["key-17"]["blocked"] is False


@pytest.mark.parametrize("action", ["critical", "high"])
@pytest.mark.parametrize("dies_at", range(8))
async def test_a_responder_that_is_killed_at_any_record_leaves_the_key_as_it_was(
    proxy: Proxy, action: str, dies_at: int
) -> None:
    proxy.keys["key-17"]["tpm_limit"] = 77_000
    desk = desk_of(proxy, made_alert(severity=action))
    desk.dies_at = dies_at
    for _ in range(2):  # before its end, and after it
        try:
            await desk.turn(1)
        except RuntimeError:
            desk.dies_at = -1
            await desk.close()
            desk.start()
            await desk.turn(1)
        desk.tell(made_alert(status="resolved"))
    try:
        await desk.turn(1)
    except RuntimeError:
        desk.dies_at = -1
        await desk.close()
        desk.start()
        await desk.turn(1)
    assert not any(response.open for response in desk.board.responses.values())
    assert proxy.keys["key-17"]["tpm_limit"] == 77_000
    assert not proxy.keys["key-17"]["blocked"]


@pytest.mark.parametrize(
    ("answer", "words", "why"),
    [
        ((500, {}, b"boom"), "500 Internal Server Error: boom", "an error of its own"),
        ((429, {"Retry-After": "90"}, b"slow down"), "429", "too much at once"),
        ((401, {}, b"who?"), "401 Unauthorized", "the key may be mended"),
        ((404, {}, b'{"detail":"Not Found"}'), "404", "the address is wrong, and not the key"),
        ((200, {}, b"<html>"), "is it a LiteLLM proxy", "a proxy of another kind"),
        ((302, {"Location": "/login"}, b""), "302", "a redirect is not followed"),
        ("hang", "no answer within 0.5 s", "it hangs"),
        ("disconnect", "proxy: ", "it hangs up"),
        ("endless", "500", "a gigabyte"),
    ],
)
async def test_a_gateway_in_trouble_is_tried_again_and_what_it_says_is_in_the_record(
    proxy: Proxy, answer: Any, words: str, why: str
) -> None:
    desk = desk_of(proxy, made_alert(severity="critical"))
    proxy.script = [getattr(proxy, answer) if isinstance(answer, str) else answer]
    if answer == "disconnect":
        proxy.script *= 2  # the client asks once more by itself
    await desk.turn()
    assert desk.states == ["approved"], why
    assert words in desk.only.trouble
    assert MASTER not in desk.only.trouble
    assert desk.failures["proxy"] == 1
    asked = len(proxy.requests)
    await desk.turn(0.1)
    assert len(proxy.requests) == asked, "not at once"
    await desk.turn(100)
    assert desk.states == ["active"]
    assert desk.only.trouble == ""


async def test_a_wait_that_was_asked_for_is_kept(proxy: Proxy) -> None:
    desk = desk_of(proxy, made_alert(severity="critical"))
    proxy.script = [(429, {"Retry-After": "90"}, b"")]
    await desk.turn()
    await desk.turn(89)
    assert desk.states == ["approved"]
    await desk.turn(2)
    assert desk.states == ["active"]


async def test_a_key_that_the_gateway_does_not_know_is_a_failure_that_is_not_repeated(proxy: Proxy) -> None:
    desk = desk_of(proxy, made_alert(key="nobody", severity="critical"))
    await desk.turn()
    assert desk.states == ["failed"]
    assert "404" in desk.only.steps[-1].why
    await desk.turn(3600)
    assert len(proxy.requests) == 1


async def test_a_key_that_is_no_more_has_nothing_to_undo_and_a_wrong_address_is_no_reason_to_forget_it(
    proxy: Proxy,
) -> None:
    desk = desk_of(proxy, made_alert(severity="critical"))
    await desk.turn()
    desk.say("undo")
    proxy.script = [(404, {}, b'{"detail":"Not Found"}')]
    await desk.turn(1)
    assert desk.states == ["ending"]
    del proxy.keys["key-17"]
    await desk.turn(10)
    assert desk.states == ["ended"]


async def test_one_key_that_the_gateway_fails_at_holds_up_no_other(proxy: Proxy) -> None:
    desk = desk_of(proxy, made_alert(severity="critical"), made_alert(key="b", severity="critical"))
    proxy.script = [(500, {}, b"")]
    await desk.turn()
    assert sorted(desk.states) == ["active", "approved"]


async def test_ids_are_sent_as_they_are(proxy: Proxy) -> None:
    key = 'a&key=b/../?#%2e "<ü\u202e'
    proxy.keys[key] = {"tpm_limit": None, "rpm_limit": None, "blocked": None}
    desk = desk_of(proxy, made_alert(key=key, severity="critical"))
    await desk.turn()
    assert proxy.keys[key]["blocked"] is True
    assert proxy.keys["b"]["blocked"] is None


async def test_the_last_of_several_blocks_sets_a_key_free(proxy: Proxy) -> None:
    desk = desk_of(proxy, made_alert(severity="critical"))
    await desk.turn()
    desk.board.ban(Ban("key-17", "b1", True, desk.now, "ada", "leaked"))
    await desk.turn(1)
    assert desk.states == ["active", "active"]
    desk.tell(made_alert(status="resolved"))
    await desk.turn(1)
    assert sorted(desk.states) == ["active", "ended"]
    assert proxy.keys["key-17"]["blocked"] is True, "the operator has not said anything else"
    desk.board.ban(Ban("key-17", "b2", False, desk.now, "ada", "a new secret"))
    await desk.turn(1)
    assert proxy.keys["key-17"]["blocked"] is False


async def test_a_gateway_that_is_no_longer_in_the_file_is_named_and_nothing_is_forgotten(proxy: Proxy) -> None:
    desk = desk_of(proxy, made_alert(severity="critical"))
    await desk.turn()
    await desk.close()
    desk.config = ResponseConfig()
    desk.start()
    desk.say("undo")
    await desk.turn(1)
    assert desk.states == ["ending"]
    assert "proxy is no longer in the response file" in desk.only.trouble


async def test_a_second_gateway_that_refuses_undoes_the_first(proxy: Proxy, tmp_path: Path) -> None:
    file = {"type": "file", "path": str(tmp_path / "deny.json")}
    config = config_of(proxy.url, approved=["block"])
    gateways = {"list": FileConfig(**file), **config.gateways}
    desk = Desk(config.model_copy(update={"gateways": gateways}))
    proxy.desks.append(desk)
    desk.tell(made_alert(severity="critical"))
    proxy.script = [proxy.usual, (422, {}, b"no")]
    await desk.turn()
    assert desk.states == ["failed"]
    await desk.turn(1)
    assert desk.only.before == {}
    assert json.loads((tmp_path / "deny.json").read_text())["denied"] == []


# ---------------------------------------------------------------------- the deny file


async def test_the_deny_file_says_what_holds_and_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "deny.json"
    config = ResponseConfig.model_validate(
        {"mode": "apply", "approved": ["block", "throttle"], "gateways": {"list": {"type": "file", "path": str(path)}}}
    )
    desk = Desk(config)
    desk.tell(made_alert(severity="critical"), made_alert(key="b", severity="high"))
    await desk.gateways["list"].begin([])
    held = path.open()  # a reader that has the old one
    await desk.turn()
    assert json.loads(held.read())["denied"] == []
    held.close()
    said = json.loads(path.read_text())
    assert [(one["key_id"], one["action"], one["per_minute"], one["unit"]) for one in said["denied"]] == [
        ("b", "throttle", 900, "tokens"), ("key-17", "block", None, None),
    ]  # fmt: skip
    assert said["denied"][1]["until"] == "2026-03-01T02:01:40Z"
    desk.tell(made_alert(status="resolved"))
    await desk.turn(1)
    assert [one["key_id"] for one in json.loads(path.read_text())["denied"]] == ["b"]
    assert os.listdir(tmp_path) == ["deny.json"], "nothing is left beside it"


async def test_a_deny_file_that_cannot_be_written_is_tried_again(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    config = ResponseConfig.model_validate(
        {"mode": "apply", "approved": ["block"], "gateways": {"list": {"type": "file", "path": str(folder / "deny")}}}
    )
    desk = Desk(config)
    desk.tell(made_alert(severity="critical"))
    await desk.turn()
    assert "cannot write" in desk.only.trouble
    folder.mkdir()
    await desk.turn(5)
    assert desk.states == ["active"]


async def test_as_lines_a_deny_file_has_the_blocked_ids_and_no_id_becomes_two(tmp_path: Path) -> None:
    config = ResponseConfig(mode="dry-run", approved=["block", "throttle"])
    desk = Desk(config)
    desk.tell(*(made_alert(key=key, severity="critical") for key in ("b", "a b", "x\ny", "z\x1b[1m")))
    desk.tell(made_alert(key="slow", severity="high"))
    await desk.turn()
    assert text_of(list(desk.board.responses.values()), "lines") == "a b\nb\n"
    assert json.loads(text_of(list(desk.board.responses.values()), "json"))["denied"][-2]["key_id"] == "x\ny"
    assert isinstance(DenyFile(FileConfig(type="file", path="x", format="lines")), DenyFile)
