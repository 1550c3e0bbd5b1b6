from __future__ import annotations

import os
import uuid
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tenants.vault import envelope
from tenants.vault.envelope import Place
from tenants.vault.errors import CannotUnseal

KEY_ID = uuid.UUID(int=7)
PLACE = Place(uuid.UUID(int=1), "providers.credential", uuid.UUID(int=2), "sealed")
CIPHER = AESGCM(os.urandom(32))


def test_what_was_sealed_opens() -> None:
    sealed = envelope.seal(CIPHER, KEY_ID, PLACE, b"s3cret")
    assert envelope.key_id_of(sealed) == KEY_ID
    assert envelope.unseal(CIPHER, KEY_ID, PLACE, sealed) == b"s3cret"


@pytest.mark.parametrize(
    "elsewhere",
    [
        replace(PLACE, tenant_id=uuid.UUID(int=3)),
        replace(PLACE, tenant_id=None),
        replace(PLACE, model="providers.credentials"),
        replace(PLACE, row_id=uuid.UUID(int=4)),
        replace(PLACE, field="other"),
        # The same letters, cut elsewhere.
        replace(PLACE, model="providers.credentialsealed", field=""),
        replace(PLACE, model="providers.credentia", field="lsealed"),
    ],
)
def test_it_opens_nowhere_else(elsewhere: Place) -> None:
    sealed = envelope.seal(CIPHER, KEY_ID, PLACE, b"s3cret")
    with pytest.raises(CannotUnseal, match=r"^This secret cannot be opened\.$"):
        envelope.unseal(CIPHER, KEY_ID, elsewhere, sealed)


def test_every_flipped_bit_and_every_cut_is_rejected_with_one_text() -> None:
    """Bar C1, on bytes."""
    sealed = envelope.seal(CIPHER, KEY_ID, PLACE, b"s3cret")
    broken = [sealed[:length] for length in range(len(sealed))]
    for bit in range(len(sealed) * 8):
        flipped = bytearray(sealed)
        flipped[bit // 8] ^= 1 << bit % 8
        broken.append(bytes(flipped))
    broken.append(sealed + b"\0")
    texts = set()
    for each in broken:
        with pytest.raises(CannotUnseal) as error:
            # As the service does: the id in the value chooses the key. Whatever it names, at
            # best it finds this one.
            envelope.unseal(CIPHER, envelope.key_id_of(each), PLACE, each)
        texts.add(str(error.value))
    assert len(broken) > 400
    assert texts == {"This secret cannot be opened."}


def test_another_key_does_not_open_it() -> None:
    sealed = envelope.seal(CIPHER, KEY_ID, PLACE, b"s3cret")
    with pytest.raises(CannotUnseal):
        envelope.unseal(AESGCM(os.urandom(32)), KEY_ID, PLACE, sealed)


@pytest.mark.parametrize("count", [100_000, pytest.param(1_000_000, marks=pytest.mark.soak)])
def test_encryptions_repeat_no_nonce(count: int) -> None:
    """Bar C5."""
    seal, nonce_of = envelope.seal, envelope.nonce_of
    nonces = {nonce_of(seal(CIPHER, KEY_ID, PLACE, b"")) for _ in range(count)}
    assert len(nonces) == count
    # All twelve bytes vary: none is a counter's or a clock's.
    some = [nonce for nonce, _ in zip(nonces, range(10_000), strict=False)]
    assert all(len({nonce[place] for nonce in some}) == 256 for place in range(12))


def test_processes_made_by_fork_do_not_share_nonces() -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"".join(_nonce() for _ in range(1_000)))
        os._exit(0)
    mine = {_nonce() for _ in range(1_000)}
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        theirs = file.read()
    os.waitpid(child, 0)
    assert len(theirs) == 12_000
    assert mine.isdisjoint(theirs[start : start + 12] for start in range(0, 12_000, 12))


def _nonce() -> bytes:
    return envelope.nonce_of(envelope.seal(CIPHER, KEY_ID, PLACE, b""))
