"""The default key ring: a file with one 256-bit key per line, or the variable VAULT_KEYS.

The last key wraps, every key unwraps. A key's id is derived from the key, so that a key
with a typing error is an unknown key and not a wrong one.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tenants.vault.envelope import KEY_BYTES, NONCE_BYTES
from tenants.vault.errors import KeyRingProblem
from tenants.vault.wrapping.contract import KeyContext, Wrapped

SCHEME = "file"
_VERSION_BYTE = b"\x01"
_HEAD = (
    "# Vault keys: the last one wraps, all of them unwrap.\n"
    "# Without this file no stored secret can be read. Keep a copy apart from the\n"
    "# database's backups, and never change a line.\n"
)


@dataclass(frozen=True, slots=True, repr=False)
class RingKey:
    id: str
    material: bytes

    def __repr__(self) -> str:
        return f"RingKey({self.id})"


class KeyFile:
    """Reads the ring anew at each use: a key added on disk serves without a restart."""

    def __init__(self, path: Path, text: str = "") -> None:
        """`text` is the value of VAULT_KEYS; when given, the file is not looked at."""
        self.path = path
        self._text = text

    @property
    def source(self) -> str:
        return "VAULT_KEYS" if self._text else str(self.path)

    @property
    def is_editable(self) -> bool:
        return not self._text

    def exists(self) -> bool:
        return bool(self._text) or self.path.exists()

    def changed_at(self) -> datetime:
        return datetime.fromtimestamp(self.path.stat().st_mtime, UTC)

    def keys(self) -> list[RingKey]:
        """Oldest first. Raises KeyRingProblem when missing, unreadable or empty."""
        keys = parse(self._text or self._read(), self.source)
        if not keys:
            raise KeyRingProblem(
                f"{self.source} holds no vault key. Put the key file back from its backup; "
                "on a new installation remove the empty file and run `manage.py vault init`."
            )
        return keys

    def current(self) -> str:
        return f"{SCHEME}:{self.keys()[-1].id}"

    def wrap(self, key: bytes, context: KeyContext) -> Wrapped:
        ring_key = self.keys()[-1]
        nonce = os.urandom(NONCE_BYTES)
        sealed = AESGCM(ring_key.material).encrypt(nonce, key, _associated(ring_key.id, context))
        return Wrapped(f"{SCHEME}:{ring_key.id}", _VERSION_BYTE + nonce + sealed)

    def unwrap(self, wrapped: Wrapped, context: KeyContext) -> bytes:
        wanted = wrapped.wrapped_by.removeprefix(f"{SCHEME}:")
        ring_key = next((key for key in self.keys() if key.id == wanted), None)
        if ring_key is None:
            raise KeyRingProblem(
                f"{self.source} has no vault key {wanted}, which stored secrets need. "
                "Put back the key file that belongs to this database."
            )
        nonce_end = 1 + NONCE_BYTES
        try:
            return AESGCM(ring_key.material).decrypt(
                wrapped.blob[1:nonce_end],
                wrapped.blob[nonce_end:],
                _associated(ring_key.id, context),
            )
        except (InvalidTag, ValueError):
            raise KeyRingProblem(
                f"Data key {context.key_id} does not open with vault key {wanted}: "
                "the row was altered or belongs elsewhere. Restore it from a backup."
            ) from None

    def create(self, now: datetime) -> str:
        """Makes the file with one key, mode 0600. Never replaces a file. Returns the key's id."""
        self._check_editable()
        text, key_id = _new_line(now)
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._write(_HEAD + text, replace=False)
        except FileExistsError:
            raise KeyRingProblem(f"{self.source} exists already: nothing was changed.") from None
        except OSError as error:
            raise _cannot_write(self.path, error) from None
        return key_id

    def add(self, now: datetime) -> str:
        """Appends a key, which then wraps. Returns its id."""
        self._check_editable()
        text = self._read()
        parse(text, self.source)
        line, key_id = _new_line(now)
        try:
            self._write(text.rstrip("\n") + "\n" + line, replace=True)
        except OSError as error:
            raise _cannot_write(self.path, error) from None
        return key_id

    def drop(self, key_ids: Collection[str]) -> None:
        """Removes keys. The caller has made sure that no data key needs them."""
        self._check_editable()
        kept = []
        for line in self._read().splitlines():
            word = line.partition("#")[0].strip()
            if not word or parse(word, self.source)[0].id not in key_ids:
                kept.append(line)
        try:
            self._write("\n".join(kept) + "\n", replace=True)
        except OSError as error:
            raise _cannot_write(self.path, error) from None

    def _check_editable(self) -> None:
        if not self.is_editable:
            raise KeyRingProblem(
                "The vault keys come from VAULT_KEYS: change that variable, "
                "or unset it and use VAULT_KEYS_FILE."
            )

    def _read(self) -> str:
        try:
            return self.path.read_text(encoding="ascii")
        except FileNotFoundError:
            raise KeyRingProblem(
                f"The vault key file {self.path} is missing. Put it back from its backup, "
                "or set VAULT_KEYS_FILE to where it is; "
                "on a new installation run `manage.py vault init`."
            ) from None
        except UnicodeDecodeError:
            raise KeyRingProblem(f"{self.path} is not a vault key file: it is not text.") from None
        except OSError as error:
            raise KeyRingProblem(
                f"The vault key file {self.path} cannot be read: {error.strerror}."
            ) from None

    def _write(self, text: str, *, replace: bool) -> None:
        """All or nothing: a full disk leaves what was there."""
        temporary = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                temporary.replace(self.path)
            else:
                # A link fails where a rename would overwrite.
                os.link(temporary, self.path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()


def parse(text: str, source: str) -> list[RingKey]:
    """Keys in order, from lines (file) or comma-separated (variable)."""
    keys: list[RingKey] = []
    # A comment ends with its line and may hold commas; only then do commas part keys.
    bare = "\n".join(line.partition("#")[0] for line in text.split("\n"))
    for number, word in enumerate(map(str.strip, re.split(r"[\n,]", bare)), start=1):
        if not word:
            continue
        material = _decode(word)
        if material is None:
            # The word itself is never shown: it may be a good key with one wrong letter.
            raise KeyRingProblem(
                f"{source}, line {number}: expected one base64 key of {KEY_BYTES} bytes "
                f"(44 characters), found {len(word)} characters."
            )
        keys.append(RingKey(key_id(material), material))
    return keys


def key_id(material: bytes) -> str:
    return hashlib.sha256(b"pcp.vault-key-id" + material).hexdigest()[:16]


def _decode(word: str) -> bytes | None:
    try:
        material = base64.b64decode(word.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        return None
    return material if len(material) == KEY_BYTES else None


def _new_line(now: datetime) -> tuple[str, str]:
    material = os.urandom(KEY_BYTES)
    name = key_id(material)
    return f"{base64.b64encode(material).decode()}  # {name}, {now:%Y-%m-%d}\n", name


def _associated(ring_key_id: str, context: KeyContext) -> bytes:
    return b"pcp.data-key\n" + ring_key_id.encode() + b"\n" + context.as_bytes()


def _cannot_write(path: Path, error: OSError) -> KeyRingProblem:
    return KeyRingProblem(f"The vault key file {path} cannot be written: {error.strerror}.")
