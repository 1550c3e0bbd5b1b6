"""The arrow of imports, and which code may do no input or output. See docs/decisions/0003."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Who may import whom. `controlplane.kit` is open to all and imports nothing of ours.
BELOW = {
    "controlplane": {"controlplane", "providers", "tenants", "controlplane.kit"},
    "providers": {"providers", "tenants", "controlplane.kit"},
    "tenants": {"tenants", "controlplane.kit"},
    "controlplane.kit": {"controlplane.kit"},
}

# Within providers: protocols and signing know nobody; catalog and upstream know those; then
# credentials and routing; then oauth. Folders that are not named are bound by the arrow alone.
PROVIDERS_BELOW = {
    "protocols": set(),
    "signing": set(),
    # The guard's table says which addresses may be registered, not only which are dialled.
    "catalog": {"protocols", "signing", "upstream"},
    "upstream": {"protocols", "signing"},
    # One floor: a route names its credential, a credential is kept for its endpoint.
    "credentials": {"protocols", "signing", "catalog", "routing", "upstream"},
    "routing": {"protocols", "signing", "catalog", "credentials", "upstream"},
}

# Pure: values in, values out. A module that is not there yet is no error; see the last test.
PURE = (
    "providers/protocols",
    "providers/signing",
    "providers/catalog/schema.py",
    "providers/catalog/reading.py",
    "providers/catalog/urls.py",
    "providers/catalog/effective.py",
    "providers/catalog/pricing.py",
    "providers/catalog/features.py",
    "providers/catalog/listings.py",
    "providers/catalog/diff.py",
    "providers/credentials/pick.py",
    "providers/credentials/resolution.py",
    "providers/credentials/strip.py",
    "providers/oauth/flows",
    "providers/oauth/quota_chart.py",
    "providers/routing/cooldown.py",
    "providers/routing/needs.py",
    "providers/routing/outcomes.py",
    "providers/routing/plan.py",
    "providers/routing/quota.py",
    "providers/routing/resolve.py",
    "providers/routing/strategies.py",
    "providers/routing/trying.py",
    "providers/metrics/figures.py",
    "providers/upstream/retry.py",
    "tenants/quotas/policy.py",
    "tenants/keys/lookup.py",
)
IMPURE_PACKAGES = {
    *("django", "rest_framework", "celery", "redis", "httpx", "aiohttp", "psycopg", "structlog"),
    *("requests", "urllib3", "socket", "ssl", "asyncio", "subprocess", "threading", "logging"),
    *("time", "random", "secrets", "tempfile", "shutil", "sqlite3", "urllib.request", "os"),
    *("controlplane.kit.clock", "controlplane.kit.ids", "controlplane.kit.models"),
    "controlplane.kit.jobs",
}
# What httpx and the theme are imported by: one door each.
ONLY_IN = {
    "httpx": ("providers/upstream",),
    "aiohttp": ("providers/upstream",),
    "unfold": ("controlplane/console",),
    "requests": (),
}


def modules(*folders: str) -> Iterator[Path]:
    for folder in folders:
        path = ROOT / folder
        found = sorted(path.rglob("*.py")) if path.is_dir() else [path] if path.exists() else []
        yield from (file for file in found if "migrations" not in file.parts)


@functools.cache
def imports(file: Path) -> tuple[str, ...]:
    """Every imported module, also inside functions; `from a import b` counts as a.b."""
    return tuple(_imports(file))


def _imports(file: Path) -> Iterator[str]:
    package = ".".join(file.relative_to(ROOT).with_suffix("").parts[:-1])
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parts, *filter(None, [node.module])])
            yield from (f"{base}.{name.name}" for name in node.names)


def is_under(name: str, *prefixes: str) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def layer(name: str) -> str:
    return "controlplane.kit" if is_under(name, "controlplane.kit") else name.split(".")[0]


def dotted(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts)


def is_console_page(file: Path, name: str) -> bool:
    """A concept's admin.py is the console's part that lives beside it, and `admin_pages` the part
    that shows several concepts together: they alone look up."""
    is_page = file.name == "admin.py" or "admin_pages" in file.parts
    return is_page and is_under(name, "controlplane.console")


def test_imports_point_down() -> None:
    wrong = [
        f"{dotted(file)} imports {name}"
        for file in modules("controlplane", "providers", "tenants")
        for name in imports(file)
        if layer(name) in BELOW and layer(name) not in BELOW[layer(dotted(file))]
        if not is_console_page(file, name)
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_but_the_index_imports_a_page_of_the_console() -> None:
    wrong = [
        f"{dotted(file)} imports {name}"
        for file in modules("controlplane", "providers", "tenants")
        for name in imports(file)
        if layer(name) in BELOW and {"admin", "admin_pages"} & set(name.split(".")[1:])
        if file.name != "admin.py" and "admin_pages" not in file.parts
    ]
    assert not wrong, "\n".join(wrong)


def test_folders_of_providers_import_downwards() -> None:
    wrong = [
        f"{dotted(file)} imports {name}"
        for folder, below in PROVIDERS_BELOW.items()
        for file in modules(f"providers/{folder}")
        for name in imports(file)
        if is_under(name, "providers")
        and (other := name.split(".")[1]) not in {folder, "errors", *below}
        and (ROOT / "providers" / other).is_dir()
    ]
    assert not wrong, "\n".join(wrong)


def test_pure_code_does_no_input_or_output() -> None:
    wrong = [
        f"{dotted(file)} imports {name}"
        for file in modules(*PURE)
        for name in imports(file)
        if is_under(name, *IMPURE_PACKAGES)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("package", "doors"), ONLY_IN.items())
def test_packages_with_one_door(package: str, doors: tuple[str, ...]) -> None:
    wrong = [
        dotted(file)
        for file in modules("controlplane", "providers", "tenants")
        for name in imports(file)
        if is_under(name, package)
        and not file.relative_to(ROOT).as_posix().startswith(tuple(f"{door}/" for door in doors))
    ]
    assert not wrong, f"{package} is imported outside {doors}: {wrong}"


def test_the_rules_see_what_they_forbid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that reads no file passes for ever: hold it against code that breaks it."""
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    pure = tmp_path / "providers" / "protocols"
    pure.mkdir(parents=True)
    (pure / "bad.py").write_text("def f():\n    from controlplane import proxy\n    import time\n")
    (tmp_path / "tenants").mkdir()
    (tmp_path / "tenants" / "bad.py").write_text("from ..providers import routing\nimport httpx\n")
    with pytest.raises(AssertionError, match=r"bad imports controlplane.proxy\n.*providers.rout"):
        test_imports_point_down()
    with pytest.raises(AssertionError, match=r"bad imports time"):
        test_pure_code_does_no_input_or_output()
    with pytest.raises(AssertionError, match=r"tenants.bad"):
        test_packages_with_one_door("httpx", ("providers/upstream",))
