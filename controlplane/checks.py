"""Refuses to start on what would fail later and worse. Concepts register their own checks."""

from __future__ import annotations
