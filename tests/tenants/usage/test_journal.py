"""The database is away: usage goes to an encrypted journal, and to the ledger once (bar R7)."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connections

from tenants import scope
from tenants.alerts.models import Alert
from tenants.members.models import Tenant
from tenants.quotas.errors import LedgerUnavailable
from tenants.quotas.models import Limit, UsagePolicy
from tenants.usage import group as groups
from tenants.usage import writing
from tenants.usage.journal import file, journal, records, replay
from tenants.usage.metering import Metering
from tenants.usage.outcome import Facts, Held, Outcome, TargetFacts
from tenants.usage.verify import verify
from tenants.vault.file_keys import make_file_key
from tests.tenants.usage.conftest import events, holds, off_loop, until, used

pytestmark = [pytest.mark.storage, pytest.mark.django_db(transaction=True)]

MakeFacts = Callable[..., Facts]
CANARY = "canary-7f3a9c"


class Outage:
    """While it lasts, no group can be written and nobody finds the database."""

    def __init__(self) -> None:
        self.is_on = False
        # Groups that are committed all the same, without anybody hearing of it.
        self.commits_first = False


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch) -> Outage:
    state = Outage()
    really = groups.Group._execute

    def execute(self: groups.Group, operations: Any) -> None:
        if state.is_on:
            if state.commits_first:
                really(self, operations)
            raise OperationalError("gone")
        really(self, operations)

    at_once = groups.Group.write

    def write(self: groups.Group, *arguments: Any) -> None:
        if state.is_on:
            raise OperationalError("gone")
        at_once(self, *arguments)

    finds = writing.find_holds

    def find(hold_ids: Any) -> set[uuid.UUID]:
        if state.is_on:
            raise OperationalError("gone")
        return finds(hold_ids)

    alive = groups._is_alive
    answers = journal._answers
    monkeypatch.setattr(groups.Group, "_execute", execute)
    monkeypatch.setattr(groups.Group, "write", write)
    monkeypatch.setattr(writing, "find_holds", find)
    monkeypatch.setattr(groups, "_is_alive", lambda: not state.is_on and alive())
    monkeypatch.setattr(journal, "_answers", lambda: not state.is_on and answers())
    monkeypatch.setattr(journal, "_LOOK_SECONDS", 0.01)
    return state


@pytest.fixture
def folder(tmp_path: Path, settings: Any) -> Path:
    settings.USAGE_JOURNAL_FOLDER = str(tmp_path / "journal")
    return tmp_path / "journal"


def journals(folder: Path) -> list[Path]:
    return sorted(folder.glob("*"))


async def is_ready(metering: Metering) -> None:
    await until(lambda: metering.writer.journal._key is not None)


async def served(metering: Metering, facts: Facts, name: str, **outcome: Any) -> None:
    hold = await metering.begin(name, facts)
    await hold.attempt(TargetFacts(provider="acme", model="acme-1"))
    await hold.settle(Outcome(**{"input": 5, "output": 3, "cost_nanos": 70, **outcome}))


async def written(metering: Metering, folder: Path) -> None:
    """The database is back, and the journal's content in the ledger."""
    await until(lambda: not metering.writer.journal.is_away and not journals(folder))


def proven() -> None:
    report = verify()
    assert report.findings == []


async def test_what_no_limit_binds_goes_on_and_is_in_the_ledger_once(
    facts: MakeFacts, start: Any, outage: Outage, folder: Path
) -> None:
    metering = await start()
    await is_ready(metering)
    before = await metering.begin("before", facts())
    outage.is_on = True
    await asyncio.gather(*(served(metering, facts(), f"while-{number}") for number in range(5)))
    await before.settle(Outcome(input=1, output=1, cost_nanos=10))
    across = await metering.begin("across", facts())
    [path] = journals(folder)
    assert path.stat().st_mode & 0o777 == 0o600
    outage.is_on = False
    await written(metering, folder)
    assert await off_loop(holds) == 1, "what still runs is held in the database now"
    await across.settle(Outcome(input=2, output=2, cost_nanos=20))
    found = {event.request_id: event for event in await off_loop(events)}
    assert sorted(found) == ["across", "before", *(f"while-{number}" for number in range(5))]
    assert {event.entry for event in found.values()} == {"usage"}
    assert found["while-3"].cost_nanos == 70
    assert (found["while-3"].provider, found["while-3"].model_served) == ("acme", "acme-1")
    assert await off_loop(holds) == 0
    await off_loop(proven)


async def test_whom_a_limit_could_refuse_is_refused(
    limit: Callable[..., Any], facts: MakeFacts, start: Any, outage: Outage, folder: Path
) -> None:
    requests = await limit("requests", 10, "day")
    metering = await start()
    await is_ready(metering)
    running = [await metering.begin(f"r-{number}", facts()) for number in range(3)]
    outage.is_on = True
    # The first of these is perhaps committed: it must not stay held.
    outage.commits_first = True
    for number in range(2):
        with pytest.raises(LedgerUnavailable, match="limits cannot be counted"):
            await metering.begin(f"refused-{number}", facts())
    for hold in running:
        await hold.settle(Outcome(input=1, output=1))
    outage.is_on = False
    await written(metering, folder)
    assert await off_loop(used, requests) == 3
    assert await off_loop(holds) == 0
    assert len(await off_loop(events)) == 3
    await off_loop(proven)


async def test_a_limit_that_only_watches_learns_of_it_afterwards(
    limit: Callable[..., Any], facts: MakeFacts, start: Any, outage: Outage, folder: Path
) -> None:
    tokens = await limit("tokens", 1000, "day", mode=Limit.Mode.SHADOW)
    parallel = await limit("parallel", 5, mode=Limit.Mode.SHADOW)
    metering = await start()
    await is_ready(metering)
    outage.is_on = outage.commits_first = True
    await served(metering, facts(), "one")
    await served(metering, facts(), "two")
    outage.is_on = False
    await written(metering, folder)
    assert await off_loop(used, tokens) == 16
    assert await off_loop(used, parallel) == 0
    await off_loop(proven)


async def test_a_target_with_limits_of_its_own_is_not_asked(
    limit: Callable[..., Any], facts: MakeFacts, start: Any, outage: Outage, folder: Path
) -> None:
    await limit("requests", 10, "day", scope_kind="provider", scope_value="bound", tenant=None)
    metering = await start()
    await is_ready(metering)
    outage.is_on = True
    hold = await metering.begin("r", facts())
    with pytest.raises(LedgerUnavailable):
        await hold.attempt(TargetFacts(provider="bound", model="m"))
    await hold.attempt(TargetFacts(provider="free", model="m"))
    await hold.settle(Outcome(input=1, output=1))
    outage.is_on = False
    await written(metering, folder)
    [event] = await off_loop(events)
    assert event.provider == "free"


async def test_a_request_that_was_let_in_and_never_sent_leaves_no_trace(
    facts: MakeFacts, start: Any, outage: Outage, folder: Path
) -> None:
    metering = await start()
    await is_ready(metering)
    outage.is_on = True
    (await metering.begin("r", facts())).end()
    await until(lambda: not metering.writer.journal._open)
    outage.is_on = False
    await written(metering, folder)
    assert await off_loop(events) == []
    assert await off_loop(holds) == 0


async def test_what_the_database_had_committed_unheard_is_not_written_again(
    facts: MakeFacts, start: Any, outage: Outage, folder: Path
) -> None:
    metering = await start()
    await is_ready(metering)
    hold = await metering.begin("r", facts())
    outage.is_on = outage.commits_first = True
    await hold.settle(Outcome(input=1, output=1))
    outage.is_on = False
    await written(metering, folder)
    assert len(await off_loop(events)) == 1
    await off_loop(proven)


async def test_relaxed_tenants_as_well(
    facts: MakeFacts, start: Any, outage: Outage, folder: Path, tenant: Tenant
) -> None:
    await off_loop(relax, tenant)
    metering = await start()
    await is_ready(metering)
    outage.is_on = True
    for number in range(3):
        await served(metering, facts(), f"r-{number}")
    await until(lambda: metering.writer.waiting == 0)
    outage.is_on = False
    await written(metering, folder)
    assert len(await off_loop(events)) == 3
    await off_loop(proven)


def relax(tenant: Tenant) -> None:
    with scope.platform("tests"):
        UsagePolicy.objects.create(tenant=tenant, durability=UsagePolicy.Durability.RELAXED)


async def test_a_full_journal_lets_nobody_in_and_loses_nothing(
    facts: MakeFacts, start: Any, outage: Outage, folder: Path, settings: Any, tenant: Tenant
) -> None:
    settings.USAGE_JOURNAL_LIMIT_BYTES = 4_000
    metering = await start()
    await is_ready(metering)
    outage.is_on = True
    running = []
    with contextlib.suppress(LedgerUnavailable):
        while len(running) < 20:
            running.append(await metering.begin(f"r-{len(running)}", facts()))
    assert 2 < len(running) < 20
    for hold in running:
        await hold.settle(Outcome(input=1, output=1))
    assert sum(path.stat().st_size for path in journals(folder)) < 6_000
    await off_loop(relax, tenant)
    await off_loop(metering.limits.reload)
    with pytest.raises(LedgerUnavailable):
        await metering.begin("relaxed", facts())
    outage.is_on = False
    await written(metering, folder)
    await until(lambda: metering.writer.waiting == 0)
    assert len(await off_loop(events)) == len(running)
    await off_loop(proven)


async def test_switched_off_nobody_is_let_in(
    facts: MakeFacts, start: Any, outage: Outage, folder: Path, settings: Any
) -> None:
    settings.USAGE_JOURNAL_LIMIT_BYTES = 0
    metering = await start()
    hold = await metering.begin("r-1", facts())
    outage.is_on = True
    with pytest.raises(LedgerUnavailable):
        await metering.begin("r-2", facts())
    await hold.settle(Outcome(input=1, output=1))
    assert metering.writer.waiting == 1
    outage.is_on = False
    await until(lambda: metering.writer.waiting == 0)
    assert len(await off_loop(events)) == 1
    assert journals(folder) == []


async def test_a_disk_that_takes_nothing_lets_nobody_in_and_loses_nothing(
    facts: MakeFacts, start: Any, outage: Outage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metering = await start()
    await is_ready(metering)
    running = await metering.begin("before", facts())
    outage.is_on = True
    await served(metering, facts(), "kept")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(file.os, "fsync", full)
        with pytest.raises(LedgerUnavailable):
            await metering.begin("refused", facts())
        await running.settle(Outcome(input=1, output=1))
    await served(metering, facts(), "kept-too")
    outage.is_on = False
    await written(metering, folder)
    await until(lambda: metering.writer.waiting == 0)
    names = {event.request_id for event in await off_loop(events)}
    assert names == {"before", "kept", "kept-too"}
    await off_loop(proven)


async def test_a_folder_that_cannot_be_is_told_before_it_is_needed(
    facts: MakeFacts,
    start: Any,
    outage: Outage,
    settings: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "taken").write_text("a file")
    settings.USAGE_JOURNAL_FOLDER = str(tmp_path / "taken")
    metering = await start()
    await until(lambda: "could not be kept in a journal" in caplog.text)
    outage.is_on = True
    with pytest.raises(LedgerUnavailable):
        await metering.begin("r", facts())


async def test_the_file_says_nothing_to_a_stranger(
    facts: MakeFacts, start: Any, outage: Outage, folder: Path, tenant: Tenant
) -> None:
    metering = await start()
    await is_ready(metering)
    outage.is_on = True
    await served(
        metering,
        facts(model=f"m-{CANARY}", trace_id=f"t-{CANARY}"),
        f"r-{CANARY}",
        finish_reason=CANARY,
    )
    [path] = journals(folder)
    content = path.read_bytes()
    assert len(content) > 500
    for secret in (CANARY, str(tenant.id), tenant.id.hex, "acme", "cost_nanos", "request_id"):
        assert secret.encode() not in content
    outage.is_on = False
    await written(metering, folder)
    assert [event.finish_reason for event in await off_loop(events)] == [CANARY]


# --- Processes that died -------------------------------------------------------------------------


def left_behind(folder: Path, tenant: Tenant, *, open_ones: int = 0, done: int = 0) -> Path:
    """A journal of a process that was killed."""
    written = file.JournalFile(folder, make_file_key(), uuid.uuid4())
    for number in range(open_ones + done):
        held = Held(f"r-{number}", tenant.id, 1_900_000_000.0, "m", expected_nanos=9)
        hold_id = uuid.uuid4()
        lines: list[records.Line] = [records.Begun(hold_id, held)]
        if number < done:
            settle = groups.Settle(
                hold_id, held, [groups.Part(Outcome(input=1, output=1, cost_nanos=5), None, [])]
            )
            lines.append(records.ended(settle))
        written.append(records.encode(lines))
    written.close()
    return written.path


def test_the_next_start_writes_what_a_killed_process_left(tenant: Tenant, folder: Path) -> None:
    left_behind(folder, tenant, open_ones=2, done=3)
    assert replay.write_all(folder)
    assert journals(folder) == []
    assert len(events()) == 3
    assert holds() == 2
    from tenants.usage.leases import settle_abandoned

    assert settle_abandoned(now=2_000_000_000.0) == 2
    assert [event.entry for event in events()] == ["usage"] * 3 + ["presumed"] * 2
    with scope.platform("tests"):
        alert = Alert.objects.get(kind="journal")
    assert alert.facts == {"let_in": 5, "ended": 3}
    proven()


@pytest.mark.parametrize("stop_after", range(1, 7))
def test_killed_at_any_step_of_a_replay_nothing_is_lost_or_doubled(
    stop_after: int, tenant: Tenant, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_behind(folder, tenant, done=5)
    monkeypatch.setattr(replay, "_BATCH", 2)
    really = groups.Group.execute
    steps = 0

    class Killed(BaseException):
        pass

    def execute(self: groups.Group, operations: Any) -> None:
        nonlocal steps
        really(self, operations)
        steps += 1
        if steps == stop_after:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(groups.Group, "execute", execute)
        with contextlib.suppress(Killed):
            replay.write_all(folder)
    assert replay.write_all(folder)
    assert journals(folder) == []
    assert len(events()) == 5
    assert holds() == 0
    proven()


def test_replayed_twice_at_once_is_written_once(
    tenant: Tenant, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two machines that share a folder without sharing its locks."""
    import threading

    path = left_behind(folder, tenant, done=20)
    copies = [tmp_path / "a", tmp_path / "b"]
    for copy in copies:
        copy.mkdir()
        (copy / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(replay, "_BATCH", 3)
    done: list[bool] = []

    def run(where: Path) -> None:
        try:
            while not replay.write_all(where):
                pass
            done.append(True)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=[copy]) for copy in copies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert done == [True, True]
    assert len(events()) == 20
    assert holds() == 0
    proven()


def test_a_journal_that_somebody_writes_is_left_alone(tenant: Tenant, folder: Path) -> None:
    written = file.JournalFile(folder, make_file_key(), uuid.uuid4())
    assert replay.write_all(folder)
    assert journals(folder) == [written.path]
    written.close()
    assert replay.write_all(folder)
    assert journals(folder) == []


@pytest.mark.parametrize("cut", [1, 30, 400])
def test_a_torn_last_record_is_left_out(cut: int, tenant: Tenant, folder: Path) -> None:
    path = left_behind(folder, tenant, done=3)
    content = path.read_bytes()
    path.write_bytes(content[:-cut])
    assert replay.write_all(folder)
    assert [event.request_id for event in events()] == ["r-0", "r-1"]


@pytest.mark.parametrize("size", [0, 5, 8, 40])
def test_a_file_without_a_whole_header_holds_nothing(
    size: int, folder: Path, tenant: Tenant
) -> None:
    path = left_behind(folder, tenant, done=1)
    path.write_bytes(path.read_bytes()[:size])
    assert replay.write_all(folder)
    assert journals(folder) == []
    assert events() == []


def test_an_altered_record_is_told_and_the_rest_is_written(tenant: Tenant, folder: Path) -> None:
    path = left_behind(folder, tenant, done=3)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert replay.write_all(folder)
    assert [event.request_id for event in events()] == ["r-0", "r-1"]
    assert [left.suffix for left in journals(folder)] == [".damaged"]
    with scope.platform("tests"):
        assert "1 of its records were altered" in Alert.objects.get(kind="journal").text


def test_without_its_key_it_waits_and_somebody_is_told(
    tenant: Tenant, folder: Path, settings: Any, tmp_path: Path
) -> None:
    path = left_behind(folder, tenant, done=2)
    right = settings.VAULT_KEYS_FILE
    other = tmp_path / "other_keys"
    other.write_text("QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=\n")
    settings.VAULT_KEYS_FILE = str(other)
    assert not replay.write_all(folder)
    assert journals(folder) == [path]
    assert events() == []
    with scope.platform("tests"):
        assert "cannot be read" in Alert.objects.get(kind="journal").text
    settings.VAULT_KEYS_FILE = right
    assert replay.write_all(folder)
    assert len(events()) == 2


def test_a_foreign_file_is_kept(folder: Path, db: None) -> None:
    folder.mkdir()
    (folder / f"x{file.SUFFIX}").write_bytes(b"not a journal of ours at all")
    assert not replay.write_all(folder)
    assert len(journals(folder)) == 1


def test_absurd_figures_of_an_upstream_fit(tenant: Tenant) -> None:
    held = Held("r", tenant.id, 1.0, "m")
    outcome = Outcome(input=10**40, output=float("nan"), cost_nanos=-5, latency_ms=float("inf"))
    line = records.ended(groups.Settle(uuid.uuid4(), held, [groups.Part(outcome, None, [])]))
    [again] = records.decode(records.encode([line]))
    assert isinstance(again, records.Ended)
    assert again.parts[0].outcome.input == 10**12
    assert again.parts[0].outcome.output is None
    assert again.parts[0].outcome.cost_nanos == 0
