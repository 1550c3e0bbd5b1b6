"""Every numbered trap of the wire reference has a test that names its number.

Tests name traps in their function, their case or a comment. Traps that other tests prove without
a number, and those that no codec can step into, are listed here with the reason.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).resolve().parent.parent
TRAPS: Final = range(1, 201)

# `trap 62`, `traps 9 and 75`, `Traps 32, 49`, `test_trap_062_090_110_…`, `id="trap_134_nothing"`.
_NAMED: Final = re.compile(
    r"(?<![a-z])traps?[ _]((?:\d{1,3}(?:, | and |_and_|_(?=\d))?)+)", re.IGNORECASE
)

# Shown by tests of other parts, which know nothing of these numbers.
SHOWN_BY: Final[dict[int, str]] = {
    138: "security/test_leaving_callers.py::test_a_vendor_is_left_within_a_second",
    140: "providers/upstream/test_client.py::test_silence_in_the_middle_times_out",
    154: "providers/catalog/test_pricing.py::test_the_tier_is_that_of_the_whole_prompt",
    157: "providers/catalog/test_listings.py::test_every_shape",
    189: "providers/catalog/test_identifiers.py::test_a_missing_identifier_is_named",
    192: "controlplane/proxy/test_respond.py::test_later_layers_win_whatever_the_case",
    200: "providers/simulator/wire/test_bedrock_rules.py::test_refuses",
}

DOES_NOT_APPLY: Final[dict[int, str]] = {
    1: "No dialect says of a turn in the history that it broke. What can be seen of one (no "
    "words, calls without results, results without calls, thoughts without a proof) is traps 2 "
    "to 8, 79 and 89.",
    139: "The gateway does not wait before it tries again: it goes to the next target or fails.",
    148: "Answers come over HTTP only; no upstream is spoken to over a WebSocket.",
    155: "Codecs hand on the model that answered (Start.model); what it costs is the ledger's.",
    191: "Nothing is detected by URL: a provider's file names its protocol and its quirks.",
    195: "The gateway never waits as long as a server asks: the delay is passed on to the client.",
}


@cache
def named() -> dict[int, set[str]]:
    """Trap → the test files that name it."""
    found: dict[int, set[str]] = {}
    for path in TESTS.rglob("test_*.py"):
        if path == Path(__file__).resolve():
            continue
        for match in _NAMED.finditer(path.read_text()):
            for number in re.findall(r"\d+", match.group(1)):
                found.setdefault(int(number), set()).add(path.name)
    return found


def test_every_trap_is_named_shown_or_does_not_apply() -> None:
    missing = set(TRAPS) - named().keys() - SHOWN_BY.keys() - DOES_NOT_APPLY.keys()
    assert not missing, f"no test names the traps {sorted(missing)}"


def test_no_excuse_outlives_its_trap() -> None:
    """A trap that a test names needs none, and none is excused twice."""
    assert not named().keys() & (SHOWN_BY.keys() | DOES_NOT_APPLY.keys())
    assert not SHOWN_BY.keys() & DOES_NOT_APPLY.keys()
    assert named().keys() <= set(TRAPS), "a number that is no trap"


def test_tests_that_show_a_trap_exist() -> None:
    for number, where in SHOWN_BY.items():
        file, _, name = where.partition("::")
        tree = ast.parse((TESTS / file).read_text())
        functions = {
            node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert name in functions, f"trap {number}: {where} is gone"


def test_numbers_are_read_in_every_spelling() -> None:
    text = "trap 62; traps 9 and 75; Traps 32, 49; def test_trap_061_and_062_x; trap_103_and_104-z"
    numbers = [re.findall(r"\d+", match.group(1)) for match in _NAMED.finditer(text)]
    assert numbers == [["62"], ["9", "75"], ["32", "49"], ["061", "062"], ["103", "104"]]
