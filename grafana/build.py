"""Write the dashboards and Grafana's rules: `python grafana/build.py`; with `--check` only say if they are up to date.

Rows are the questions of somebody on call, most urgent first. Queries add up over workers; where the old and the new
owner of a partition both still report it, the larger watermark counts.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from boards import BOARDS
from rules import alerting

OUTPUT = Path(__file__).parent / "dashboards"
RULES = Path(__file__).parent / "alerting" / "overdraw.yml"


def made() -> dict[Path, str]:
    """Every file that this script makes, as it is checked in."""
    dashboards = {
        OUTPUT / f"{board.uid}.json": json.dumps(board.json(), indent=2, ensure_ascii=False) + "\n" for board in BOARDS
    }
    return {**dashboards, RULES: alerting()}


def main() -> int:
    """Write the files, or check them; 1: one differs from what this script makes, or is none of its own."""
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit("usage: python grafana/build.py [--check]")
    files = made()
    strange = sorted(set(OUTPUT.glob("*.json")) - set(files))
    if sys.argv[1:]:
        stale = [path for path, text in files.items() if not path.is_file() or path.read_text("utf-8") != text]
        for path in stale + strange:
            sys.stderr.write(f"{path.name} is not what grafana/build.py makes: run `make dashboards`\n")
        return 1 if stale + strange else 0
    for path, text in files.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for path in strange:
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
