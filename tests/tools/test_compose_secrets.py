from __future__ import annotations

import base64
import importlib.util
import stat
from pathlib import Path
from urllib.parse import urlsplit

import yaml

ROOT = Path(__file__).resolve().parents[2]


def test_it_makes_what_compose_mounts_and_replaces_nothing(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("secrets_", ROOT / "tools/compose_secrets.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path / "compose-secrets"

    made = module.make(folder)
    wanted = yaml.safe_load((ROOT / "compose.yaml").read_text())["secrets"]
    assert sorted(made) == sorted(wanted) == sorted(path.name for path in folder.iterdir())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    values = {path.name: path.read_text().strip() for path in folder.iterdir()}
    assert len(set(values.values())) == len(values)
    assert urlsplit(values["database_url"]).password == values["gateway_password"]
    assert len(base64.b64decode(values["vault_keys"])) == 32

    assert module.make(folder) == []
    assert {path.name: path.read_text().strip() for path in folder.iterdir()} == values
