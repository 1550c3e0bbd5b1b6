from __future__ import annotations

import base64
import errno
import os
import stat
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tenants.vault.errors import KeyRingProblem
from tenants.vault.wrapping.contract import KeyContext, Wrapped
from tenants.vault.wrapping.key_file import KeyFile, parse
from tests.tenants.vault.samples.rows import new_ring_key

NOW = datetime(2026, 1, 31, tzinfo=UTC)
CONTEXT = KeyContext(uuid.UUID(int=1), uuid.UUID(int=2))


def test_a_new_file_is_for_its_owner_alone_and_says_what_it_is(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "secrets" / "vault_keys")
    key_id = file.create(NOW)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    (key,) = file.keys()
    assert key.id == key_id
    text = file.path.read_text()
    assert "Keep a copy apart" in text
    assert f"{key_id}, 2026-01-31" in text
    assert sorted(path.name for path in file.path.parent.iterdir()) == ["vault_keys"]


def test_a_file_is_never_replaced(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "vault_keys")
    file.create(NOW)
    before = file.path.read_bytes()
    with pytest.raises(KeyRingProblem, match="nothing was changed"):
        file.create(NOW)
    assert file.path.read_bytes() == before


def test_the_last_key_wraps_and_all_unwrap(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "vault_keys")
    file.create(NOW)
    first = file.wrap(b"k" * 32, CONTEXT)
    added = file.add(NOW)
    second = file.wrap(b"k" * 32, CONTEXT)
    assert first.wrapped_by != second.wrapped_by == f"file:{added}" == file.current()
    for wrapped in (first, second):
        assert file.unwrap(wrapped, CONTEXT) == b"k" * 32
    file.drop([first.wrapped_by.removeprefix("file:")])
    assert file.unwrap(second, CONTEXT) == b"k" * 32
    with pytest.raises(KeyRingProblem, match=r"has no vault key [0-9a-f]{16}"):
        file.unwrap(first, CONTEXT)
    assert "Keep a copy apart" in file.path.read_text()


@pytest.mark.parametrize(
    "other", [KeyContext(uuid.UUID(int=1), None), KeyContext(uuid.UUID(int=3), uuid.UUID(int=2))]
)
def test_a_wrapped_key_belongs_to_one_row(tmp_path: Path, other: KeyContext) -> None:
    file = KeyFile(tmp_path / "vault_keys", new_ring_key())
    wrapped = file.wrap(b"k" * 32, CONTEXT)
    with pytest.raises(KeyRingProblem, match="does not open"):
        file.unwrap(wrapped, other)
    with pytest.raises(KeyRingProblem, match="does not open"):
        file.unwrap(Wrapped(wrapped.wrapped_by, wrapped.blob[:-1]), CONTEXT)


def test_keys_may_come_from_the_variable_and_are_then_not_edited(tmp_path: Path) -> None:
    keys = [new_ring_key().strip(), new_ring_key().strip()]
    file = KeyFile(tmp_path / "nowhere", ",".join(keys))
    assert file.exists()
    assert len(file.keys()) == 2
    for change in (lambda: file.create(NOW), lambda: file.add(NOW), lambda: file.drop(["x"])):
        with pytest.raises(KeyRingProblem, match="come from VAULT_KEYS"):
            change()


def test_url_safe_and_plain_base64_are_the_same_key() -> None:
    material = bytes(range(200, 232))
    plain, url_safe = base64.b64encode(material), base64.urlsafe_b64encode(material)
    assert plain != url_safe
    assert parse(plain.decode(), "x")[0].id == parse(url_safe.decode(), "x")[0].id


@pytest.mark.parametrize("word", ["short", "A" * 43, "A" * 45, "é" * 44, "A" * 44 + "=", "A A"])
def test_a_bad_line_is_named_and_not_shown(tmp_path: Path, word: str) -> None:
    with pytest.raises(KeyRingProblem) as error:
        parse(f"# comment\n\n{word}\n", "the file")
    assert "the file, line 3: expected one base64 key of 32 bytes" in str(error.value)
    assert word not in str(error.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "is missing. Put it back from its backup"),
        (b"", "holds no vault key"),
        (b"# only a comment\n", "holds no vault key"),
        (b"\xff\xfe\x00", "it is not text"),
    ],
)
def test_a_file_that_is_no_ring_says_what_to_do(
    tmp_path: Path, content: bytes | None, sentence: str
) -> None:
    path = tmp_path / "vault_keys"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(KeyRingProblem, match=sentence):
        KeyFile(path).keys()


def test_a_folder_in_its_place_says_so(tmp_path: Path) -> None:
    with pytest.raises(KeyRingProblem, match="cannot be read: Is a directory"):
        KeyFile(tmp_path).keys()


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = KeyFile(tmp_path / "vault_keys")
    file.create(NOW)
    before = file.path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tenants.vault.wrapping.key_file.os.fsync", full)
    with pytest.raises(KeyRingProblem, match="cannot be written: No space left on device"):
        file.add(NOW)
    assert file.path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["vault_keys"]


def test_keys_do_not_print_themselves() -> None:
    line = new_ring_key().strip()
    (key,) = parse(line, "x")
    assert repr(key) == f"RingKey({key.id})"
    assert line[:12] not in repr(key)
