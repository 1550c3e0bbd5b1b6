"""Where things are on this machine."""

from __future__ import annotations

from pathlib import Path

from controlplane.settings import env

BASE_DIR = Path(__file__).resolve().parent.parent.parent

# Everything the running system writes on one machine: database file, secrets, sockets.
STATE_DIR = Path(env.text("STATE_DIR") or BASE_DIR / "var").resolve()
SECRETS_DIR = STATE_DIR / "secrets"

# The secrets that the first start makes when nobody set them: variable and file.
MADE_AT_FIRST_START = {
    "SECRET_KEY": SECRETS_DIR / "django_secret_key",
    "KEY_PEPPERS": SECRETS_DIR / "key_peppers",
}
