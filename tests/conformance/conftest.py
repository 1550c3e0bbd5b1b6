"""The SDKs log every call, which tells nothing here and costs more than the parsing."""

from __future__ import annotations

import logging

for _name in ("httpx", "httpx2", "openai", "anthropic", "google_genai", "google_genai.models"):
    logging.getLogger(_name).setLevel(logging.WARNING)
