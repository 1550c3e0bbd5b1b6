"""YAML from elsewhere: plain values and nothing else, bounded, and no line of it in an error."""

from __future__ import annotations

import time
from typing import Any

import pytest

from providers.bundle import text
from tests.patience import allowed

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ("{a: 1, b: -2.5, c: 1e3}", {"a": 1, "b": -2.5, "c": 1000.0}),
        ("[true, false, null, ~]", [True, False, None, None]),
        # What YAML 1.1 makes of these is a person's bad day.
        ("[yes, no, on, off, NO]", ["yes", "no", "on", "off", "NO"]),
        ("[0123, 0x10, 12:30, 2026-11-21, 1_000, .5, .inf, =]",
         ["0123", "0x10", "12:30", "2026-11-21", "1_000", ".5", ".inf", "="]),
        ("key: 'true'", {"key": "true"}),
        ("<<: {a: b}", {"<<": {"a": "b"}}),
        ("a:\n  - b\n", {"a": ["b"]}),
        ("", None),
    ],
    ids=["numbers", "words", "no yes", "odd numbers", "quoted", "merge key", "block", "empty"],
)  # fmt: skip
def test_plain_values(content: str, value: Any) -> None:
    assert text.loads(content) == value


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (BOMB, "anchors and aliases"),
        ("a: &x 1", "anchors and aliases"),
        ("!!python/object/apply:os.system ['true']", "tags"),
        ("a: !!str 1", "tags"),
        ("a: !<tag:yaml.org,2002:python/name:os.system> x", "tags"),
        ("{a: 1, a: 2}", "stands twice"),
        ("{1: a}", "keys are texts"),
        ("? [a]\n: b", "keys are texts"),
        ("{true: a}", "keys are texts"),
        ("a: 1\n---\nb: 2", "one document"),
        ("[" * 40 + "]" * 40, "deeper than 32"),
        ("[" * 200_000, "deeper than 32"),
        ("- a\n" * 100_001, "more than 100,000"),
        ("x" * (text.MOST_BYTES + 1), "at most 1,048,576 bytes"),
        ("a: [", "no YAML (line "),
        ("a: \x00", "no YAML"),
        ('a: "\\0"', "such as NUL"),
        ('{"\\x00": a}', "such as NUL"),
        ("a: ['\ufffe']", "no YAML"),
        ("a: '\ud800'", "no YAML"),
        ("%YAML 9.9\n---\na: b", "no YAML"),
    ],
    ids=[
        *("bomb", "anchor", "object", "tag", "verbatim tag", "twice", "number as key"),
        *("list as key", "bool as key", "two documents", "deep", "very deep", "many", "large"),
        *("cut off", "nul", "escaped nul", "nul in a key", "no character", "surrogate"),
        "other version",
    ],
)
@pytest.mark.timed
def test_refused(content: str, words: str) -> None:
    began = time.thread_time()
    with pytest.raises(text.UnreadableText) as caught:
        text.loads(content)
    assert words in caught.value.message
    assert time.thread_time() - began < allowed(5)


def test_an_error_never_quotes_the_file() -> None:
    for content in ("key: sk-canary: x", "sk-canary: [", "a: 'sk-canary", "sk-canary\n a: b"):
        with pytest.raises(text.UnreadableText) as caught:
            text.loads(content)
        assert "canary" not in caught.value.message
        assert caught.value.__cause__ is None


def test_what_is_written_reads_the_same() -> None:
    value = {
        "texts": [
            "yes",
            "0123",
            "12:30",
            "null",
            "",
            " a ",
            "a: b",
            "# no",
            "ü\u2028",
            "a\nb\n",
            "~",
        ],
        "numbers": [0, -1, 1.5, 10**17],
        "same": [["x"], ["x"]],
    }
    shared = ["x"]
    assert text.loads(text.dumps(value)) == value
    assert "&" not in text.dumps([shared, shared])
