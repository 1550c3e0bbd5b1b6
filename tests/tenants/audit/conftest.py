from __future__ import annotations

from collections.abc import Iterator

import pytest

from tenants.audit.actor import Kind, acting_as


@pytest.fixture(autouse=True)
def _actor(request: pytest.FixtureRequest) -> Iterator[None]:
    if "nobody" in request.fixturenames:
        yield
        return
    with acting_as(Kind.USER, "7", "ada@acme.test", "192.0.2.7"):
        yield


@pytest.fixture
def nobody() -> None:
    """The test acts for nobody."""
