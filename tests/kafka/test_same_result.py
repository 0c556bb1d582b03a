"""A file and Kafka give one result: `replay` against `feed` and two workers, on recorded traces and on a made one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stream.lab.chaos.topics import records_of
from stream.settings import Settings, load_settings
from tests.kafka.workers import Worker, eventually, overdraw

DATA = Path(__file__).parents[2].parent / "shared" / "data"
AZURE = [
    str(DATA / "azure2023" / "AzureLLMInferenceTrace_conv.csv.gz"),
    *("--map", "time=TIMESTAMP", "--map", "input_tokens=ContextTokens", "--map", "output_tokens=GeneratedTokens"),
    *("--const", "key_id=azure-conversation"),
]
GENTD = [
    str(DATA / "gentd26" / "lora_request_trace.dev.csv.gz"),
    *("--map", "time=gmt_create", "--map", "key_id=groupId", "--map", "input_tokens=prompt_length"),
    *("--map", "output_tokens=num_inference_steps", "--map", "model=checkpoint_model_version_id"),
]
SENSITIVE = ["min_excess_tokens=300", "min_calls=2", "false_alerts_per_1000_key_days=1000"]


def real(arguments: list[str]) -> list[str]:
    if not Path(arguments[0]).exists():
        pytest.skip(f"{arguments[0]} is not here: recorded traces are not shipped with the project")
    return arguments


@pytest.fixture
def two_workers(settings: Settings, tmp_path: Path) -> Iterator[Callable[[Settings], list[Worker]]]:
    running: list[Worker] = []

    def start(chosen: Settings) -> list[Worker]:
        assert overdraw(chosen, "topics", "create").returncode == 0
        running.extend(Worker(chosen, tmp_path, f"worker-{i}").wait_ready() for i in range(2))
        return running

    yield start
    for worker in running:
        worker.end()


def incidents(alerts: list[dict], upto: str) -> set[tuple]:
    """What has to be equal, for incidents that began and ended before `upto`; early openings only by their incident."""
    rows: dict[str, list] = {}
    for alert in alerts:
        row = rows.setdefault(alert["alert_id"], [None] * 7)
        row[:3] = alert["fingerprint"], alert["started_at"], alert["kind"]
        if alert["status"] == "resolved":
            row[3:] = alert["resolved_at"], alert["observed"], alert["expected"], alert["excess_tokens"]
    return {(alert_id, *row) for alert_id, row in rows.items() if row[1] < upto and (row[3] is None or row[3] < upto)}


async def compare(settings: Settings, start: Callable, arguments: list[str], sets: list[str]) -> set[tuple]:
    chosen = load_settings(
        {**settings.model_dump(exclude={"web_token"}), "partitions": 4, **dict(s.split("=") for s in sets)}, environ={}
    )
    flags = [part for text in [*sets, "partitions=4"] for part in ("--set", text)]
    replayed = overdraw(chosen, "replay", *arguments, *flags, "--json")
    assert replayed.returncode == 0, replayed.stderr
    *lines, last = replayed.stdout.splitlines()
    summary = json.loads(last)
    assert summary["events"]["late"] == 0, "the comparison holds only without late records"
    workers = start(chosen)
    fed = overdraw(chosen, "feed", *arguments, "--speed", "0", "--json")
    assert fed.returncode == 0, fed.stderr

    def statuses() -> list[dict]:
        return [row for worker in workers for row in worker.partitions().values()]

    ends: dict[int, int] = {}
    for record in await records_of(chosen, chosen.source_topic):
        ends[record.partition] = record.offset
    eventually(lambda: {r["partition"]: r["committed"] for r in statuses() if r["partition"] in ends} == ends, 60)
    assert all(worker.partitions() for worker in workers), "both workers have a share"
    live = [json.loads(r.value) for r in await records_of(chosen, chosen.alert_topic)]
    live = [alert for alert in live if alert["entity"]["type"] == "key"]
    dumped = overdraw(chosen, "state", "dump", "--json")
    keys = [json.loads(line) for line in dumped.stdout.splitlines()]
    assert sum(key["calls"] for key in keys) == summary["events"]["accepted"]
    assert sum(key["input_tokens"] for key in keys) == summary["tokens"]["input"]
    assert sum(key["output_tokens"] for key in keys) == summary["tokens"]["output"]
    assert len(keys) == summary["keys"]
    # the shards of the workers stop where their own log ends; replay goes on to the newest time of all
    upto = min(row["watermark"] for row in statuses() if row["watermark"] is not None)
    # those of groups are compared in test_groups, which waits for their keeper too
    replayed_alerts = [alert for line in lines if (alert := json.loads(line))["entity"]["type"] == "key"]
    recorded = incidents(replayed_alerts, upto)
    assert incidents(live, upto) == recorded
    return recorded


async def test_the_azure_trace_gives_the_same_from_a_file_and_through_kafka(settings, two_workers):
    await compare(settings, two_workers, real(AZURE), SENSITIVE)


async def test_the_gentd_trace_gives_the_same_from_a_file_and_through_kafka(settings, two_workers):
    # 2,125 groups with six requests each on average: the sums of every key are compared, incidents there are none
    await compare(settings, two_workers, real(GENTD), SENSITIVE)


async def test_a_made_file_gives_the_same_incidents_from_a_file_and_through_kafka(settings, two_workers, tmp_path):
    path = tmp_path / "calls.jsonl"
    made = overdraw(
        settings,
        "simulate",
        "--scenario",
        "mixed",
        "--seed",
        "5",
        "--keys",
        "30",
        "--days",
        "12",
        "--rate",
        "0.1",
        "--to",
        str(path),
    )
    assert made.returncode == 0, made.stderr
    found = await compare(settings, two_workers, [str(path)], ["false_alerts_per_1000_key_days=300"])
    assert found, "there are incidents to compare"
