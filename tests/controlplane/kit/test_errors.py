"""Faults: every kind has a status, and an error without words says what to do."""

from __future__ import annotations

import pytest

from controlplane.kit.errors import STATUS_OF_KIND, Fault, FaultKind, GatewayError


@pytest.mark.parametrize("kind", FaultKind)
def test_every_kind_has_a_status(kind: FaultKind) -> None:
    assert 400 <= STATUS_OF_KIND[kind] < 600
    assert Fault(kind=kind, code="c", message="m").http_status == STATUS_OF_KIND[kind]


def test_a_status_of_its_own_wins() -> None:
    assert Fault(kind=FaultKind.OVERLOADED, code="c", message="m", status=529).http_status == 529


def test_an_error_is_a_fault() -> None:
    class Full(GatewayError):
        kind = FaultKind.RATE_LIMIT
        code = "full"

    fault = Full("Wait.", param="model", retry_after_seconds=2.5).fault()
    assert fault == Fault(
        kind=FaultKind.RATE_LIMIT,
        code="full",
        message="Wait.",
        param="model",
        retry_after_seconds=2.5,
    )
    assert str(Full("Wait.")) == "Wait."


def test_an_unmapped_error_is_internal_and_says_what_to_do() -> None:
    fault = GatewayError().fault()
    assert (fault.kind, fault.code) == (FaultKind.INTERNAL, "internal_error")
    assert "Try again" in fault.message
