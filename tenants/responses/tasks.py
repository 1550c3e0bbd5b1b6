"""Keeps answers no longer than promised."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from controlplane.kit import clock
from controlplane.kit.jobs.registry import handler
from tenants.responses.services import sweep


@handler("responses.sweep", every=timedelta(minutes=10))
def sweep_stored_responses(**_: Any) -> None:
    now = clock.now()
    while sweep(now=now):
        continue
