from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests import migrated
from tests.patience import LONG_SECONDS

ROOT = Path(__file__).resolve().parents[3]


def is_alive(pid: int) -> bool:
    """Whether the process runs. One that is dead but not yet reaped does not."""
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()
    return bool(state) and not state.startswith("Z")


def children_of(pid: int) -> dict[int, str]:
    """Process id to name, of its direct children."""
    table = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,comm="], capture_output=True, text=True, check=True
    ).stdout
    rows = (line.split(None, 2) for line in table.splitlines())
    return {int(row[0]): row[2] for row in rows if int(row[1]) == pid}


def members_of_groups(groups: set[int]) -> set[int]:
    """Living processes that belong to one of the process groups."""
    table = subprocess.run(
        ["ps", "-A", "-o", "pid=,pgid=,stat="], capture_output=True, text=True, check=True
    ).stdout
    rows = (line.split() for line in table.splitlines())
    return {int(row[0]) for row in rows if int(row[1]) in groups and not row[2].startswith("Z")}


class Running:
    """A started command whose lines can be waited for."""

    def __init__(self, command: list[str], environment: Mapping[str, str]) -> None:
        self.lines: list[str] = []
        self._more = threading.Condition()
        self._is_over = False
        # How far each pattern has read: two of them do not take lines away from each other.
        self._read_by: dict[str, int] = {}
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Not in the group of the tests: a signal to a group must not reach them.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            for line in self.process.stdout:
                with self._more:
                    self.lines.append(line.rstrip("\n"))
                    self._more.notify_all()
        with self._more:
            self._is_over = True
            self._more.notify_all()

    def line(self, pattern: str, *, seconds: float = LONG_SECONDS) -> re.Match[str]:
        """The next line that matches, after the one that this pattern matched before."""
        deadline = time.monotonic() + seconds
        position = self._read_by.get(pattern, 0)
        with self._more:
            while True:
                while position < len(self.lines):
                    position += 1
                    if found := re.search(pattern, self.lines[position - 1]):
                        self._read_by[pattern] = position
                        return found
                remaining = deadline - time.monotonic()
                assert remaining > 0, f"no line like {pattern!r} in:\n{self.output}"
                assert not self._is_over, f"ended without {pattern!r}:\n{self.output}"
                self._more.wait(remaining)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def exit_code(self, *, seconds: float = LONG_SECONDS) -> int:
        code = self.process.wait(timeout=seconds)
        self._reader.join(timeout=seconds)
        return code

    def end(self) -> None:
        if self.process.poll() is None:
            groups = set(children_of(self.pid))
            self.process.kill()
            self.process.wait(timeout=LONG_SECONDS)
            for group in groups:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(group, signal.SIGKILL)
        self._reader.join(timeout=LONG_SECONDS)


Start = Callable[..., Running]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts Python with these arguments; whatever still runs at the end of the test is ended."""
    started: list[Running] = []

    def run(*arguments: str, environment: Mapping[str, str] | None = None) -> Running:
        started.append(Running([sys.executable, *arguments], environment or {}))
        return started[-1]

    yield run
    for running in started:
        running.end()


# --- The whole system, with the probe in it ------------------------------------------------------

PROBE_SETTINGS = "tests.controlplane.supervisor.probe.settings"


class Home:
    """A migrated database, a folder for state, and how to run the system on them."""

    def __init__(self, folder: Path, *, database_url: str = "", redis_url: str = "") -> None:
        self.folder = folder
        self.environment = {
            "DJANGO_SETTINGS_MODULE": PROBE_SETTINGS,
            "STATE_DIR": str(folder),
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "PROBE_RELEASE": str(folder / "release"),
        }
        (folder / "secrets").mkdir(mode=0o700, exist_ok=True)

    def manage(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def prepare(self) -> None:
        """The database is migrated, but for the probe's own tables."""
        self.manage("migrate", "--verbosity", "0")
        self.manage("vault", "init")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, django_db_setup: None) -> Path:
    """A folder with an SQLite database and a vault key, to be copied."""
    home = Home(tmp_path_factory.mktemp("prepared"))
    migrated.make_sqlite(home.folder / "control-plane.sqlite3")
    home.prepare()
    return home.folder


@pytest.fixture
def home(prepared: Path, tmp_path: Path) -> Home:
    """The system on SQLite."""
    shutil.copytree(prepared, tmp_path / "home")
    return Home(tmp_path / "home")


@contextlib.contextmanager
def database_of_its_own(*, template: str = "template1") -> Iterator[str]:
    """On the server of DATABASE_URL; yields the new database's URL."""
    import psycopg

    url = os.environ["DATABASE_URL"]
    name = f"probe_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    parts = urlsplit(url)
    try:
        # Not _replace().geturl(), which drops the empty host of postgres://user@/name?host=…
        yield url.replace(f"{parts.netloc}{parts.path}", f"{parts.netloc}/{name}", 1)
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def stored_home(
    request: pytest.FixtureRequest, tmp_path: Path, django_db_setup: None
) -> Iterator[Home]:
    """The system on the database that the suite runs on."""
    if not os.environ.get("DATABASE_URL"):
        yield request.getfixturevalue("home")
        return
    with database_of_its_own(template=migrated.kept_database()) as url:
        home = Home(tmp_path, database_url=url)
        home.prepare()
        yield home


Serve = Callable[..., tuple[Running, str]]


@pytest.fixture
def serve(start: Start) -> Serve:
    """`manage.py serve` on a free port; returns when it is ready, with its base URL."""

    def run(home: Home, *arguments: str) -> tuple[Running, str]:
        running = start(
            "manage.py", "serve", "--port", "0", *arguments, environment=home.environment
        )
        return running, running.line(r"Ready on (http://\S+)")[1]

    return run
