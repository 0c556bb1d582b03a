"""`overdraw schema`: the shapes that others may rely on."""

from __future__ import annotations

import json
from typing import Any

import click


def _settings() -> dict[str, Any]:
    from stream.settings import Settings

    return Settings.model_json_schema()


def _event() -> dict[str, Any]:
    from stream.events import ApiCall

    return ApiCall.model_json_schema(by_alias=False)


def _alert() -> dict[str, Any]:
    from stream.alerts import Alert

    return Alert.model_json_schema(mode="serialization")


def _control() -> dict[str, Any]:
    from stream.control import MESSAGE

    return MESSAGE.json_schema(mode="serialization")


def _metrics() -> dict[str, Any]:
    from stream.worker.metrics import metric_table

    return {"metrics": [dict(row._asdict()) for row in metric_table()]}


SCHEMAS = {"event": _event, "alert": _alert, "control": _control, "settings": _settings, "metrics": _metrics}


@click.command()
@click.argument("what", type=click.Choice(list(SCHEMAS)))
@click.option("--table", is_flag=True, help="A Markdown table instead of JSON.")
def command(what: str, table: bool) -> None:
    """Print the JSON Schema of events, alerts, control messages or settings, or the list of metrics.

    \b
    Example:
      overdraw schema event > event.schema.json
      overdraw schema settings --table
    """
    schema = SCHEMAS[what]()
    if not table:
        click.echo(json.dumps(schema, indent=2, ensure_ascii=False))
        return
    if what == "metrics":
        rows = [[m["name"], m["type"], ", ".join(m["labels"]), m["help"]] for m in schema["metrics"]]
        _table(["metric", "type", "labels", "meaning"], rows)
    elif what == "settings":
        rows = [
            [f"`{name}`", f"`{prop.get('default', '')}`", prop.get("description", "")]
            for name, prop in schema["properties"].items()
        ]
        _table(["setting", "default", "meaning"], rows)
    elif what == "control":
        rows = [
            [f"`{kind}`", ", ".join(f"`{name}`" for name in _said(shape)), shape.get("description", "").split("\n")[0]]
            for kind, shape in _kinds(schema)
        ]
        _table(["kind", "says, besides id, at, by, why", "meaning"], rows)
    else:
        rows = [
            [f"`{name}`", "yes" if name in schema.get("required", []) else "", prop.get("description", "")]
            for name, prop in schema["properties"].items()
        ]
        _table(["field", "required", "meaning"], rows)


def _kinds(schema: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Each kind of control message, with its shape."""
    places = schema["discriminator"]["mapping"]
    return [(kind, schema["$defs"][place.rpartition("/")[2]]) for kind, place in places.items()]


def _said(shape: dict[str, Any]) -> list[str]:
    common = ("id", "at", "by", "why", "kind", "schema_version")
    return [name for name in shape["properties"] if name not in common]


def _table(head: list[str], rows: list[list[str]]) -> None:
    for cells in (head, ["---"] * len(head), *rows):
        click.echo("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
