from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from controlplane.kit.jobs import registry
from controlplane.kit.jobs.registry import Handler, Outcome

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LEASE = timedelta(seconds=60)


def do_nothing(**_: object) -> Outcome:
    return None


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Handler]:
    """The registry of this test alone, with one kind: "test.note", three attempts."""
    registry.loaded()
    own = {"test.note": Handler("test.note", do_nothing, LEASE, 3, None)}
    monkeypatch.setattr(registry, "_handlers", own)
    return own
