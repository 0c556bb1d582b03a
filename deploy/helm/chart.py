"""Write what of the chart is made and not written by hand: the schema of its settings, and what it renders to.

    .venv/bin/python deploy/helm/chart.py              after a change of the settings
    .venv/bin/python deploy/helm/chart.py --helm HELM  after a change of the chart; `make chart` builds a helm first

The rendered manifests lie beside the tests, which look at them without a helm.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from hashlib import sha256
from pathlib import Path
from typing import Any

from stream.settings import Settings

CHART = Path(__file__).parent / "overdraw"
SCHEMA = CHART / "values.schema.json"
RENDERED = Path(__file__).parent.parent.parent / "tests" / "chart"
CASES = tuple(path.name.removesuffix("-values.yaml") for path in sorted(CHART.glob("ci/*-values.yaml")))
"""By values file in `ci/`."""
NAMESPACE, KUBERNETES = "detect", "1.31.0"
SET_BY_THE_CHART = ("instance_id", "web_port", "data_dir")
"""The pod's name, the port of the Service, and the image's own folder."""
DROPPED = ("default", "title")
"""The chart's own defaults are those of values.yaml."""
HELM_SECONDS = 60


def settings_schema() -> dict[str, Any]:
    """Every setting that may be given in plain text, by its name."""
    fields = Settings.model_json_schema()["properties"]
    return {
        name: _loosened({key: value for key, value in field.items() if key not in DROPPED})
        for name, field in fields.items()
        if name not in SET_BY_THE_CHART and not _is_secret(field)
    }


def secret_names() -> list[str]:
    """Every setting that is a secret: it is given by reference alone."""
    return [name for name, field in Settings.model_json_schema()["properties"].items() if _is_secret(field)]


def schema_text() -> str:
    """The file of the schema with these two parts as they must be, and all else as it is."""
    schema = json.loads(SCHEMA.read_text("utf-8"))
    schema["properties"]["settings"]["properties"] = settings_schema()
    schema["properties"]["secrets"]["propertyNames"] = {"enum": secret_names()}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def digest() -> str:
    """SHA-256 of all that a rendering depends on; the schema only refuses."""
    sources = [path for path in sorted(CHART.rglob("*")) if path.is_file() and path != SCHEMA]
    digests = (f"{path.relative_to(CHART)} {sha256(path.read_bytes()).hexdigest()}" for path in sources)
    return sha256("\n".join(digests).encode()).hexdigest()


def rendered(helm: str | Path, case: str) -> str:
    """What the chart becomes with the values of a case, under the digest of what it was made of.

    Raises CalledProcessError; helm has said why on stderr.
    """
    options = ("--namespace", NAMESPACE, "--kube-version", KUBERNETES, "--values", f"{CHART}/ci/{case}-values.yaml")
    done = subprocess.run(
        [str(helm), "template", "overdraw", str(CHART), *options],
        stdout=subprocess.PIPE,
        text=True,
        timeout=HELM_SECONDS,
        check=True,
    )
    return f"# Made by deploy/helm/chart.py from a chart with the digest {digest()}\n{done.stdout}"


def main() -> None:
    """Write the schema and, with a helm, the rendered manifests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--helm", help="path of helm 3")
    helm = parser.parse_args().helm
    SCHEMA.write_text(schema_text(), "utf-8")
    for case in CASES if helm else ():
        (RENDERED / f"{case}.yaml").write_text(rendered(helm, case), "utf-8")


def _loosened(field: dict[str, Any]) -> dict[str, Any]:
    """A fraction may be text as well: helm's own `--set name=0.5` hands over text. The worker minds its bounds."""
    if field.get("type") != "number":
        return field
    number = {key: value for key, value in field.items() if key != "description"}
    return {"anyOf": [number, {"type": "string", "pattern": r"^[0-9]+\.[0-9]+$"}], "description": field["description"]}


def _is_secret(field: dict[str, Any]) -> bool:
    return any(part.get("format") == "password" for part in (field, *field.get("anyOf", ())))


if __name__ == "__main__":
    main()
