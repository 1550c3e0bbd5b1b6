"""Globs against the standard library's, and the texts that are accepted."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenants.keys import rules


@given(st.text("ab*?", min_size=1, max_size=12), st.text("ab", max_size=12))
def test_a_glob_means_what_globs_mean(glob: str, model: str) -> None:
    pattern = rules.model_patterns([glob])
    assert pattern is not None
    assert (pattern.fullmatch(model) is not None) == fnmatchcase(model, glob)


@given(
    st.lists(st.text("ab*?", min_size=1, max_size=6), min_size=1, max_size=4),
    st.text("ab", max_size=8),
)
def test_several_globs_allow_what_any_of_them_allows(globs: list[str], model: str) -> None:
    pattern = rules.model_patterns(globs)
    assert pattern is not None
    assert bool(pattern.fullmatch(model)) == any(fnmatchcase(model, glob) for glob in globs)


@pytest.mark.parametrize("text", ["gpt-5", "acme/llama-3.3:8b", "anthropic.claude-v2:0", "a@b+c"])
def test_vendors_names_are_names(text: str) -> None:
    pattern = rules.model_patterns([text])
    assert pattern is not None
    assert pattern.fullmatch(text)
    assert not pattern.fullmatch(text + "x")


@pytest.mark.parametrize("text", ["", " gpt", "g 5", "[a]", "(a+)+", "\\d", "a" * 201, "й", "a\n"])
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no model name"):
        rules.model_patterns([text])


@pytest.mark.parametrize("text", ["", "localhost", "10.0.0.0/33", "10.0.0.1/8", "1.2.3", "::/129"])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no address range"):
        rules.networks([text])
