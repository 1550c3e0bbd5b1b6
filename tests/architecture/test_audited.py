"""Bar A2, read from the code: who writes rows records it, or has a written reason not to."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Folders whose rows people change. `module:function`, and why it leaves no audit event.
FOLDERS = ("tenants", "providers", "controlplane/api", "controlplane/console")
UNAUDITED = {
    "tenants.audit.services:_append": "it is the audit log",
    "tenants.scope:TenantOwnedQuerySet.update": "passes on to Django",
    "tenants.scope:TenantOwnedQuerySet.delete": "passes on to Django",
    "tenants.vault.data_keys:replace": "keys that follow by themselves; a rotation records itself",
    "tenants.vault.data_keys:_insert": "a key made with a tenant's first secret, which is recorded",
    "tenants.vault.data_keys:count_seal.add": "a counter",
    "tenants.members.models:UserManager.create_user": "a constructor; services record its use",
    "tenants.keys.last_used:LastUsed.flush": "a date that follows from requests",
    "tenants.revisions.services:bump": "a counter",
    "tenants.idempotency.services:once": "remembers an answer; what it remembers is recorded",
    "tenants.idempotency.services:_claim": "remembers that a request was seen",
    "tenants.idempotency.services:sweep": "forgets what is over",
    "tenants.idempotency.claims:claim": "remembers that a request was seen",
    "tenants.idempotency.claims:renew": "a request that is still being answered",
    "tenants.idempotency.claims:finish": "remembers an answer; the request is in the ledger",
    "tenants.idempotency.claims:release": "forgets a request that came to nothing",
    "tenants.idempotency.claims:_of_another": "remembers that a request was seen",
    "tenants.responses.services:keep": "an answer that its caller asked to be kept",
    "tenants.responses.services:forget": "an answer that its caller asked to be forgotten",
    "tenants.responses.services:sweep": "forgets what is over",
    "providers.files.services:_insert": "remembers whose a file is that a request made",
    "providers.files.services:seen": "what the vendor said of it last",
    "providers.files.services:forget": "a file that its caller asked to be deleted",
    "providers.files.settling:_later": "when to look again",
    "providers.files.settling:_settled": "a date; the ledger has the rest",
    **dict.fromkeys(
        (
            "tenants.quotas.database_store:DatabaseStore._write",
            "tenants.usage.counting:Counting._lock",
            "tenants.usage.counting:Counting._save",
            "tenants.usage.counting:Counting.move_to_cache",
            "tenants.usage.counting:Counting.move_to_database",
            "tenants.usage.rollups:_add",
            "tenants.usage.rollups:prune_hours",
            "tenants.usage.rollups:roll_up_step",
            "tenants.usage.tasks:sweep_counters",
        ),
        "counters and sums that follow from the ledger",
    ),
    "tenants.alerts.services:alert": "a letter to be sent, and a row of its own",
    "tenants.alerts.services:deliver": "letters to be sent, each a row of its own",
    "tenants.alerts.delivering:prune": "letters that grew old",
    "tenants.usage.leases:farewell": "a process that ends",
    "tenants.usage.leases:renew": "a process that says it lives",
    "tenants.usage.leases:settle_abandoned": "processes that died; what they held is in the ledger",
    "tenants.usage.writing:_lock_heads": "the ledger is a chain of its own",
    "tenants.usage.writing:append": "the ledger is a chain of its own",
    "tenants.usage.writing:insert_holds": "a request on its way; its end is in the ledger",
    "tenants.usage.writing:remove_holds": "a request that ended; its end is in the ledger",
    "providers.health.services:check_provider": "a measurement, and a row of its own",
    "providers.health.services:prune_checks": "measurements that grew old",
    "providers.metrics.traffic:Traffic.flush": "counters",
    "providers.metrics.traffic:prune_traffic": "counters that grew old",
    "providers.routing.sharing:tell": "what gateways saw; who ends a rest is recorded",
    "providers.routing.sharing:forget_old": "what gateways saw, and is over",
    "providers.routing.traces:Traces.flush": "a record itself",
    "providers.routing.traces:prune_traces": "records that grew old",
    "providers.oauth.quota:fetch": "remembers when it was asked",
    "providers.oauth.quota:_keep": "a measurement, and a row of its own",
    "providers.oauth.quota:_tell_routes": "what the vendor said, as routing goes by it",
    "providers.oauth.quota:prune": "measurements that grew old",
    "providers.oauth.services:hand_in": "takes the turn; how the login goes on is recorded",
    "providers.oauth.tasks:prune": "logins that ended long ago; their ends are recorded",
    "providers.credentials.timeline:note": "a line of the credential's own history",
    "providers.credentials.timeline:prune": "lines that grew old",
    "controlplane.console.sign_in.codes:spend": "remembers that a code was used",
    "controlplane.console.sign_in.factors:seal_factor": "recorded when the factor is saved",
    "controlplane.console.sign_in.lockout:Try.forgive": "a counter",
    "controlplane.console.sign_in.lockout:_take": "a counter",
}
_RECORDERS = frozenset({"record"})
_ALWAYS = frozenset({"bulk_create", "bulk_update", "get_or_create", "update_or_create"})


class _Function:
    def __init__(self, name: str, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.name = name
        self.calls: set[str] = set()
        self.writes = False
        for inner in _own_nodes(node):
            if isinstance(inner, ast.Name):
                # Also as a value: passed to on_commit, to a thread, to map.
                self.calls.add(inner.id)
            elif isinstance(inner, ast.Attribute):
                self.calls.add(inner.attr)
            if isinstance(inner, ast.Call):
                self.writes = self.writes or _is_write(inner)


def _own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Its nodes, without those of functions inside it, which speak for themselves."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        yield child
        yield from _own_nodes(child)


def _is_write(call: ast.Call) -> bool:
    if not isinstance(call.func, ast.Attribute):
        return False
    match call.func.attr:
        case "executemany" | "change_many" | "change_of":
            return True
        case "save":
            # Not `file.save(path)` (a row's has keywords only), nor a form that only looks.
            return not call.args and not any(word.arg == "commit" for word in call.keywords)
        case name if name in _ALWAYS:
            return True
        case "create" | "update":
            # Not `digest.update(data)` or `mapping.update(other)`: a queryset's has keywords only.
            return bool(call.keywords) and not call.args
        case "delete":
            return not call.args and not call.keywords
    return False


def functions(file: Path) -> Iterator[_Function]:
    def walk(node: ast.AST, prefix: str) -> Iterator[_Function]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                yield from walk(child, f"{prefix}{child.name}.")
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield _Function(prefix + child.name, child)
                yield from walk(child, f"{prefix}{child.name}.")
            else:
                yield from walk(child, prefix)

    yield from walk(ast.parse(file.read_text()), "")


@functools.cache
def unrecorded(file: Path) -> list[str]:
    """Functions of this module that write, and neither they, nor what they call, nor (for
    private ones) all who call them here, record."""
    found, recording = _look_at(file, _RECORDERS | _imported_recorders(file))
    return [name for name, function in found.items() if function.writes and name not in recording]


def _imported_recorders(file: Path) -> frozenset[str]:
    """Functions imported by name from a module of ours in which they record."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            source = ROOT / (node.module.replace(".", "/") + ".py")
            if source.exists() and source != file:
                recording = _look_at(source, _RECORDERS)[1]
                names |= {alias.name for alias in node.names} & recording
    return frozenset(names)


@functools.cache
def _look_at(file: Path, recorders: frozenset[str]) -> tuple[dict[str, _Function], frozenset[str]]:
    """The module's functions, and which of them record."""
    found = {function.name: function for function in functions(file)}
    by_last_name: dict[str, list[_Function]] = {}
    for function in found.values():
        by_last_name.setdefault(function.name.rpartition(".")[2], []).append(function)

    recording = {name for name, function in found.items() if function.calls & recorders}
    while True:
        grown = set(recording)
        for name, function in found.items():
            called = {f.name for word in function.calls for f in by_last_name.get(word, ())}
            callers = [
                other.name
                for other in found.values()
                if name.rpartition(".")[2] in other.calls and other.name != name
            ]
            is_private = name.rpartition(".")[2].startswith("_")
            if called & recording or (is_private and callers and set(callers) <= recording):
                grown.add(name)
        if grown == recording:
            break
        recording = grown
    return found, frozenset(recording)


def modules() -> Iterator[tuple[str, Path]]:
    for folder in FOLDERS:
        for file in sorted((ROOT / folder).rglob("*.py")):
            if not {"migrations", "commands"} & set(file.parts):
                yield ".".join(file.relative_to(ROOT).with_suffix("").parts), file


def test_who_writes_rows_records_it() -> None:
    wrong = [
        f"{module}:{name}"
        for module, file in modules()
        for name in unrecorded(file)
        if f"{module}:{name}" not in UNAUDITED
    ]
    assert not wrong, (
        "These write rows and record nothing. Call tenants.audit.services.record in the same "
        "transaction, or say in UNAUDITED why not:\n" + "\n".join(wrong)
    )


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("def f(row):\n    row.save()\n", ["f"]),
        ("def f(row):\n    row.save(update_fields=['a'])\n    record()\n", []),
        ("def f(row):\n    _g(row)\n    record()\ndef _g(row):\n    row.delete()\n", []),
        ("def f(row):\n    _g(row)\ndef _g(row):\n    row.delete()\n", ["_g"]),
        ("def f(rows):\n    rows.update(a=1)\n    _g()\ndef _g():\n    record()\n", []),
        ("def f(digest, cache):\n    digest.update(b'')\n    cache.delete('key')\n", []),
        ("def f(rows):\n    _g(rows)\n    record()\ndef h(rows):\n    _g(rows)\n"
         "def _g(rows):\n    rows.create(a=1)\n", ["_g"]),
        ("class C:\n    def f(self):\n        C.objects.bulk_create([])\n", ["C.f"]),
    ],
)  # fmt: skip
def test_the_rule_sees_what_it_forbids(tmp_path: Path, code: str, wrong: list[str]) -> None:
    file = tmp_path / "module.py"
    file.write_text(code)
    assert unrecorded(file) == wrong


def test_every_exception_is_still_needed() -> None:
    needed = {f"{module}:{name}" for module, file in modules() for name in unrecorded(file)}
    assert set(UNAUDITED) - needed == set()
