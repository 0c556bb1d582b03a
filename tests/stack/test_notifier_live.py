"""An incident from open to resolve in Debian's Alertmanager, told by a real notifier from a real Kafka."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import unquote, urlencode

import pytest
from aiokafka import AIOKafkaProducer
from parts import OVERDRAW, Stack, get, until

from stream.alerts import Alert
from stream.notify.message import silence_url
from stream.notify.shell import command_line
from stream.worker.outbox import alert_record

sys.path.insert(0, str(Path(__file__).parent.parent / "notify"))

from services import made_alert

pytestmark = pytest.mark.stack

KEY = 'told "once" \\ <b>'


async def write(broker: str, alert: Alert) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=broker)
    await producer.start()
    try:
        key, value, headers = alert_record(alert, "overdraw", 0)[:3]
        await producer.send_and_wait("overdraw-alerts", value, key=key, partition=0, headers=list(headers))
    finally:
        await producer.stop()


def test_an_incident_fires_gets_worse_can_be_silenced_and_resolves(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "notify.toml"
    file.write_text(
        f'[notifiers.am]\ntype = "alertmanager"\nurl = "{stack.alertmanager}"\nlabels = {{severity = "critical"}}\n'
    )
    now = time.time()
    opened = made_alert(key=KEY, at=now, started_at=now - 600)
    worse = opened.model_copy(update={"status": "updated", "sequence": 1, "severity": "critical", "kind": "drift"})
    over = worse.model_copy(update={"status": "resolved", "sequence": 2, "resolved_at": now})

    def held() -> list[dict]:
        chosen = urlencode({"filter": f'fingerprint="{opened.fingerprint}"'})
        status, body = get(f"{stack.alertmanager}/api/v2/alerts?{chosen}")
        assert status == 200, body
        return json.loads(body)

    def arrived(status: str) -> bool:
        return any(
            alert["status"] == status and alert["labels"].get("fingerprint") == opened.fingerprint
            for _, alert in list(stack.webhook.alerts)
        )

    stack.processes.start(
        "notifier", *OVERDRAW, "notifier", OVERDRAW_BROKER=stack.broker, OVERDRAW_NOTIFY_FILE=str(file),
        OVERDRAW_NOTIFIER_PORT="0",
    )  # fmt: skip

    def printed(*words: str) -> list[str]:
        """The state column of what amtool prints."""
        command = ["amtool", f"--alertmanager.url={stack.alertmanager}", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        head, *lines = done.stdout.splitlines() or [""]
        assert not lines or head.split() == ["Alertname", "Starts", "At", "Summary", "State"]
        return [line.split()[-1] for line in lines if line.strip()]

    query = ("alert", "query", f"fingerprint={opened.fingerprint}")
    asyncio.run(write(stack.broker, opened))
    until("it fires", lambda: len(held()) == 1)
    until("Alertmanager tells of it", lambda: arrived("firing"))
    (alert,) = held()
    assert alert["labels"] == {
        "alertname": "OverdrawIncident", "service": "overdraw", "fingerprint": opened.fingerprint,
        "entity_type": "key", "entity": KEY, "severity": "critical",
    }  # fmt: skip
    assert alert["annotations"]["severity"] == "high"
    assert printed(*query) == ["active"]
    assert f"overdraw explain {opened.alert_id}" == alert["annotations"]["command"]
    why = f"alert {opened.alert_id}"
    assert alert["annotations"]["block_command"] == command_line(
        "overdraw", "block", "--for", "2h", "--why", why, last=KEY
    )
    assert alert["annotations"]["undo_command"] == command_line("overdraw", "unblock", "--why", why, last=KEY)

    asyncio.run(write(stack.broker, worse))
    until("it is worse", lambda: [one["annotations"]["severity"] for one in held()] == ["critical"])
    assert held()[0]["annotations"]["kind"] == "drift"
    assert held()[0]["startsAt"] == alert["startsAt"], "it is the same alert"

    # what the link fills into Alertmanager's page for a new silence is just this incident
    link = silence_url(stack.alertmanager, opened.fingerprint)
    chosen = unquote(link.partition("filter=")[2])
    assert chosen == f'{{fingerprint="{opened.fingerprint}"}}'
    assert (
        json.loads(get(f"{stack.alertmanager}/api/v2/alerts?{urlencode({'filter': chosen.strip('{}')})}")[1]) == held()
    )

    silence = subprocess.run(
        [
            "amtool", f"--alertmanager.url={stack.alertmanager}", "silence", "add",
            f"fingerprint={opened.fingerprint}", "--comment", "looking", "--author", "ann",
        ],
        capture_output=True, text=True, timeout=30, check=True,
    ).stdout.strip()  # fmt: skip
    assert printed(*query) == []
    assert printed("alert", "query", "--silenced", query[-1]) == ["suppressed"]
    subprocess.run(
        ["amtool", f"--alertmanager.url={stack.alertmanager}", "silence", "expire", silence], timeout=30, check=True
    )

    asyncio.run(write(stack.broker, over))
    until("it is over", lambda: held() == [])
    assert printed("alert", "query", "--silenced", query[-1]) == []
    until("Alertmanager tells of its end", lambda: arrived("resolved"), 400)
