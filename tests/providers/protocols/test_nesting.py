"""What may nest, and how deep: brackets in strings count for nothing."""

from __future__ import annotations

import pytest

from controlplane.kit import json
from providers.protocols import nesting
from providers.protocols.errors import RemoteProtocolError

DEEPEST = json.MAX_DEPTH


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def test_what_is_shallow_enough_passes() -> None:
    nesting.check(nested(DEEPEST))
    nesting.check(b'{"text": "' + b"[{" * 500 + b'"}')
    nesting.check(b"[" + b"[],{}," * 500 + b"0]")


@pytest.mark.parametrize("depth", [DEEPEST + 1, 900, 100_000])
def test_what_is_too_deep_is_an_error_of_the_upstream(depth: int) -> None:
    with pytest.raises(RemoteProtocolError, match="too deep"):
        nesting.check(b'{"x": ' + nested(depth) + b"}")


def test_arguments_that_are_too_deep_are_no_json() -> None:
    assert nesting.loads_shallow(nested(DEEPEST).decode())
    assert nesting.loads_shallow('"' + "[" * 500 + '"') == "[" * 500
    with pytest.raises(json.InvalidJSON):
        nesting.loads_shallow(nested(DEEPEST + 1).decode())
