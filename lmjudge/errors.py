"""One tree of errors, each carrying the objects it speaks of.

LmjudgeError
├── RequestError        a request that has no canonical form
├── FrameError          a frame without the columns, or with rows, that its use needs
├── StoreError
│   ├── NotAStore       the folder is something else, or a stranger's
│   ├── DamagedStore    the store, or a record in it, is not what was written
│   ├── ReadOnlyStore   asked to write where nothing can be written
│   ├── ChangedReplies  a merge would give another reply to requests that have one
│   └── Miss            replay met requests that were never answered
├── EndpointError
│   ├── RequestFailed   one request has no reply; the others go on
│   └── EndpointStopped no request can succeed; the run stops, resumable
├── PromptError         an unknown prompt, or one that cannot be filled
├── PriceError          a price that is not known, or a table that holds none
├── DataError
│   ├── DataMissing     a source that cannot be had here
│   ├── WrongHash       a file whose bytes are not the published ones
│   └── BadRow          a line or a row that cannot be read
├── TrainingError       data that nothing can be learned from, or a loss that is no number
└── ReportError         a notebook, a parameter or a table that does not fit

Two warnings: InfiniteRating, of models that only won or only lost, and OrderFlips, of judges whose
verdict often changes with the order of the answers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


class LmjudgeError(Exception):
    """The base of every error that lmjudge raises; keyword arguments become attributes."""

    def __init__(self, message: str, **evidence: Any) -> None:
        super().__init__(message)
        self.__dict__.update(evidence)


class RequestError(LmjudgeError, ValueError):
    """A request that has no canonical form: `value` is what stood at `path`."""

    value: Any
    path: str


class FrameError(LmjudgeError, ValueError):
    """A frame that does not fit its use: `columns` or `rows` are the offending ones."""

    columns: list[str]
    rows: Any


class StoreError(LmjudgeError):
    """Something about the store at `path`."""

    path: Path


class NotAStore(StoreError):
    """The folder at `path` is something else, or was not made by lmjudge alone."""


class DamagedStore(StoreError):
    """The file, or the records under `keys`, are not what was written."""

    keys: list[str]


class UnknownRecord(DamagedStore):
    """The record under `keys` is whole, and of a form that this lmjudge does not know."""


class ReadOnlyStore(StoreError):
    """The store at `path` cannot be written to."""


class ChangedReplies(StoreError):
    """A merge would change the replies under `keys`, which the store at `path` holds."""

    keys: list[str]


class Miss(StoreError, LookupError):
    """Requests that the store holds no reply to.

    `count` requests missed, of about `tokens` prompt tokens; `requests` are the first hundred,
    `nearest` the stored request most like the first, and `differences` the fields in which
    they differ, as {field: (asked, stored)}.
    """

    count: int
    tokens: int
    requests: list[Any]
    nearest: Any
    differences: dict[str, tuple[Any, Any]]


class EndpointError(LmjudgeError):
    """Something about an endpoint."""


class RequestFailed(EndpointError):
    """One request has no reply, for the `reason`: others may go on.

    `status` is the HTTP status where there was one, `attempts` how often it was tried.
    """

    reason: str
    status: int | None
    attempts: int


class EndpointStopped(EndpointError):
    """No request can succeed until `reason` (unauthorized, quota ...) is mended: the run stops."""

    reason: str
    status: int | None


class PromptError(LmjudgeError, ValueError):
    """An unknown prompt or parser `name`, or a template that cannot be filled."""

    name: str


class PriceError(LmjudgeError, ValueError):
    """A price that is needed and not known, of `model`, or a table of prices that holds none."""

    model: str


class DataError(LmjudgeError):
    """Something about published data, or about your own file, at `path`."""

    path: Path


class DataMissing(DataError, LookupError):
    """A `source` that cannot be had here; the message says where it was looked for."""

    source: str


class WrongHash(DataError):
    """A file whose SHA-256 is `found` where `expected` was published."""

    expected: str
    found: str


class BadRow(DataError, ValueError):
    """Line `line` of the file at `path` cannot be read."""

    line: int


class TrainingError(LmjudgeError, ValueError):
    """Data that nothing can be learned from, or a loss that is no number, with its `folder`."""

    folder: Path


class ReportError(LmjudgeError, ValueError):
    """A notebook, a parameter or a table that does not fit; `name` says which."""

    name: str


class InfiniteRating(UserWarning):
    """Models that only won or only lost have no finite rating: `models` are their names."""

    def __init__(self, message: str, models: list[str]) -> None:
        super().__init__(message)
        self.models = models


class OrderFlips(UserWarning):
    """Judges whose verdict changes with the order of the answers: `judges` are their names."""

    def __init__(self, message: str, judges: list[str]) -> None:
        super().__init__(message)
        self.judges = judges


class AnswersLeftOut(UserWarning):
    """Answers that are empty or were cut off are not judged: `rows` are theirs."""

    def __init__(self, message: str, rows: Any) -> None:
        super().__init__(message)
        self.rows = rows
