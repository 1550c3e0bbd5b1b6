"""Who wrote last and whether an image is shown, as vendors want it told in headers."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.kit import json
from providers.protocols.quirks import Quirks
from providers.protocols.turns import turn_headers

QUIRKS = Quirks(initiator_header="X-Initiator", vision_header="X-Vision")
CALL = {"role": "assistant", "tool_calls": [{"id": "1"}]}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
SAID = {"role": "user", "content": "Hi"}


def told(body: dict[str, Any]) -> dict[str, str]:
    return turn_headers(json.dumps(body), QUIRKS)


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [SAID]},
        {"messages": [CALL, {"role": "tool", "content": "4"}, SAID]},
        {"messages": [{"role": "user", "content": []}]},
        {"input": "Hi"},
        {"input": [{"type": "message", "role": "user", "content": "Hi"}]},
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "tool_result"}, {"type": "text", "text": "?"}],
                }
            ]
        },
    ],
)
def test_a_person_wrote_last(body: dict[str, Any]) -> None:
    assert told(body) == {"X-Initiator": "user"}


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [SAID, CALL, {"role": "tool", "content": "4"}]},
        {"messages": [SAID, {"role": "assistant", "content": "{"}]},
        {"input": [SAID, {"type": "function_call_output", "output": "4"}]},
        {"messages": [SAID, {"role": "user", "content": [{"type": "tool_result"}]}]},
    ],
)
def test_a_program_goes_on(body: dict[str, Any]) -> None:
    assert told(body) == {"X-Initiator": "agent"}


@pytest.mark.parametrize(
    "part",
    [
        PICTURE,
        {"type": "input_image", "image_url": "https://example.test/a.png"},
        {"type": "image", "source": {"type": "url", "url": "https://example.test/a.png"}},
        {"type": "tool_result", "content": [{"type": "image", "source": {}}]},
    ],
)
def test_an_image_anywhere_is_announced(part: dict[str, Any]) -> None:
    shown = {"role": "user", "content": [part]}
    assert told({"messages": [shown, CALL, SAID]})["X-Vision"] == "true"
    assert told({"input": [shown, SAID]})["X-Vision"] == "true"


def test_a_picture_that_a_tool_gave_back_counts_too() -> None:
    given = {"type": "function_call_output", "output": [{"type": "input_image"}]}
    assert told({"input": [SAID, given]}) == {"X-Initiator": "agent", "X-Vision": "true"}


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b"{}", None, object()])
def test_what_is_no_conversation_has_none(payload: object) -> None:
    assert turn_headers(payload, QUIRKS) == {}


def test_words_about_pictures_are_no_pictures() -> None:
    said = {"role": "user", "content": '{"type": "image_url"}'}
    assert "X-Vision" not in told({"messages": [said]})


def test_nobody_else_is_told() -> None:
    assert turn_headers(json.dumps({"messages": [SAID]}), Quirks()) == {}
