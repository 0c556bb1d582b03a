"""Exit 0 if this container's worker answers on /healthz, 1 with the reason if not; for Docker's HEALTHCHECK."""

from __future__ import annotations

import os
import sys
from urllib.request import Request, urlopen

TIMEOUT_SECONDS = 3


def main() -> int:
    """Ask once; the token comes from the same variable as the worker's own."""
    request = Request(f"http://127.0.0.1:{os.environ.get('OVERDRAW_WEB_PORT', '6066')}/healthz")
    if token := os.environ.get("OVERDRAW_WEB_TOKEN"):
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            response.read()
    except OSError as error:  # HTTP errors are OSErrors too
        sys.stderr.write(f"the worker does not answer on /healthz: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
