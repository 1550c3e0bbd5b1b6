"""A secret does not print itself, whatever is done to it."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback

import pytest

from controlplane.kit.secret import MASK, Secret

VALUE = "sk-canary-0123456789"


@pytest.mark.parametrize(
    "shown",
    [
        repr(Secret(VALUE)),
        str(Secret(VALUE)),
        f"{Secret(VALUE)}",
        f"{Secret(VALUE)!r:>40}",
        format(Secret(VALUE), ">40"),
        "%s" % Secret(VALUE),  # noqa: UP031  # the old way must be safe too
        repr([Secret(VALUE)]),
        repr({"key": Secret(VALUE)}),
    ],
)
def test_it_shows_dots(shown: str) -> None:
    assert VALUE not in shown
    assert MASK in shown


def test_it_does_not_reach_a_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("test").warning("used %s and %r", Secret(VALUE), Secret(VALUE))
    assert VALUE not in caplog.text
    assert MASK in caplog.text


def test_it_does_not_reach_a_traceback() -> None:
    secret = Secret(VALUE)
    try:
        raise ValueError(secret)
    except ValueError as error:
        text = "".join(
            traceback.TracebackException.from_exception(error, capture_locals=True).format()
        )
    assert VALUE not in text.replace(f"VALUE = '{VALUE}'", "")


def test_it_never_leaves_the_process() -> None:
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="Secret"):
            leave(Secret(VALUE))
    with pytest.raises(TypeError):
        json.dumps(Secret(VALUE))
    with pytest.raises(TypeError):
        vars(Secret(VALUE))


def test_reveal_is_the_one_way() -> None:
    assert Secret(VALUE).reveal() == VALUE


def test_equality_and_truth() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert Secret("a")
    assert not Secret("")
    assert Secret("\ud800") != Secret("é")
