"""Codecs, and the vendors' SDKs that judge them."""

from tests.one_trust_store import one_trust_store

__all__ = ["one_trust_store"]
