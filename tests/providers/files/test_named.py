"""Which files a body names, however its author spells it."""

from __future__ import annotations

import json

import pytest

from providers.files.named import may_name, named_in


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"input": [{"content": [{"type": "input_file", "file_id": "file-a"}]}]}, {"file-a"}),
        ({"messages": [{"content": [{"file": {"file_id": "file-b"}}]}]}, {"file-b"}),
        ({"tools": [{"container": {"file_ids": ["a", 5, "b"]}}], "file_id": "c"}, {"a", "b", "c"}),
        ({"messages": [{"content": "my file_id is file-a"}]}, set()),
        ({"file_id": 5, "file_ids": "a"}, set()),
        ({}, set()),
    ],
)
def test_it_is_found_wherever_it_stands(body: dict[str, object], named: set[str]) -> None:
    assert named_in(json.dumps(body).encode()) == named


@pytest.mark.parametrize("letter", "file_d")
def test_an_escaped_name_is_no_hiding_place(letter: str) -> None:
    for escape in (f"\\u{ord(letter):04x}", f"\\u{ord(letter):04X}"):
        body = b'{"file_id": "file-a"}'.replace(
            b'"file_id"', b'"' + "file_id".replace(letter, escape).encode() + b'"'
        )
        assert named_in(body) == {"file-a"}


def test_ordinary_bodies_are_not_read_at_all() -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "é\u4e2d\n\t\x1b"}]}).encode()
    assert b"\\u00" in body
    assert not may_name(body)
    assert named_in(b'{"file_id": ') == set()
