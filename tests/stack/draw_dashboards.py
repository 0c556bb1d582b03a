"""Draw the dashboards, `make dashboard-pictures`: the real stack under a simulated attack, in Grafana's own components.

There is no Grafana here, so these are no screenshots of one: its panels are drawn by the components that it is made of
(`grafana/pictures/draw.tsx`), from the dashboards' JSON and from what Prometheus answers to their queries.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from conftest import running_stack
from parts import BOARDS, ROOT, Stack, until

SOURCE = ROOT / "grafana/pictures"
PICTURES = ROOT / "deploy/pictures"
WIDTH = 1440
ROW_PIXELS = 38
HEAD_PIXELS = 110
PAUSE_SECONDS = 1.0
"""Between windows of the live part, which are half a minute of event time: 40 times the clock's pace."""
SETTLE_SECONDS = 20.0
GAP_SECONDS = 15.0
FOUND_SECONDS = 120.0
NPM_SECONDS, BUILD_SECONDS, BROWSER_SECONDS = 600, 300, 120
SHOWN = {"datasource": "Prometheus", "instance": "All", "keys": "All", "top": "5"}
CAMPAIGNS = "overdraw-campaigns"
SURGE = 'ALERTS{alertstate="firing", alertname=~"Overdraw.*Incident.*"}'
OPEN_CAMPAIGN = "overdraw_campaigns_open"
REMEDIES = {
    "chromium": "apt-get install chromium fonts-inter",
    "npm": "install Node.js with npm",
}


def program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        sys.exit(f"{name} is not on the PATH: {REMEDIES.get(name, 'run `make test-stack`, which installs it')}")
    return path


def run(*command: str | Path, folder: Path, seconds: float) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False)
    if done.returncode:
        sys.exit(f"{Path(command[0]).name} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")


def bundle() -> Path:
    """The drawing program with Grafana's components, kept in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "overdraw" / "grafana-pictures"
    cache.mkdir(parents=True, exist_ok=True)
    packages = SOURCE / "package.json"
    have = cache / "package.json"
    if not (cache / "node_modules/.package-lock.json").exists() or have.read_bytes() != packages.read_bytes():
        shutil.copy(packages, have)
        # Its install scripts only fetch what is not needed here, and its peers are those of a whole Grafana.
        options = ("--ignore-scripts", "--legacy-peer-deps", "--no-audit", "--no-fund")
        run(program("npm"), "install", *options, folder=cache, seconds=NPM_SECONDS)
    shutil.copy(SOURCE / "draw.tsx", cache / "draw.tsx")
    run(
        cache / "node_modules/.bin/esbuild",
        "draw.tsx",
        *("--bundle", "--minify", "--format=iife", "--outfile=draw.js", "--log-level=warning"),
        *("--loader:.ttf=empty", "--loader:.svg=dataurl", '--define:process.env.NODE_ENV="production"'),
        "--alias:grafana-timeseries=./node_modules/@grafana/ui/dist/esm/graveyard/TimeSeries/TimeSeries.mjs",
        folder=cache,
        seconds=BUILD_SECONDS,
    )
    return cache / "draw.js"


def answers_of(stack: Stack, panel: Any, start: float) -> list[Any]:
    answers = []
    for target in panel.get("targets", []):
        expr = stack.substituted(target["expr"])
        if target["instant"]:
            series = [{"metric": one["metric"], "values": [one["value"]]} for one in stack.instant(expr)]
        else:
            series = stack.course(expr, start)
        answers.append(
            {
                **{name: target[name] for name in ("refId", "instant")},
                "legend": target["legendFormat"],
                "series": series,
            }
        )
    return answers


def unbroken(times: list[float]) -> list[tuple[float, float]]:
    """First and last moment of each stretch of samples without a gap; `times` rise and are at least one."""
    stretches = []
    begin = last = times[0]
    for moment in [*times[1:], math.inf]:
        if moment - last > GAP_SECONDS:
            stretches.append((begin, last))
            begin = moment
        last = moment
    return stretches


def stretches_of(stack: Stack, board: Any, start: float) -> list[Any]:
    """When each annotation's series were there."""
    return [
        {
            "from": begin,
            "to": end,
            "color": note["iconColor"],
            "panels": note["filter"]["ids"] if "filter" in note else None,
        }
        for note in board["annotations"]["list"]
        if "expr" in note
        for series in stack.course(stack.substituted(note["expr"]), start)
        for begin, end in unbroken([moment for moment, _ in series["values"]])
    ]


def picture_of(stack: Stack, board: Any, start: float) -> Any:
    shown = {**SHOWN, "key": stack.attacked}
    return {
        "board": board,
        "answers": {panel["id"]: answers_of(stack, panel, start) for panel in board["panels"]},
        "stretches": stretches_of(stack, board, start),
        "variables": [{"label": item["label"], "value": shown[item["name"]]} for item in board["templating"]["list"]],
        "from": start,
        "to": time.time(),
    }


def draw(picture: Any, script: Path, path: Path) -> None:
    """A picture of the whole dashboard, WIDTH wide."""
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in picture["board"]["panels"])
    # in a script element nothing may look like its end
    data = json.dumps(picture).replace("<", "\\u003c")
    with TemporaryDirectory() as name:
        page = Path(name) / "page.html"
        page.write_text(
            f'<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="{script.with_suffix(".css").as_uri()}">'
            '<body style="margin:0"><div id="root"></div>'
            f'<script>window.PICTURE = {data}</script><script src="{script.as_uri()}"></script>',
            encoding="utf-8",
        )
        run(
            program("chromium"),
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--allow-file-access-from-files"),
            f"--user-data-dir={name}/profile",
            f"--window-size={WIDTH},{HEAD_PIXELS + rows * ROW_PIXELS}",
            "--virtual-time-budget=10000",
            f"--screenshot={path}",
            page.as_uri(),
            folder=Path(name),
            seconds=BROWSER_SECONDS,
        )
    if not path.is_file():
        sys.exit(f"chromium drew no {path.name}")


def main() -> None:
    for name in ("npm", "chromium", "prometheus", "prometheus-alertmanager"):
        program(name)
    script = bundle()
    draw_all(script, "surge", [uid for uid in BOARDS if uid != CAMPAIGNS], SURGE)
    draw_all(script, "campaign", [CAMPAIGNS], OPEN_CAMPAIGN)


def draw_all(script: Path, scenario: str, uids: list[str], shown: str) -> None:
    """Some dashboards while a scenario of the demo's goes on, a while after a query has begun to show something."""
    with (
        TemporaryDirectory() as folder,
        running_stack(program, Path(folder), pause_seconds=PAUSE_SECONDS, scenario=scenario) as stack,
    ):
        until(
            f"there is {shown}",
            lambda: any(float(one["value"][1]) > 0 for one in stack.instant(shown)),
            FOUND_SECONDS,
        )
        time.sleep(SETTLE_SECONDS)
        for uid in uids:
            path = PICTURES / f"{uid.replace('overdraw', 'dashboard')}.png"
            draw(picture_of(stack, BOARDS[uid], stack.live_since), script, path)
            print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1000} kB", flush=True)


if __name__ == "__main__":
    main()
