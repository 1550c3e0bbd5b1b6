"""Opaque proofs remember their origin on the way through clients of another dialect."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.protocols.canonical import ModelSpec, Signature
from providers.protocols.signatures import belongs_to, unwrap, wrap

slug = st.sampled_from(["anthropic-messages", "google-vertex", "openai-responses"])
value = st.text(alphabet=st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=300)


@given(value, slug, st.none() | st.text(alphabet="abc/-.:", min_size=1), slug)
def test_there_and_back(text: str, origin: str, model: str | None, native: str) -> None:
    signature = Signature(value=text, protocol=origin, model=model)
    carried = wrap(signature, native=native)
    if origin == native and model is None:
        assert carried == text
    else:
        base64.b64decode(carried, validate=True)
        assert unwrap(carried, native=native) == signature


@pytest.mark.parametrize(
    "text",
    [
        "",
        "EqoBCkgIARgC",
        "cGNwMQ",
        "cGNwMQ==",
        "cGNwMQ!not base64",
        base64.b64encode(b"pcp1 no zero byte").decode(),
        base64.b64encode(b"pcp1\x00only two\x00").decode().replace("=", ""),
        base64.b64encode(b"pcp1\x00a\x00b\x00\xff\xfe").decode(),
        base64.b64encode(b"pcp1@a\x00b\x00c").decode(),
    ],
)
def test_what_is_not_ours_is_the_dialects_own(text: str) -> None:
    assert unwrap(text, native="anthropic-messages") == Signature(
        value=text, protocol="anthropic-messages"
    )


def model(name: str, protocol: str = "p") -> ModelSpec:
    return ModelSpec(id=name, protocol=protocol)


def test_trap_092_the_asked_model_decides_not_the_answering_one() -> None:
    signature = Signature(value="s", protocol="p", model="asked")
    assert belongs_to(signature, model("asked"))
    assert not belongs_to(signature, model("other"))


def test_trap_094_a_proof_returns_to_its_maker_only() -> None:
    signature = Signature(value="s", protocol="p")
    assert belongs_to(signature, model("any"))
    assert not belongs_to(signature, model("any", "q"))
    assert not belongs_to(None, model("any"))
    assert not belongs_to(Signature(value="", protocol="p"), model("any"))
