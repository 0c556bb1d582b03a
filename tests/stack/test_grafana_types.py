"""Grafana's own types, from npm, accept the dashboards: names, values and shapes, panel by panel."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.stack

ROOT = Path(__file__).parent.parent.parent
DASHBOARDS = sorted((ROOT / "grafana/dashboards").glob("*.json"))
TYPESCRIPT = "5.9.3"
NPM_SECONDS, COMPILE_SECONDS = 240, 240
PANEL_TYPES = {"stat": "Stat", "timeseries": "TimeSeries", "bargauge": "BarGauge", "table": "Table", "text": "Text"}
"""Panel to the name of its types in @grafana/schema."""
PROMETHEUS_ANNOTATION = {"expr", "step", "titleFormat", "textFormat", "tagKeys"}
"""Fields of the Prometheus data source's annotations; Grafana's dashboard types know only its own data source's."""

PREAMBLE = """
import type { Dashboard, FieldConfig } from '@grafana/schema';
// JSON has no enums: the types with every string enum as its plain values.
type Plain<T> = T extends string ? `${T}` : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
"""


def grafana_version() -> str:
    services = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]
    return str(services["grafana"]["image"].partition(":")[2])


@pytest.fixture(scope="module")
def packages(program: Callable[[str], str]) -> Path:
    """A folder with the types of the very Grafana that deploy/compose.yaml runs; kept in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "overdraw" / f"grafana-types-{grafana_version()}-{TYPESCRIPT}"
    if not (folder / "node_modules" / ".package-lock.json").exists():  # npm writes it last
        folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [
                *(program("npm"), "install", "--prefix", folder, "--no-audit", "--no-fund", "--save-exact"),
                *(f"@grafana/schema@{grafana_version()}", f"typescript@{TYPESCRIPT}"),
            ],
            capture_output=True,
            text=True,
            timeout=NPM_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"npm could not install Grafana's types:\n{done.stdout}\n{done.stderr}"
    return folder


def compile_errors(packages: Path, folder: Path, sources: dict[str, str]) -> dict[str, list[str]]:
    """What the compiler says of each source, by its name; one run, since reading Grafana's types takes the time."""
    (folder / "node_modules").symlink_to(packages / "node_modules")
    for name, source in sources.items():
        (folder / f"{name}.ts").write_text(source, encoding="utf-8")
    options = "--noEmit --strict --skipLibCheck --target es2022 --module nodenext --moduleResolution nodenext"
    done = subprocess.run(
        [packages / "node_modules/.bin/tsc", *options.split(), *(f"{name}.ts" for name in sources)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=COMPILE_SECONDS,
        check=False,
    )
    # what goes on in a further line is indented
    said = [line for line in done.stdout.splitlines() if line.strip() and not line.startswith(" ")]
    errors = {name: [line for line in said if line.startswith(f"{name}.ts")] for name in sources}
    assert sum(map(len, errors.values())) == len(said), done.stdout + done.stderr
    return errors


def source_of(dashboard: Any) -> str:
    """TypeScript that assigns the dashboard, and each panel's options and overrides, to Grafana's types."""
    lines = [PREAMBLE]
    for kind, name in PANEL_TYPES.items():
        path = f"@grafana/schema/dist/esm/raw/composable/{kind}/panelcfg/x/{name}PanelCfg_types.gen"
        lines.append(f"import type * as {kind} from '{path}';")

    def typed(kind: str, value: Any) -> None:
        lines.append(f"export const value{len(lines)}: Plain<{kind}> = {json.dumps(value)};")

    typed("Dashboard", dashboard)
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            continue
        kind = panel["type"]
        typed(f"Partial<{kind}.Options>", panel["options"])
        if kind == "text":
            continue
        if "custom" in panel["fieldConfig"]["defaults"]:
            typed(f"Partial<{kind}.FieldConfig>", panel["fieldConfig"]["defaults"]["custom"])
        for change in panel["fieldConfig"]["overrides"]:
            for item in change["properties"]:
                owner, name = "FieldConfig", item["id"]
                if name.startswith("custom."):
                    owner, name = f"{kind}.FieldConfig", name.removeprefix("custom.")
                typed(f"Required<{owner}>['{name}']", item["value"])
    return "\n".join(lines)


def dashboard(path: Path) -> Any:
    """A dashboard without what Grafana's types leave to the Prometheus data source."""
    content = json.loads(path.read_text("utf-8"))
    for note in content["annotations"]["list"]:
        if not note.get("builtIn"):
            assert set(note) >= PROMETHEUS_ANNOTATION
            for name in PROMETHEUS_ANNOTATION:
                del note[name]
    return content


def wrong_unit_of_time(content: Any) -> None:
    content["refresh"] = 10


def misspelt_panel_field(content: Any) -> None:
    content["panels"][1]["describtion"] = content["panels"][1].pop("description")


def unknown_legend_mode(content: Any) -> None:
    lines = next(panel for panel in content["panels"] if panel["type"] == "timeseries")
    lines["options"]["legend"]["displayMode"] = "tabel"


def misspelt_override(content: Any) -> None:
    lines = next(panel for panel in content["panels"] if panel["fieldConfig"]["overrides"])
    lines["fieldConfig"]["overrides"][0]["properties"][0]["id"] = "tresholds"


SPOILERS = [wrong_unit_of_time, misspelt_panel_field, unknown_legend_mode, misspelt_override]


def spoilt(spoil: Callable[[Any], None]) -> str:
    content = dashboard(ROOT / "grafana/dashboards/overdraw-key.json")
    content["panels"] = [panel for panel in content["panels"] if panel["type"] != "row"]
    spoil(content)
    return source_of(content)


@pytest.fixture(scope="module")
def errors(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    sources = {path.stem: source_of(dashboard(path)) for path in DASHBOARDS}
    sources |= {spoil.__name__: spoilt(spoil) for spoil in SPOILERS}
    return compile_errors(packages, tmp_path_factory.mktemp("types"), sources)


@pytest.mark.parametrize("name", [path.stem for path in DASHBOARDS])
def test_grafanas_types_accept_the_dashboard(errors: dict[str, list[str]], name: str) -> None:
    assert errors[name] == []


@pytest.mark.parametrize("name", [spoil.__name__ for spoil in SPOILERS])
def test_grafanas_types_refuse_a_spoilt_dashboard(errors: dict[str, list[str]], name: str) -> None:
    assert len(errors[name]) == 1
