"""What the tests of this folder need from the machine: they fail, with the remedy, where it is missing."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """Path of a program on the PATH."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            remedy = {"npm": "install Node.js with npm"}.get(name, "run `make test-stack`, which installs it")
            pytest.fail(f"{name} is not on the PATH: {remedy}")
        return path

    return find
