"""The simulator of a first run can be tested and listed: its own address alone is open."""

from __future__ import annotations

from typing import Any

import pytest

from providers.catalog.destinations import own_simulator
from providers.catalog.models import Provider


@pytest.mark.parametrize(
    ("origin", "is_on", "catalog_id", "opened"),
    [
        ("http://127.0.0.1:8123/simulator", True, "simulator", "127.0.0.1:8123"),
        ("http://127.0.0.1:8123/simulator", False, "simulator", ""),
        ("http://127.0.0.1:8123/simulator", True, "openai", ""),
        ("http://10.0.0.1:8123/simulator", True, "simulator", ""),
        ("http://a@127.0.0.1:8123/simulator", True, "simulator", ""),
    ],
)
def test_only_our_own_is_open(
    settings: Any, origin: str, is_on: bool, catalog_id: str, opened: str
) -> None:
    settings.SIMULATOR = is_on
    provider = Provider(slug="s", catalog_id=catalog_id, endpoint={"origin": origin})
    assert own_simulator(provider) == opened
