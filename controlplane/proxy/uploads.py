"""The form that brings a file: read where it lies, and written anew where a batch asks models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from controlplane.proxy.errors import InvalidBody
from controlplane.proxy.spooled import PIECE, Spooled
from providers.files import batch_file
from providers.files.batch_file import Work
from providers.files.named import named_in
from providers.protocols.openai_completions import multipart
from providers.protocols.openai_completions.passthrough import is_multipart

BATCH = "batch"


class Form(msgspec.Struct, frozen=True):
    """`start` and `end` of the file in the body. `work` is what a batch asks, and `named` the files
    it names; both are empty for any other purpose."""

    start: int
    end: int
    work: list[Work]
    named: set[str]


def read(spooled: Spooled, content_type: str) -> Form:
    """Looks at every byte: not for the event loop. Raises InvalidBody, BadBatchFile and
    LocalProtocolError."""
    if not is_multipart(content_type):
        raise InvalidBody("Send a multipart form with the fields `file` and `purpose`.")
    view = spooled.view()
    found = multipart.fields(view, content_type)
    purpose = (multipart.value(view, found, "purpose") or "").strip()
    if not purpose:
        raise InvalidBody("The form has no field `purpose`.", param="purpose")
    files = [each for each in found if each.is_file]
    if len(files) != 1 or files[0].name != "file":
        raise InvalidBody("The form needs one file, in the field `file`.", param="file")
    start, end = files[0].start, files[0].end
    work: list[Work] = []
    named: set[str] = set()
    if purpose == BATCH:
        work = batch_file.work_in(_noting(batch_file.lines_in(view, start, end), named))
    return Form(start, end, work, named)


def _noting(lines: Iterable[bytes], named: set[str]) -> Iterator[bytes]:
    for line in lines:
        named |= named_in(line)
        yield line


def with_models(spooled: Spooled, form: Form, served: dict[str, str]) -> Spooled:
    """The same form under the vendor's names of the models: a body of its own, for its caller to
    close. Not for the event loop."""
    view = spooled.view()
    made = Spooled()
    try:
        for start in range(0, form.start, PIECE):
            made.write(view[start : min(form.start, start + PIECE)])
        lines = batch_file.lines_in(view, form.start, form.end)
        for line in batch_file.with_models(lines, served):
            made.write(line)
        for start in range(form.end, spooled.size, PIECE):
            made.write(view[start : start + PIECE])
    except BaseException:
        made.close()
        raise
    return made
