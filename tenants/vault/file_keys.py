"""A key for one file that is kept beside the database, wrapped by the key ring.

No data key, whose row is in the database: the file is written while that is away.
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from controlplane.kit.ids import uuid7
from tenants.vault import envelope
from tenants.vault.envelope import KEY_BYTES, Place
from tenants.vault.errors import CannotUnseal, KeyRingProblem
from tenants.vault.wrapping.choose import provider_of, wrapping_provider
from tenants.vault.wrapping.contract import KeyContext, Wrapped

_PLACE: Final = "vault.file"


@dataclass(frozen=True, slots=True, repr=False)
class FileKey:
    """Seals what is in one file, each piece for its place there."""

    id: uuid.UUID
    wrapped: Wrapped
    _cipher: AESGCM

    def seal(self, place: int, content: bytes) -> bytes:
        return envelope.seal(self._cipher, self.id, self._place(place), content)

    def unseal(self, place: int, sealed: bytes) -> bytes:
        """Raises CannotUnseal: altered, of another file or of another place."""
        if envelope.key_id_of(sealed) != self.id:
            raise CannotUnseal
        return envelope.unseal(self._cipher, self.id, self._place(place), sealed)

    def _place(self, number: int) -> Place:
        return Place(None, _PLACE, self.id, str(number))


def make_file_key() -> FileKey:
    """Raises KeyRingProblem, KeyServiceUnavailable."""
    key_id, material = uuid7(), os.urandom(KEY_BYTES)
    wrapped = wrapping_provider().wrap(material, KeyContext(key_id, None))
    return FileKey(key_id, wrapped, AESGCM(material))


def open_file_key(key_id: uuid.UUID, wrapped: Wrapped) -> FileKey:
    """Raises KeyRingProblem, KeyServiceUnavailable."""
    material = provider_of(wrapped.wrapped_by).unwrap(wrapped, KeyContext(key_id, None))
    if len(material) != KEY_BYTES:
        raise KeyRingProblem(f"File key {key_id} unwraps to {len(material)} bytes.")
    return FileKey(key_id, wrapped, AESGCM(material))
