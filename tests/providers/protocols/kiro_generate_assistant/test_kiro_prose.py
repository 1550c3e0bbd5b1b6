"""Thinking tags and prose calls, however the text is cut."""

from __future__ import annotations

import itertools

import pytest

from providers.protocols.kiro_generate_assistant.prose import MAX_CALL, ProseReader


def read(*chunks: str) -> list[tuple[str, str, str]]:
    """Pieces, neighbours of one kind joined."""
    reader = ProseReader()
    pieces = [piece for chunk in chunks for piece in reader.feed(chunk)] + reader.close()
    out: list[tuple[str, str, str]] = []
    for kind, group in itertools.groupby(pieces, key=lambda piece: piece.kind):
        if kind in ("text", "thinking"):
            out.append((kind, "".join(piece.text for piece in group), ""))
        else:
            out.extend((kind, piece.text, piece.name) for piece in group)
    return out


SAMPLES = {
    "plain <b>text</b> [1] [Call me] é🎉": [("text", "plain <b>text</b> [1] [Call me] é🎉", "")],
    "<thinking>why</thinking>\n\nBecause.": [("thinking", "why", ""), ("text", "Because.", "")],
    "\n <thinking>a < b</thinking>x": [("thinking", "a < b", ""), ("text", "x", "")],
    "Tags: <thinking>no</thinking>": [("text", "Tags: <thinking>no</thinking>", "")],
    "<thinking>never closed": [("thinking", "never closed", "")],
    "<thinking>cut </thin": [("thinking", "cut </thin", "")],
    "<think": [("text", "<think", "")],
    'Ok [Called look with args: {"a": "}]", "b": {"c": 1}}] done': [
        ("text", "Ok ", ""),
        ("call", '{"a": "}]", "b": {"c": 1}}', "look"),
        ("text", " done", ""),
    ],
    '[Called a with args: {"x":"\\"}"} ][Called b with args: {}]': [
        ("call", '{"x":"\\"}"}', "a"),
        ("call", "{}", "b"),
    ],
    "[Called look with args: {} and more": [("text", "[Called look with args: {} and more", "")],
    "[Called look with words]": [("text", "[Called look with words]", "")],
    "[Called off] by [Called x with args: 5]": [
        ("text", "[Called off] by [Called x with args: 5]", "")
    ],
    'So [Called look with args: {"a": 1': [("text", "So ", ""), ("cut", "", "")],
    "<thinking>a</thinking>[Called f with args: {}]<thinking>b</thinking>c": [
        ("thinking", "a", ""),
        ("call", "{}", "f"),
        ("thinking", "b", ""),
        ("text", "c", ""),
    ],
}


@pytest.mark.parametrize("text", SAMPLES, ids=range(len(SAMPLES)))
def test_samples(text: str) -> None:
    assert read(text) == SAMPLES[text]


@pytest.mark.parametrize("text", SAMPLES, ids=range(len(SAMPLES)))
def test_any_cutting_reads_the_same(text: str) -> None:
    assert read(*text) == SAMPLES[text]
    for cut in range(1, len(text)):
        assert read(text[:cut], text[cut:]) == SAMPLES[text]
    for first, second in itertools.combinations(range(1, len(text), 3), 2):
        assert read(text[:first], text[first:second], text[second:]) == SAMPLES[text]


def test_ordinary_text_is_not_held_back() -> None:
    reader = ProseReader()
    assert [piece.text for piece in reader.feed("Hello")] == ["Hello"]
    assert [piece.text for piece in reader.feed(" [C")] == [" "]
    assert [piece.text for piece in reader.feed("at]")] == ["[Cat]"]


def test_a_call_without_end_is_bounded_and_becomes_text() -> None:
    reader = ProseReader()
    reader.feed('[Called f with args: {"a": "')
    size = 0
    for _ in range(20):
        size += sum(len(piece.text) for piece in reader.feed("x" * 100_000))
    assert size > MAX_CALL


def test_endless_blanks_are_bounded() -> None:
    reader = ProseReader()
    shown = sum(len(piece.text) for _ in range(100) for piece in reader.feed(" " * 100))
    assert shown > 8000
