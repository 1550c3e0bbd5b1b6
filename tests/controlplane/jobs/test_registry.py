from __future__ import annotations

from datetime import timedelta

import pytest

from controlplane.kit.jobs import registry
from controlplane.kit.jobs.errors import UnknownKind
from controlplane.kit.jobs.registry import Handler, Outcome


def test_a_handler_is_found_by_its_kind(handlers: dict[str, Handler]) -> None:
    @registry.handler("test.other", lease=timedelta(seconds=5), max_attempts=2)
    def other(**_: object) -> Outcome:
        return None

    found = registry.find("test.other")
    assert (found.run, found.lease, found.max_attempts) == (other, timedelta(seconds=5), 2)


def test_two_handlers_for_one_kind_are_refused(handlers: dict[str, Handler]) -> None:
    with pytest.raises(ValueError, match="two handlers"):
        registry.handler("test.note")(lambda **_: None)


@pytest.mark.parametrize(
    "options", [{"max_attempts": 0}, {"lease": timedelta(0)}, {"lease": timedelta(seconds=-1)}]
)
def test_a_handler_needs_an_attempt_and_a_lease(
    handlers: dict[str, Handler], options: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match="at least one attempt and a positive lease"):
        registry.handler("test.other", **options)  # type: ignore[arg-type]
    assert "test.other" not in handlers


def test_an_unknown_kind_says_where_handlers_live(handlers: dict[str, Handler]) -> None:
    with pytest.raises(UnknownKind, match=r"tasks\.py"):
        registry.find("test.nothing")


def test_the_apps_own_handlers_are_found() -> None:
    assert registry.find("jobs.prune").every == timedelta(hours=1)
