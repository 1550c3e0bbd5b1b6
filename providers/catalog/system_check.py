"""A broken provider file stops the start, with the sentence that mends it."""

from __future__ import annotations

from typing import Any

from django.core import checks

from providers.catalog.loader import DATA, problems


def check_catalog(**_: Any) -> list[checks.CheckMessage]:
    return [checks.Error(problem, id="providers.E001") for problem in problems(DATA)]
