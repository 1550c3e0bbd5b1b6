"""Keeps the table of remembered answers small, and secrets no longer than promised."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from controlplane.kit import clock
from controlplane.kit.jobs.registry import handler
from tenants.idempotency.services import sweep


@handler("idempotency.sweep", every=timedelta(minutes=10))
def sweep_remembered_answers(**_: Any) -> None:
    now = clock.now()
    while sweep(now=now):
        continue
