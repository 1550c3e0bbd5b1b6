from __future__ import annotations

from collections.abc import Iterator

import pytest

from tenants import scope
from tenants.audit.actor import acting_as


@pytest.fixture(autouse=True)
def operator(db: None) -> Iterator[None]:
    with acting_as("command", None, "tests"), scope.platform("tests"):
        yield
