"""A day's script: read with clear complaints, played against the world's clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from providers.simulator.day import BadDay, offset, read_day, read_text
from providers.simulator.faults import schedule_of
from providers.simulator.keys import key_status
from providers.simulator.serving import Timeline
from providers.simulator.world import World

DAY = """
seed: monday
clock: 2026-01-05T08:00:00Z
events:
  - {at: 8:30, for: 2m, fault: status=529, share: 0.5, vendor: anthropic}
  - {at: 1h, until: 1h30m, fault: first=30+rate=5}
  - {at: 90, for: 30, key: sk-night, status: 403}
"""
EIGHT = datetime(2026, 1, 5, 8, tzinfo=UTC)


def test_a_day_plays_at_its_times() -> None:
    world = World()
    begins_at = read_text(DAY).play(world)
    assert world.seed == "monday"
    assert EIGHT <= begins_at < EIGHT + timedelta(seconds=5)
    rows = [(e.begins_at, e.ends_at, e.options) for e in schedule_of(world).entries]
    assert rows == [
        (
            begins_at + timedelta(hours=1),
            begins_at + timedelta(hours=1.5),
            {"first": "30", "rate": "5"},
        ),
        (
            begins_at + timedelta(hours=8.5),
            begins_at + timedelta(hours=8.5, minutes=2),
            {"status": "529"},
        ),
    ]
    statuses = []
    for seconds in (89, 2, 28, 2):
        world.advance(seconds)
        statuses.append(key_status("sk-night", world))
    assert statuses == [403, 0, 0, 403]


def test_the_example_of_the_guide_can_be_played() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "simulator.md").read_text("utf-8")
    example = guide.partition("```yaml\n")[2].partition("```")[0]
    day = read_text(example)
    assert [step.at_seconds for step in day.steps] == [180, 3600, 7200, 28_800]
    assert (day.speed, day.starts_at) == (60, EIGHT)


def test_a_clock_may_run_faster() -> None:
    world = World()
    read_day({"speed": 3600, "events": [{"fault": "status=500"}]}).play(world)
    assert world.speed == 3600


def test_json_is_a_script_too() -> None:
    day = read_text('{"events": [{"at": "00:03", "for": "2m", "fault": "status=529"}]}')
    (step,) = day.steps
    assert (step.at_seconds, step.until_seconds) == (180, 300)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (90, 90),
        (1.5, 1.5),
        ("90s", 90),
        ("3m", 180),
        ("1h30m", 5400),
        ("1h2m3.5s", 3723.5),
        ("00:03", 180),
        ("8:30", 30_600),
        ("08:00:30", 28_830),
    ],
)
def test_times_are_written_as_people_do(written: Any, seconds: float) -> None:
    assert offset(written, "at") == seconds


@pytest.mark.parametrize(
    "written", ["", "soon", "8:61", "-5", -5, True, None, "1e9h", "400d", 1e12]
)
def test_other_times_are_refused(written: Any) -> None:
    with pytest.raises(BadDay, match="at"):
        offset(written, "at")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("[", "not YAML"),
        ("- 1", "must be an object"),
        ("events: []", "events"),
        ("event: []", "event is unknown"),
        ("events: [1]", r"events\[0\] must be an object"),
        ("events: [{at: 1}]", "either `fault` or `key`"),
        ("events: [{fault: status=500, key: k}]", "either `fault` or `key`"),
        ("events: [{fault: statsu=500}]", "'statsu' is unknown"),
        ("events: [{fault: 5}]", "write a script such as"),
        ("events: [{fault: status=500, for: 1m, until: 2m}]", "not both"),
        ("events: [{fault: status=500, at: 2m, until: 1m}]", "after `at`"),
        ("events: [{fault: status=500, share: 2}]", "between 0 and 1"),
        ("events: [{fault: status=500, share: often}]", "must be a number"),
        ("events: [{key: k, status: 200}]", "between 400 and 599"),
        ("events: [{fault: status=500, wen: 1}]", "wen is unknown"),
        ("clock: tomorrow\nevents: [{fault: status=500}]", "clock: 'tomorrow' is no time"),
        ("speed: 0\nevents: [{fault: status=500}]", "speed"),
        ("a: !!python/object/apply:os.getcwd []", "not YAML"),
    ],
)
def test_a_bad_script_says_where_and_what(script: str, words: str) -> None:
    with pytest.raises(BadDay, match=words):
        read_text(script)


def test_a_timeline_tells_each_step_once() -> None:
    world = World()
    world.set_clock(EIGHT)
    day = read_day(
        {
            "events": [
                {"at": "1m", "for": "1m", "fault": "status=529", "share": 0.05, "vendor": "openai"},
                {"at": "2m", "key": "sk-secret", "note": "the night key begins to work"},
            ]
        }
    )
    timeline = Timeline(day, day.play(world), world)
    assert timeline.due() == []
    world.advance(60)
    assert timeline.due() == ["08:01:00 begins: 5 % status=529 at openai"]
    assert timeline.due() == []
    world.advance(60)
    told = timeline.due()
    assert sorted(told) == [
        "08:02:00 begins: the night key begins to work",
        "08:02:00 ends: 5 % status=529 at openai",
    ]
    assert "sk-secret" not in str(told)
