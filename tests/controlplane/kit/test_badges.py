from __future__ import annotations

import pytest

from controlplane.kit.badges import Badge, StateChoices, Tone


class Light(StateChoices):
    GREEN = "green", Tone.GOOD, "Go"
    RED = "red", Tone.BAD, "Stop"


def test_choices_stay_plain_for_the_database() -> None:
    assert Light.choices == [("green", "Go"), ("red", "Stop")]
    assert Light.GREEN == "green"
    assert str(Light.RED) == "red"


def test_a_state_carries_its_badge() -> None:
    assert Light.of("red").badge == Badge("Stop", Tone.BAD)
    with pytest.raises(ValueError, match="'blue' is no Light"):
        Light.of("blue")


def test_a_badge_escapes_what_it_shows() -> None:
    html = Badge("<b>", Tone.WARN, '"><script>').html()
    assert html == (
        '<span class="badge badge-warn" title="&quot;&gt;&lt;script&gt;">&lt;b&gt;</span>'
    )
