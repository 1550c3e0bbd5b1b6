"""Golden files belong to a cell of the tables; others are left over and would mislead."""

from __future__ import annotations

from tests.conformance import golden, reply_cells, upstreams
from tests.conformance.reply_cells import Transcript
from tests.conformance.reply_scenarios import REPLIES
from tests.conformance.request_scenarios import GROUPS
from tests.conformance.test_replies import UNRECORDED
from tests.conformance.written import DIALECTS


def test_no_golden_file_is_left_over() -> None:
    expected = {f"{dialect}/asked-{group}" for dialect in DIALECTS for group in GROUPS}
    for upstream in upstreams.MODELS.keys() - upstreams.ADDED.keys():
        expected |= {f"{upstream}/requests-{group}" for group in GROUPS}
        expected.add(f"{upstream}/replies")
        expected |= {
            f"{upstream}/replies/{name}"
            for name in REPLIES
            if name not in UNRECORDED
            and isinstance(reply_cells.transcript(upstream, name), Transcript)
        }
    assert golden.names() == expected
