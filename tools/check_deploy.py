"""Django's deployment checks with production settings and throw-away secrets: 0 issues.

python tools/check_deploy.py
"""

from __future__ import annotations

import base64
import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        environ = {
            **{name: value for name, value in os.environ.items() if name in {"PATH", "HOME"}},
            "DJANGO_SETTINGS_MODULE": "controlplane.settings.production",
            "STATE_DIR": folder,
            "ALLOWED_HOSTS": "llm.example.com",
            "PUBLIC_URL": "https://llm.example.com",
            "SECRET_KEY": secrets.token_urlsafe(48),
            "KEY_PEPPERS": secrets.token_urlsafe(48),
            "VAULT_KEYS": base64.b64encode(secrets.token_bytes(32)).decode(),
        }
        return subprocess.call(
            [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "INFO"],
            cwd=ROOT,
            env=environ,
        )


if __name__ == "__main__":
    sys.exit(main())
