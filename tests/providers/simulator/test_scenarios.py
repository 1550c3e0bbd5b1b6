"""What a simulated model says, before any vendor's words for it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import jsonschema
import pytest

from providers.protocols.canonical import (
    ArgumentsDelta,
    BlockEnd,
    BlockStart,
    End,
    Event,
    Finish,
    LogprobsDelta,
    SignatureDelta,
    Start,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    Usage,
    UsageUpdate,
)
from providers.simulator import proofs
from providers.simulator.asked import Ask, ToolAsked, script_of
from providers.simulator.scenarios import SCENARIOS, UNICODE, events
from providers.simulator.writing import example

WEATHER = ToolAsked("weather", {"type": "object", "properties": {"city": {"type": "string"}}})
CLOCK = ToolAsked("clock", {"type": "object", "properties": {"zone": {"enum": ["UTC", "CET"]}}})


def play(model: str, **fields: Any) -> list[Event]:
    return events(Ask(model=model, **{"prompt": "hello", "prompt_bytes": 400, **fields}))


def said(played: list[Event], choice: int = 0) -> str:
    return "".join(e.text for e in played if isinstance(e, TextDelta) and e.choice == choice)


def usage(played: list[Event]) -> Usage:
    return next(event.usage for event in played if isinstance(event, UsageUpdate))


def calls(played: list[Event]) -> list[tuple[str, str]]:
    names: dict[int, str] = {}
    arguments: dict[int, str] = {}
    for event in played:
        if isinstance(event, BlockStart) and isinstance(event.block, ToolCall):
            names[event.index] = event.block.name
            arguments[event.index] = ""
        elif isinstance(event, ArgumentsDelta):
            arguments[event.index] += event.fragment
    return [(name, arguments[index]) for index, name in names.items()]


def reason(played: list[Event]) -> str:
    return next(event.reason for event in played if isinstance(event, Finish))


@pytest.mark.parametrize("choices", [1, 3])
@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_is_a_well_formed_answer(name: str, choices: int) -> None:
    played = play(f"sim+{name}", tools=(WEATHER, CLOCK), choices=choices, logprobs=2)
    assert isinstance(played[0], Start)
    assert isinstance(played[-1], End)
    opened: set[int] = set()
    seen: set[int] = set()
    finished: list[int] = []
    for event in played[1:-1]:
        if isinstance(event, BlockStart):
            assert event.index not in seen
            opened.add(event.index)
            seen.add(event.index)
        elif isinstance(event, BlockEnd):
            opened.remove(event.index)
        elif isinstance(event, Finish):
            finished.append(event.choice)
        elif not isinstance(event, UsageUpdate | LogprobsDelta):
            assert event.index in opened
    assert not opened
    assert finished == list(range(choices))
    assert played == play(f"sim+{name}", tools=(WEATHER, CLOCK), choices=choices, logprobs=2)


def test_a_name_holds_scenario_and_options() -> None:
    script = script_of("sim-gpt+text+tokens=7+after=0.5+flag")
    assert script.base == "sim-gpt"
    assert script.options == {"text": "", "tokens": "7", "after": "0.5", "flag": ""}
    assert (script.number("tokens", 1), script.number("none", 3)) == (7, 3)
    assert script_of("x+n=nan").number("n", 4) == 4
    assert script_of("x+n=-1").number("n", 4) == 4


@pytest.mark.parametrize("count", [0, 1, 250])
def test_text_has_as_many_tokens_as_asked(count: int) -> None:
    played = play(f"sim+text+tokens={count}")
    assert len([event for event in played if isinstance(event, TextDelta)]) == count
    assert usage(played).output == count


def test_a_text_has_an_upper_bound() -> None:
    assert len(play("sim+text+tokens=999999999")) < 200_010


def test_without_a_scenario_it_echoes() -> None:
    images = (("image/png", 70), ("url", 30))
    text = said(play("sim", images=images))
    assert text == "You said: hello [image image/png, 70 bytes] [image url, 30 bytes]"


def test_without_a_scenario_it_does_what_the_request_asks() -> None:
    assert calls(play("sim", tools=(WEATHER, CLOCK), forced_tool="clock"))[0][0] == "clock"
    assert calls(play("sim", tools=(WEATHER,), is_tool_required=True))
    assert not calls(play("sim", tools=(WEATHER,), is_tool_required=True, has_tool_results=True))
    assert not calls(play("sim", tools=(WEATHER,), are_tools_off=True))
    assert said(play("sim", wants_json=True)) == '{"answer":"simulated"}'
    assert any(isinstance(event, ThinkingDelta) for event in play("sim", wants_thinking=True))


def test_unicode_arrives_whole_although_cut() -> None:
    played = play("sim+unicode")
    assert said(played) == UNICODE
    assert len([event for event in played if isinstance(event, TextDelta)]) > 8


def test_a_limit_and_a_stop_end_the_text() -> None:
    played = play("sim+text+tokens=50", max_tokens=5)
    assert (usage(played).output, reason(played)) == (5, "length")
    played = play("sim+text+tokens=50", stop=("answer",))
    assert (said(played), reason(played)) == ("the quick ", "stop_sequence")
    finish = next(event for event in played if isinstance(event, Finish))
    assert finish.stop_sequence == "answer"


def test_tools_are_called_in_turn_and_at_once() -> None:
    played = play("sim+tools+calls=3", tools=(WEATHER, CLOCK))
    assert [name for name, _ in calls(played)] == ["weather", "clock", "weather"]
    assert calls(played)[1][1] == '{"zone":"UTC"}'
    played = play("sim+interleaved", tools=(WEATHER, CLOCK))
    indexes = [event.index for event in played if isinstance(event, ArgumentsDelta)]
    assert [one != other for one, other in pairwise(indexes)].count(True) >= 3


def test_a_loop_ends_with_the_result() -> None:
    assert reason(play("sim+loop", tools=(WEATHER,))) == "tool_use"
    played = play("sim+loop", tools=(WEATHER,), has_tool_results=True)
    assert (reason(played), said(played)) == ("stop", "The tool has answered.")


def test_a_custom_tool_gets_free_text() -> None:
    tool = ToolAsked("shell", kind="custom", namespace="box")
    played = play("sim+tool", tools=(tool,))
    assert calls(played) == [("shell", "simulated input")]
    start = next(event for event in played if isinstance(event, BlockStart))
    assert isinstance(start.block, ToolCall)
    assert (start.block.kind, start.block.namespace) == ("custom", "box")


def test_thoughts_are_signed_for_their_text_and_model() -> None:
    played = play("sim-x+thinking", protocol="anthropic-messages")
    text = "".join(event.text for event in played if isinstance(event, ThinkingDelta))
    (signed,) = [event.signature for event in played if isinstance(event, SignatureDelta)]
    assert signed.protocol == "anthropic-messages"
    assert signed.value == proofs.make("sim-x", text)
    assert proofs.is_whole(signed.value, "sim-x")
    assert not proofs.is_whole(signed.value, "sim-y")
    assert usage(played).reasoning == 3


def test_cached_tokens_are_part_of_the_prompt() -> None:
    played = usage(play("sim+cached+read=60+write=20+write1h=5"))
    assert (played.cache_read, played.cache_write, played.cache_write_1h) == (60, 20, 5)
    assert played.prompt == 100
    assert usage(play("sim+cached+read=1000")).prompt == 100


def test_choices_say_the_same_with_ids_of_their_own() -> None:
    played = play("sim+tools", tools=(WEATHER,), choices=3)
    assert said(played, 0) == said(played, 1) == said(played, 2) == "Let me look."
    blocks = [event.block for event in played if isinstance(event, BlockStart)]
    ids = [block.id for block in blocks if isinstance(block, ToolCall)]
    assert len(set(ids)) == len(ids) == 6
    one = usage(play("sim+tools", tools=(WEATHER,)))
    assert (usage(played).output, usage(played).prompt) == (one.output * 3, one.prompt)


def test_log_probabilities_come_with_each_token() -> None:
    played = play("sim+text+tokens=3", logprobs=2)
    entries = [event.content[0] for event in played if isinstance(event, LogprobsDelta)]
    assert [entry["token"] for entry in entries] == ["the", " quick", " answer"]
    assert all(entry["logprob"] <= 0 for entry in entries)
    assert all(bytes(entry["bytes"]).decode() == entry["token"] for entry in entries)
    assert [len(entry["top_logprobs"]) for entry in entries] == [2, 2, 2]
    assert not [e for e in play("sim+text") if isinstance(e, LogprobsDelta)]


SCHEMAS: list[dict[str, Any]] = [
    {"type": "object", "properties": {"a": {"type": "integer", "minimum": 3}}, "required": ["a"]},
    {"type": "array", "items": {"type": "number"}, "minItems": 3},
    {"type": ["null", "string"]},
    {"anyOf": [{"type": "boolean"}, {"type": "string"}]},
    {"enum": ["x", "y"]},
    {"const": 5},
    {"type": "null"},
    {},
]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_an_example_satisfies_its_schema(schema: dict[str, Any]) -> None:
    jsonschema.validate(example(schema), schema)


def test_an_endless_schema_has_an_example() -> None:
    node: dict[str, Any] = {"type": "object", "properties": {}}
    node["properties"]["again"] = node
    assert isinstance(example(node), dict)
