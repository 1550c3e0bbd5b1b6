"""What a batch asks, and what its answers cost."""

from __future__ import annotations

import json
import random

import pytest

from controlplane.kit.json import JSONDict
from providers.catalog.schema import Price, Tier
from providers.files import batch_file
from providers.files.batch_file import Bills, Lines, Work
from providers.files.errors import BadBatchFile

PRICE = Price(
    input="2",
    output="4",
    service_tiers={"batch": "0.5"},
    tiers=(Tier(above_input_tokens=1000, input="20", output="40"),),
)


def request(model: str, **more: object) -> bytes:
    return json.dumps({"custom_id": "é", "body": {"model": model, **more}}).encode()


def answer(model: str, usage: JSONDict | None, **more: object) -> bytes:
    body = {"model": model, "usage": usage, **more}
    return json.dumps({"custom_id": "a", "response": {"status_code": 200, "body": body}}).encode()


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("seed", range(5))
def test_any_cutting_gives_the_same_lines(seed: int, end: bytes) -> None:
    whole = [b"one", b"  two  ", b"x" * 300, b"last"]
    data = end.join([*whole[:2], b"", b"   ", *whole[2:]])
    cut, draw = Lines(), random.Random(seed)
    found, position = [], 0
    while position < len(data):
        size = draw.randint(1, 50)
        found += cut.feed(data[position : position + size])
        position += size
    found += cut.close()
    assert [line.strip() for line in found] == [line.strip() for line in whole]
    assert cut.close() == []


def test_a_line_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_file, "MAX_LINE", 100)
    cut = Lines()
    assert cut.feed(b"x" * 60) == []
    with pytest.raises(BadBatchFile):
        cut.feed(b"x" * 60)


def test_work_is_counted_by_model() -> None:
    lines = [request("a", max_tokens=5), request("b"), request("a", max_completion_tokens=7)]
    first, second = batch_file.work_in(lines)
    assert (first.asked, first.lines, first.output) == ("a", 2, 12)
    assert (second.asked, second.lines, second.output) == ("b", 1, 1024)
    assert first.input == sum(len(line) // 4 for line in (lines[0], lines[2]))
    assert batch_file.read(batch_file.written([first, second])) == [first, second]
    with pytest.raises(BadBatchFile, match="at most"):
        batch_file.work_in(request(str(number)) for number in range(200))


def test_only_the_model_is_changed() -> None:
    line = b' {"custom_id":"a", "body" : {"x": [1,  2], "model":"mine", "n":1.50}, "z":"\\u00e9"}'
    (made,) = batch_file.with_models([line], {"mine": "theirs"})
    assert made == line.strip().replace(b'"mine"', b'"theirs"') + b"\n"
    with pytest.raises(BadBatchFile):
        list(batch_file.with_models([b'{"body":{"model":"a"},"body":{"model":"a"}}'], {"a": "b"}))


def bills(
    lines: list[bytes],
    work: list[Work],
    price: Price | None = PRICE,
    agreed: dict[str, Price] | None = None,
) -> Bills:
    made = Bills(work, lambda _: price, (agreed or {}).get)
    for line in lines:
        made.see(line)
    return made


def test_each_answer_has_its_own_price() -> None:
    """The dear tier is for the one that exceeds it, not for the sum."""
    usage = {"prompt_tokens": 900, "completion_tokens": 10}
    dear = {"prompt_tokens": 2000, "completion_tokens": 10}
    work = [Work("mine", "gpt")]
    lines = [answer("gpt-2026-01-01", usage), answer("gpt", usage), answer("gpt", dear)]
    (bill,) = bills(lines, work).all()
    assert (bill.asked, bill.served, bill.answers) == ("mine", "gpt", 3)
    assert (bill.usage.input, bill.usage.output) == (3800, 30)
    cheap_nanos, dear_nanos = 900 * 2000 + 10 * 4000, 2000 * 20_000 + 10 * 40_000
    assert bill.nanos == (2 * cheap_nanos + dear_nanos) // 2
    (unknown,) = bills(lines, work, price=None).all()
    assert unknown.nanos is None


def test_an_agreed_price_goes_by_the_name_that_was_asked() -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 100}
    work = [Work("mine", "gpt"), Work("other", "gpt-mini")]
    lines = [answer("gpt", usage), answer("gpt", usage), answer("gpt-mini", usage)]
    agreed = {"mine": Price(input="1", output="10", service_tiers={"batch": "0.5"})}
    mine, other = bills(lines, work, agreed=agreed).all()
    assert mine.charge_nanos == 2 * (1000 * 1000 + 100 * 10_000) // 2
    assert mine.nanos != mine.charge_nanos
    assert other.charge_nanos is None
    # Where nobody knows what the vendor takes, the tenant pays what was agreed.
    unknown, _ = bills(lines, work, price=None, agreed=agreed).all()
    assert (unknown.nanos, unknown.charge_nanos) == (None, mine.charge_nanos)


def test_the_longest_name_that_fits_is_meant() -> None:
    usage = {"input_tokens": 10, "output_tokens": 1}
    work = [Work("a", "gpt"), Work("b", "gpt-mini")]
    lines = [answer("gpt-mini-2026-01-01", usage), answer("gpt-2026", usage), answer("else", usage)]
    found = {bill.served: bill.asked for bill in bills(lines, work).all()}
    assert found == {"gpt-mini": "b", "gpt": "a", "else": "else"}


def test_what_cannot_be_read_used_nothing() -> None:
    lines = [
        b"",
        b"nonsense",
        b"[]",
        b'{"response": null}',
        b'{"response": {"body": null}}',
        b'{"response": {"body": 5}}',
        b'{"response": {"body": {"model": 5, "usage": {"prompt_tokens": 5}}}}',
        b'{"response": {"body": {"model": "\xff", "usage": {"prompt_tokens": 5}}}}',
        answer("gpt", None),
        answer("gpt", {"prompt_tokens": "many"}),
        answer("gpt", {"prompt_tokens": -5, "completion_tokens": 2**90}),
    ]
    found = bills(lines, [Work("mine", "gpt")]).all()
    assert all(bill.usage.input == 0 for bill in found)
