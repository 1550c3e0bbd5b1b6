"""Makes the random secrets that compose.yaml mounts. Never replaces one.

python3 tools/compose_secrets.py [FOLDER]
"""

from __future__ import annotations

import base64
import os
import secrets
import sys
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).resolve().parent.parent


def make(folder: Path) -> list[str]:
    """Returns the names of the files that were made. The folder's own mode keeps others out;
    the files are readable inside, where the container's user is not their owner."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    gateway_password = folder / "gateway_password"
    made = [_write(gateway_password, secrets.token_urlsafe(32))]
    password = quote(gateway_password.read_text().strip(), safe="")
    values = {
        "postgres_password": secrets.token_urlsafe(32),
        "database_url": f"postgres://gateway:{password}@postgres:5432/control_plane",
        "secret_key": secrets.token_urlsafe(48),
        "key_peppers": secrets.token_urlsafe(48),
        "vault_keys": base64.b64encode(secrets.token_bytes(32)).decode(),
    }
    made += [_write(folder / name, value) for name, value in values.items()]
    return [name for name in made if name]


def _write(path: Path, value: str) -> str:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return ""
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(value + "\n")
    return path.name


if __name__ == "__main__":
    target = Path(sys.argv[1]) if sys.argv[1:] else ROOT / "compose-secrets"
    names = make(target)
    print(f"Made in {target}: {', '.join(names)}." if names else f"All are in {target} already.")
    print("Keep a copy of vault_keys and key_peppers apart from the database's backups.")
