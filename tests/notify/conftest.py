"""The service that notifiers are tried against."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from services import Service


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    running = await Service().start()
    yield running
    await running.stop()
