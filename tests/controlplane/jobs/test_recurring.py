"""Every recurring job as the background process runs it: no scope, no request, no caller."""

from __future__ import annotations

import pytest

from controlplane.kit.jobs import registry
from tenants import scope

pytestmark = [pytest.mark.storage, pytest.mark.django_db]

RECURRING = sorted(kind for kind, one in registry.loaded().items() if one.every is not None)


def test_there_are_some() -> None:
    assert {"audit.verify", "provider.health.prune", "jobs.prune"} <= set(RECURRING)


@pytest.mark.parametrize("kind", RECURRING)
def test_it_brings_its_own_scope(kind: str) -> None:
    assert scope.current() is None
    registry.find(kind).run()
    assert scope.current() is None
