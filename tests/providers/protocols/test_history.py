"""A conversation is mended before it is encoded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from providers.protocols.canonical import (
    Image,
    Message,
    Part,
    Signature,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Url,
)
from providers.protocols.history import MISSING_RESULT, mended
from providers.protocols.losses import Loss, LossCode


def user(text: str = "hi") -> Message:
    return Message(role="user", parts=(Text(text=text),))


def system(text: str = "rule") -> Message:
    return Message(role="system", parts=(Text(text=text),))


def calls(*ids: str) -> Message:
    return Message(role="assistant", parts=tuple(ToolCall(id=i, name=f"f_{i}") for i in ids))


def results(*pairs: tuple[str, str]) -> Message:
    return Message(
        role="tool", parts=tuple(ToolResult(call_id=i, content=(Text(text=t),)) for i, t in pairs)
    )


def said(message: Message) -> list[tuple[str, str]]:
    out = []
    for part in message.parts:
        assert isinstance(part, ToolResult)
        text = part.content[0]
        assert isinstance(text, Text)
        out.append((part.call_id, text.text))
    return out


def mend(*messages: Message) -> tuple[tuple[Message, ...], list[Loss]]:
    losses: list[Loss] = []
    return mended(messages, losses), losses


def test_a_good_conversation_is_untouched() -> None:
    good = (
        user(),
        calls("a", "b"),
        Message(
            role="tool",
            parts=(
                ToolResult(call_id="a", name="f_a", content=(Text(text="1"),)),
                ToolResult(call_id="b", name="f_b", content=(Text(text="2"),)),
            ),
        ),
        Message(role="assistant", parts=(Text(text="done"),)),
        user("thanks"),
    )
    mended_messages, losses = mend(*good)
    assert mended_messages == good
    assert losses == []


def test_trap_002_trap_003_trap_079_results_without_a_call_go() -> None:
    messages, losses = mend(
        results(("x", "1")), user(), calls("a"), results(("a", "1"), ("y", "2"))
    )
    assert [m.role for m in messages] == ["user", "assistant", "tool"]
    assert said(messages[2]) == [("a", "1")]
    assert [(loss.path, loss.code) for loss in losses] == [
        ("messages[0]", LossCode.DROPPED),
        ("messages[3]", LossCode.DROPPED),
    ]


def test_trap_004_a_call_without_result_gets_an_error_result() -> None:
    for after in (user(), Message(role="assistant", parts=(Text(text="so"),))):
        messages, losses = mend(user(), calls("a"), after)
        assert [m.role for m in messages] == ["user", "assistant", "tool", after.role]
        result = messages[2].parts[0]
        assert isinstance(result, ToolResult)
        assert result.is_error
        assert result.name == "f_a"
        assert said(messages[2]) == [("a", MISSING_RESULT)]
        assert losses[0].code is LossCode.SYNTHESISED


def test_trap_004_some_results_missing() -> None:
    messages, _ = mend(user(), calls("a", "b", "c"), results(("c", "3")), user())
    assert said(messages[2]) == [("a", MISSING_RESULT), ("b", MISSING_RESULT), ("c", "3")]


def test_open_calls_at_the_end_are_left_to_the_encoder() -> None:
    messages, losses = mend(user(), calls("a"))
    assert [m.role for m in messages] == ["user", "assistant"]
    assert losses == []


def test_trap_005_a_user_message_between_call_and_result_moves_behind() -> None:
    messages, losses = mend(user("1"), calls("a"), user("2"), results(("a", "r")), user("3"))
    assert [m.role for m in messages] == ["user", "assistant", "tool", "user", "user"]
    assert messages[3] == user("2")
    assert [loss.code for loss in losses] == [LossCode.MOVED]


def test_trap_006_system_messages_are_held_until_after_the_results() -> None:
    messages, _ = mend(user(), calls("a"), system(), results(("a", "r")))
    assert [m.role for m in messages] == ["user", "assistant", "tool", "system"]


def test_results_in_several_messages_become_one_in_the_order_of_the_calls() -> None:
    messages, _ = mend(user(), calls("a", "b"), results(("b", "2")), results(("a", "1")))
    assert said(messages[2]) == [("a", "1"), ("b", "2")]


def test_trap_008_empty_assistant_turns_go() -> None:
    messages, losses = mend(
        user(),
        Message(role="assistant", parts=()),
        Message(role="assistant", parts=(Text(text=""),)),
        Message(role="assistant", parts=(Thinking(text=""),)),
        user(),
    )
    assert [m.role for m in messages] == ["user", "user"]
    assert len(losses) == 3


def test_trap_009_empty_text_goes_but_not_what_stands_beside_it() -> None:
    image = Image(source=Url(url="https://example.com/a.png"))
    messages, _ = mend(Message(role="user", parts=(Text(text=""), image)))
    assert messages[0].parts == (image,)


def test_trap_082_an_empty_text_with_a_signature_stays() -> None:
    signed = Text(text="", signature=Signature(value="s", protocol="p"))
    thought = Thinking(signature=Signature(value="s", protocol="p"))
    messages, losses = mend(
        user(),
        Message(role="assistant", parts=(signed,)),
        Message(role="assistant", parts=(thought,)),
    )
    assert [m.parts for m in messages[1:]] == [(signed,), (thought,)]
    assert losses == []


def test_trap_073_of_several_results_for_one_call_the_last_counts() -> None:
    messages, losses = mend(user(), calls("a"), results(("a", "old")), results(("a", "new")))
    assert said(messages[2]) == [("a", "new")]
    assert [loss.code for loss in losses] == [LossCode.DROPPED]


def test_trap_028_calls_that_share_an_id_take_their_results_in_order() -> None:
    messages, losses = mend(user(), calls("a", "a"), results(("a", "1"), ("a", "2")))
    assert said(messages[2]) == [("a", "1"), ("a", "2")]
    assert losses == []
    messages, losses = mend(user(), calls("a", "a"), results(("a", "1"), ("a", "2"), ("a", "3")))
    assert said(messages[2]) == [("a", "1"), ("a", "3")]
    assert [loss.code for loss in losses] == [LossCode.DROPPED]


def test_one_id_in_two_turns_is_two_calls() -> None:
    messages, losses = mend(
        user(), calls("a"), results(("a", "1")), calls("a"), results(("a", "2"))
    )
    assert [said(m) for m in messages if m.role == "tool"] == [[("a", "1")], [("a", "2")]]
    assert losses == []


ids = st.sampled_from(["a", "b", "c"])
anything = st.lists(
    st.one_of(
        st.just(user()),
        st.just(system()),
        st.just(Message(role="user", parts=(Text(text=""),))),
        st.just(Message(role="assistant", parts=(Text(text="so"),))),
        st.lists(ids, min_size=1, max_size=3).map(lambda found: calls(*found)),
        st.lists(ids, min_size=1, max_size=3).map(
            lambda found: results(*((one, one) for one in found))
        ),
    ),
    max_size=9,
)


@given(anything)
def test_whatever_comes_in_the_canonical_shape_goes_out(messages: list[Message]) -> None:
    out = mended(messages, [])
    for index, message in enumerate(out):
        assert message.parts
        found: tuple[Part, ...] = message.parts
        if message.role == "assistant":
            wanted = [part.id for part in found if isinstance(part, ToolCall)]
            if wanted and index + 1 < len(out):
                following = out[index + 1]
                assert following.role == "tool"
                assert [
                    part.call_id for part in following.parts if isinstance(part, ToolResult)
                ] == wanted
        elif message.role == "tool":
            assert index > 0
            assert out[index - 1].role == "assistant"
    # Mending what is mended changes nothing.
    again: list[Loss] = []
    assert mended(out, again) == out
    assert again == []
