"""The sealed form of one secret. Pure: bytes and keys in, bytes out.

    1 byte   version
    16 bytes id of the data key
    12 bytes nonce, random
    rest     AES-256-GCM ciphertext and its 16-byte tag

The associated data names version, data key, tenant, model, row and field, so that a
ciphertext opens nowhere but where it was put.
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tenants.vault.errors import CannotUnseal

VERSION: Final = 1
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
_KEY_ID_END: Final = 1 + 16
_HEADER_END: Final = _KEY_ID_END + NONCE_BYTES
_VERSION_BYTE: Final = bytes([VERSION])


@dataclass(frozen=True, slots=True)
class Place:
    """Where a secret lives. tenant_id None = it belongs to the platform."""

    tenant_id: uuid.UUID | None
    model: str
    row_id: uuid.UUID
    field: str


def seal(cipher: AESGCM, key_id: uuid.UUID, place: Place, plaintext: bytes) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    ciphertext = cipher.encrypt(nonce, plaintext, _associated_data(key_id, place))
    return _VERSION_BYTE + key_id.bytes + nonce + ciphertext


def unseal(cipher: AESGCM, key_id: uuid.UUID, place: Place, sealed: bytes) -> bytes:
    """Raises CannotUnseal. `cipher` must be the key that `key_id_of(sealed)` names."""
    try:
        return cipher.decrypt(
            sealed[_KEY_ID_END:_HEADER_END],
            sealed[_HEADER_END:],
            _associated_data(key_id, place),
        )
    except (InvalidTag, ValueError):
        raise CannotUnseal from None


def key_id_of(sealed: bytes) -> uuid.UUID:
    """The data key a sealed value names. Raises CannotUnseal when it is no sealed value."""
    if len(sealed) < _HEADER_END + TAG_BYTES or sealed[0] != VERSION:
        raise CannotUnseal
    return uuid.UUID(bytes=sealed[1:_KEY_ID_END])


def nonce_of(sealed: bytes) -> bytes:
    return sealed[_KEY_ID_END:_HEADER_END]


def _associated_data(key_id: uuid.UUID, place: Place) -> bytes:
    # Each part carries its length: no two places can spell the same bytes.
    tenant = b"" if place.tenant_id is None else place.tenant_id.bytes
    model = place.model.encode()
    field = place.field.encode()
    return b"".join(
        (
            b"pcp.sealed",
            _VERSION_BYTE,
            key_id.bytes,
            bytes([len(tenant)]),
            tenant,
            len(model).to_bytes(2, "big"),
            model,
            place.row_id.bytes,
            len(field).to_bytes(2, "big"),
            field,
        )
    )
