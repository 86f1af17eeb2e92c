"""The tree of lmjudge's errors; each carries the objects that its message is about.

LmjudgeError
├── RequestError        a request that JSON cannot hold
├── FrameError          a frame with missing columns or unusable rows
├── StoreError
│   ├── NotAStore       the folder is not a store, or holds other files
│   ├── DamagedStore    the store, or a record in it, is not what was written
│   ├── ReadOnlyStore   the store cannot be written to
│   ├── ChangedReplies  a merge would change replies that the store holds
│   └── Miss            the store has no reply to some requests
├── EndpointError
│   ├── RequestFailed   one request has no reply; the others continue
│   └── EndpointStopped no request can succeed; the run stops and can resume
├── PromptError         an unknown prompt, or one that cannot be filled
├── PriceError          an unknown price, or a table without prices
├── DataError
│   ├── DataMissing     a source that is not available here
│   ├── WrongHash       a file whose bytes are not the published ones
│   └── BadRow          a line or a row that cannot be read
├── TrainingError       unusable training data or base model, or a loss that is not finite
└── ReportError         an unknown notebook or parameter, or an unusable table

Three warnings:

- InfiniteRating: some models only won or only lost.
- OrderFlips: a judge's verdict often changes with the order of the answers.
- AnswersLeftOut: answers that are empty or were cut off are not judged.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


class LmjudgeError(Exception):
    """Base class of lmjudge's errors; keyword arguments become attributes."""

    def __init__(self, message: str, **evidence: Any) -> None:
        super().__init__(message)
        self.__dict__.update(evidence)


class RequestError(LmjudgeError, ValueError):
    """A request that JSON cannot hold: `value` is the value at `path`."""

    value: Any
    path: str


class FrameError(LmjudgeError, ValueError):
    """A frame that cannot be used: `columns` or `rows` are the unusable ones."""

    columns: list[str]
    rows: Any


class StoreError(LmjudgeError):
    """A problem with the store at `path`."""

    path: Path


class NotAStore(StoreError):
    """The folder at `path` is not a store, or has files that lmjudge did not write."""


class DamagedStore(StoreError):
    """The file, or the records under `keys`, are not what was written."""

    keys: list[str]


class UnknownRecord(DamagedStore):
    """The records under `keys` are intact, but this version of lmjudge cannot read them."""


class ReadOnlyStore(StoreError):
    """The store at `path` cannot be written to."""


class ChangedReplies(StoreError):
    """A merge would change the replies under `keys`, which the store at `path` holds."""

    keys: list[str]


class Miss(StoreError, LookupError):
    """Requests that have no reply in the store.

    - `count`: how many requests, with about `tokens` prompt tokens.
    - `requests`: the first hundred.
    - `nearest`: the stored request that is most like the first.
    - `differences`: the fields in which these two differ, as {field: (requested, stored)}.
    """

    count: int
    tokens: int
    requests: list[Any]
    nearest: Any
    differences: dict[str, tuple[Any, Any]]


class EndpointError(LmjudgeError):
    """A problem with an endpoint."""


class RequestFailed(EndpointError):
    """One request has no reply, because of `reason`; other requests may continue.

    `status` is the HTTP status, if any, and `attempts` the number of attempts.
    """

    reason: str
    status: int | None
    attempts: int


class EndpointStopped(EndpointError):
    """No request can succeed until you fix `reason` (unauthorized, quota ...); the run stops."""

    reason: str
    status: int | None


class PromptError(LmjudgeError, ValueError):
    """An unknown prompt or parser `name`, or a template that cannot be filled."""

    name: str


class PriceError(LmjudgeError, ValueError):
    """The price of `model` is needed but unknown, or a table of prices cannot be used."""

    model: str


class DataError(LmjudgeError):
    """A problem with published data, or with your own file, at `path`."""

    path: Path


class DataMissing(DataError, LookupError):
    """A `source` that is not available here; the message says where lmjudge looked."""

    source: str


class WrongHash(DataError):
    """A file whose SHA-256 is `found` instead of the published `expected`."""

    expected: str
    found: str


class BadRow(DataError, ValueError):
    """Line `line` of the file at `path` cannot be read."""

    line: int


class TrainingError(LmjudgeError, ValueError):
    """Unusable training data or base, or a loss that is not finite; `folder` is its folder."""

    folder: Path


class ReportError(LmjudgeError, ValueError):
    """An unknown notebook or parameter, or an unusable table; `name` is its name."""

    name: str


class InfiniteRating(UserWarning):
    """Models that only won or only lost have no finite rating; `models` are their names."""

    def __init__(self, message: str, models: list[str]) -> None:
        super().__init__(message)
        self.models = models


class OrderFlips(UserWarning):
    """Judges whose verdict changes with the order of the answers; `judges` are their names."""

    def __init__(self, message: str, judges: list[str]) -> None:
        super().__init__(message)
        self.judges = judges


class AnswersLeftOut(UserWarning):
    """Answers that are empty or were cut off are not judged; `rows` are the rows left out."""

    def __init__(self, message: str, rows: Any) -> None:
        super().__init__(message)
        self.rows = rows
