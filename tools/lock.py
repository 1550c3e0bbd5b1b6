"""Pins requirements*.in into requirements*.txt: hashes, every platform, a week old at least.

    python tools/lock.py [--upgrade] [--upgrade-package NAME …]

Without words nothing moves but what the .in files ask for. A week, because releases that steal
credentials are found within days; a security fix that cannot wait gets the date it needs by
EXCLUDE_NEWER=2026-01-31 in front.
"""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
YOUNGEST = timedelta(days=7)


def main(words: list[str]) -> int:
    newest = os.environ.get("EXCLUDE_NEWER") or (datetime.now(UTC) - YOUNGEST).date().isoformat()
    for name, constraints in (("requirements", []), ("requirements-dev", ["requirements.txt"])):
        command = [
            *(str(Path(sys.executable).parent / "uv"), "pip", "compile"),
            *("--universal", "--generate-hashes", "--no-header", "--quiet"),
            *("--python-version", "3.11", "--exclude-newer", newest),
            *(f"{name}.in", "--output-file", f"{name}.txt", *words),
        ]
        for file in constraints:
            command += ["--constraints", file]
        done = subprocess.run(command, cwd=ROOT)
        if done.returncode:
            return done.returncode
    print(
        f"Locked with what was released before {newest}. Look at the difference before you commit."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
