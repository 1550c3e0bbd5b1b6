from __future__ import annotations

from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from controlplane.settings.database import from_url

STATE = Path("/state")


def test_without_a_url_it_is_sqlite_in_the_state_folder_with_wal() -> None:
    database = from_url("", STATE)
    assert database["ENGINE"].endswith("sqlite3")
    assert database["NAME"] == STATE / "control-plane.sqlite3"
    assert "journal_mode=WAL" in database["OPTIONS"]["init_command"]
    assert database["OPTIONS"]["transaction_mode"] == "IMMEDIATE"


@pytest.mark.parametrize(
    ("url", "name"),
    [("sqlite:///here.db", "here.db"), ("sqlite:////there/a%20b.db", "/there/a b.db")],
)
def test_sqlite_urls(url: str, name: str) -> None:
    assert from_url(url, STATE)["NAME"] == Path(name)


def test_postgres_urls() -> None:
    database = from_url("postgres://us%40er:p%3Ass@db:5433/con%2Ftrol?sslmode=require", STATE)
    assert (database["USER"], database["PASSWORD"]) == ("us@er", "p:ss")
    assert (database["HOST"], database["PORT"], database["NAME"]) == ("db", "5433", "con/trol")
    assert database["OPTIONS"]["sslmode"] == "require"
    assert database["OPTIONS"]["connect_timeout"] == 5


def test_a_socket_folder() -> None:
    database = from_url("postgresql://gateway@/control?host=/run/postgresql", STATE)
    assert (database["HOST"], database["PORT"]) == ("/run/postgresql", "")
    assert "host" not in database["OPTIONS"]


@pytest.mark.parametrize("url", ["mysql://h/d", "h/d", "oracle:x"])
def test_other_schemes_are_refused(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="Set DATABASE_URL to postgres://"):
        from_url(url, STATE)
