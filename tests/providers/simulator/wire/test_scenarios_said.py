"""The table of expectations covers every scenario there is."""

from __future__ import annotations

from providers.simulator.scenarios import SCENARIOS
from tests.providers.simulator.wire.said import SAID


def test_every_scenario_is_expected() -> None:
    assert set(SAID) == set(SCENARIOS)
