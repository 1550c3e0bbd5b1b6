"""`manage.py login`: code and link in a terminal, and the operator's switch."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from providers.credentials.models import Credential
from providers.management.commands import login as command
from providers.oauth.models import DeviceLogin, LoginSettings
from tenants import scope
from tests.providers.oauth.conftest import Desk, desk, moving, simulator, simulator_door

__all__ = ["desk", "moving", "simulator", "simulator_door"]
pytestmark = pytest.mark.django_db


@pytest.fixture
def person(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Somebody at the vendor's page who acts at the third look; time passes meanwhile."""
    plan: dict[str, Any] = {"act": desk.approve, "looks": 0}

    def pass_time(_seconds: float) -> None:
        plan["looks"] += 1
        desk.clock.pass_(2)
        if plan["looks"] == 3:
            plan["act"](DeviceLogin.objects.latest("created_at"))

    monkeypatch.setattr(command, "time", SimpleNamespace(sleep=pass_time))
    return plan


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("login", *arguments, stdout=out)
    return out.getvalue()


def test_a_code_in_the_terminal_becomes_a_credential(desk: Desk, person: dict[str, Any]) -> None:
    desk.provider("github-copilot")
    said = run("github-copilot", "--tenant", "acme", "--as", desk.user.email, "--yes")
    assert "Seats are personal" in said
    assert "/github/login/device" in said
    assert "Connected as @ada" in said
    assert Credential.objects.get().owner_id == desk.user.pk
    assert desk.simulator.rules() == []


def test_refused_at_the_vendor(desk: Desk, person: dict[str, Any]) -> None:
    desk.provider("")
    person["act"] = desk.deny
    with pytest.raises(CommandError, match="refused at the provider"):
        run("generic", "--tenant", "acme", "--as", desk.user.email)
    assert not Credential.objects.exists()


def test_the_wrong_account(
    desk: Desk, person: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.provider("")
    monkeypatch.setattr("builtins.input", lambda _: "n")
    with pytest.raises(CommandError, match="Nothing was connected"):
        run("generic", "--tenant", "acme", "--as", desk.user.email)
    assert DeviceLogin.objects.get().status == "cancelled"
    assert not Credential.objects.exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["generic", "--tenant", "nowhere"], "no tenant"),
        (["generic", "--tenant", "acme", "--as", "nobody@acme.test"], "--as"),
        (["nothing", "--tenant", "acme"], "nothing here"),
        (["generic"], "nothing here"),
        (["generic", "--tenant", "acme", "--way", "smoke-signals"], "no login"),
    ],
    ids=["tenant", "person", "provider", "platform", "way"],
)
def test_what_is_not_there_is_said(desk: Desk, arguments: list[str], sentence: str) -> None:
    desk.provider("")
    with pytest.raises(CommandError, match=sentence):
        run(*arguments)


def test_the_switch(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "overrides.json"
    file.write_text('{"device": {"client_id": "Iv1.mine"}}')
    assert "are on" in run("github-copilot", "--on", "--overrides", str(file))
    row = LoginSettings.objects.get()
    assert (row.is_on, row.overrides["device"]["client_id"]) == (True, "Iv1.mine")
    assert "are off" in run("github-copilot", "--off")
    row.refresh_from_db()
    assert not row.is_on
    assert row.overrides["device"]["client_id"] == "Iv1.mine"


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ('{"device": {"client_idd": "x"}}', "client_idd"),
        ('{"other": {"flow": "device_code"}}', "allowed_hosts"),
        ('{"device": 5}', "object"),
        ("[]", "object"),
        ("{", "cannot be read"),
    ],
    ids=["unknown field", "no hosts", "no object", "a list", "no JSON"],
)
def test_overrides_that_do_not_fit(
    desk: Desk, tmp_path: Path, overrides: str, sentence: str
) -> None:
    file = tmp_path / "overrides.json"
    file.write_text(overrides)
    with pytest.raises(CommandError, match=sentence):
        run("github-copilot", "--on", "--overrides", str(file))
    assert not LoginSettings.objects.exists()


def test_sharing_takes_a_reason(desk: Desk) -> None:
    with pytest.raises(CommandError, match="permits"):
        run("github-copilot", "--on", "--sharing", "tenant")
    run("github-copilot", "--on", "--sharing", "tenant", "--permission", "Contract 12.")
    with scope.platform("tests"):
        assert LoginSettings.objects.get().permission == "Contract 12."
