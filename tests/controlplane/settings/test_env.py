from __future__ import annotations

from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from controlplane.settings import env

RANDOM = "hVq3kZ0vJ8sT1wXy5uB7nM2pL4cR6dF9"


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PROBE", "PROBE_FILE"):
        monkeypatch.delenv(name, raising=False)
    # What these tests read is no variable of the product.
    monkeypatch.setattr(env, "SEEN", {})


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", True), ("Yes", True), ("on", True), ("true", True), ("0", False), ("no", False)],
)
def test_flag(text: str, value: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert env.flag("PROBE", not value) is not value
    monkeypatch.setenv("PROBE", text)
    assert env.flag("PROBE", not value) is value


def test_values_that_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROBE", "perhaps")
    with pytest.raises(ImproperlyConfigured, match="Set PROBE to yes or no; it is 'perhaps'"):
        env.flag("PROBE", True)
    with pytest.raises(ImproperlyConfigured, match="Set PROBE to a whole number"):
        env.integer("PROBE", 1)
    with pytest.raises(ImproperlyConfigured, match="Set PROBE to one of a, b; it is 'perhaps'"):
        env.choice("PROBE", ("a", "b"))
    monkeypatch.setenv("PROBE", "-1")
    with pytest.raises(ImproperlyConfigured, match="Set PROBE to 0 or more; it is -1"):
        env.integer("PROBE", 1)


def test_values_that_are_good(monkeypatch: pytest.MonkeyPatch) -> None:
    assert env.integer("PROBE", 7) == 7
    assert env.choice("PROBE", ("a", "b")) == "a"
    assert env.words("PROBE", ("x",)) == ["x"]
    monkeypatch.setenv("PROBE", " 12 ")
    assert env.integer("PROBE", 7) == 12
    monkeypatch.setenv("PROBE", "b")
    assert env.choice("PROBE", ("a", "b")) == "b"
    monkeypatch.setenv("PROBE", "one, two,,three ")
    assert env.words("PROBE") == ["one", "two", "three"]
    assert set(env.SEEN) == {"PROBE"}


def test_a_secret_comes_from_the_variable_a_named_file_or_the_first_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, named = tmp_path / "made", tmp_path / "named"
    made.write_text(RANDOM + "-made\n")
    named.write_text(RANDOM + "-named\n")
    assert env.secret("PROBE", fallback_file=made) == RANDOM + "-made"
    assert not env.has_secret("PROBE")
    monkeypatch.setenv("PROBE_FILE", str(named))
    assert env.secret("PROBE", fallback_file=made) == RANDOM + "-named"
    monkeypatch.setenv("PROBE", RANDOM)
    assert env.secret("PROBE", fallback_file=made) == RANDOM
    assert env.has_secret("PROBE")


@pytest.mark.parametrize(
    ("value", "because"),
    [
        ("", "has no value"),
        ("   ", "has no value"),
        ("too-random-but-short", "too short"),
        ("change-me-0123456789-0123456789-0123456789", "sample value"),
        ("CHANGEME0123456789012345678901234567890123", "sample value"),
        ("your-secret-key-goes-here-0123456789-0123456", "sample value"),
        ("django-insecure-0123456789-0123456789-012345", "sample value"),
        ("example-0123456789-0123456789-0123456789-012", "sample value"),
    ],
)
def test_a_secret_that_is_none(
    value: str, because: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROBE", value)
    with pytest.raises(ImproperlyConfigured, match=because) as refusal:
        env.secret("PROBE")
    assert value.strip() == "" or value not in str(refusal.value)


def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROBE_FILE", str(tmp_path))
    with pytest.raises(ImproperlyConfigured, match="PROBE_FILE cannot be read"):
        env.secret("PROBE")
    with pytest.raises(ImproperlyConfigured, match="PROBE_FILE cannot be read"):
        env.address("PROBE")
    monkeypatch.setenv("PROBE_FILE", str(tmp_path / "none"))
    with pytest.raises(ImproperlyConfigured, match="Set PROBE, or PROBE_FILE"):
        env.secret("PROBE")


def test_an_address_may_come_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert env.address("PROBE") == ""
    (tmp_path / "url").write_text("postgres://u:p@h/d\n")
    monkeypatch.setenv("PROBE_FILE", str(tmp_path / "url"))
    assert env.address("PROBE") == "postgres://u:p@h/d"
    monkeypatch.setenv("PROBE", "postgres://other/d")
    assert env.address("PROBE") == "postgres://other/d"


def test_what_is_lent_can_be_taken_back() -> None:
    env.lend("PROBE", RANDOM)
    assert env.secret("PROBE") == RANDOM
    env.take_back("PROBE")
    assert env.optional_secret("PROBE") == ""
