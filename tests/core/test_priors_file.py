"""`priors_file`: the priors that a user names decide everywhere, and a bad file is a wrong setting."""

from __future__ import annotations

import json

import pytest

from stream.core.priors import Priors, priors_of, shipped_priors, shipped_text
from stream.core.rules import Rules
from stream.core.shard import Shard
from stream.settings import Settings, SettingsError


def settings_with(tmp_path, text):
    path = tmp_path / "mine.json"
    path.write_text(text, "utf-8")
    return Settings(priors_file=str(path))


def changed(**parts):
    return json.dumps({**json.loads(shipped_text()), **parts})


def test_without_a_file_the_shipped_priors_decide():
    assert Rules(Settings()).priors is shipped_priors()


def test_the_file_decides_and_names_the_alerts_digest(tmp_path):
    settings = settings_with(tmp_path, changed(tail=[[2.0, 0.01], [9.0, 0.0001]]))
    rules = Shard(0, settings, partition_of=lambda key_id: 0).rules
    assert rules.open_score == pytest.approx(5.5)
    assert rules.digest != Rules(Settings()).digest


def test_priors_that_are_handed_over_come_before_the_file(tmp_path):
    settings = settings_with(tmp_path, changed(tail=[[2.0, 0.01], [9.0, 0.0001]]))
    assert Rules(settings, shipped_priors()).priors is shipped_priors()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]", "not a priors file"),
        (changed(version=1), "make it again"),
        (changed(tail=[[1.0, 0.1]]), "rise in score and fall in share"),
        (changed(tail=[["high", 0.1], [2, 0.01]]), "not a priors file"),
        (changed(laws={}), "must have a law for .*level_10m"),
    ],
)
def test_a_bad_file_is_a_wrong_setting_that_says_why(tmp_path, text, said):
    with pytest.raises(SettingsError, match=rf"^priors_file: .*mine\.json: .*{said}"):
        priors_of(settings_with(tmp_path, text))
    with pytest.raises(ValueError, match=said):
        Priors.from_json(text)


def test_rules_tell_a_listener_and_let_nothing_open():
    rules = Rules(Settings())
    assert rules.watch is None
    heard = []
    rules.listen(lambda key, verdict: heard.append((key, verdict)))
    assert rules.watch is not None
    assert rules.open_score == rules.hold_score == float("inf")
