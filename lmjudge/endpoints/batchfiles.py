"""The files of a batch: requests as lines, each found again by its key, and the results to them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from lmjudge.endpoints.openai import chat_body
from lmjudge.endpoints.replies import read_reply
from lmjudge.errors import BadRow, DataError
from lmjudge.records import Failure, Record, Reply, Request

# What the Batch API takes in one file.
MOST_REQUESTS, MOST_BYTES = 50_000, 200_000_000
ADDRESS: Literal["/v1/chat/completions"] = "/v1/chat/completions"
_HEAD = b'{"custom_id":"'


class Writer:
    """One file of a batch, as it is written."""

    def __init__(self, path: Path) -> None:
        self.path, self.samples = path, dict[str, tuple[int, str | None]]()
        self.beside = samples_of(path)
        self.count = self.size = 0
        for there in (path, self.beside):
            if there.exists():
                raise DataError(
                    f"{there} is there already; collect it, or give another path", path=there
                )
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb")

    def takes(self, line: bytes) -> bool:
        """Whether the line is within what one file may hold."""
        return self.count < MOST_REQUESTS and self.size + len(line) <= MOST_BYTES

    def write(self, request: Request, line: bytes) -> None:
        """Add a request, by its line."""
        self.file.write(line)
        self.count += 1
        self.size += len(line)
        if request.sample or request.provider is not None:
            self.samples[request.key] = (request.sample, request.provider)

    def close(self) -> None:
        """End the file, and write beside it what its lines cannot say."""
        self.file.close()
        if self.samples:
            self.beside.write_text(json.dumps(self.samples), encoding="utf-8")

    def drop(self) -> None:
        """Leave nothing of the file behind."""
        self.file.close()
        self.path.unlink(missing_ok=True)
        self.beside.unlink(missing_ok=True)


class Asked:
    """The requests of an exported file, each read where it is needed; which have a result."""

    def __init__(self, path: Path) -> None:
        self.path, self.at, self.seen = path, dict[str, int](), set[str]()
        self.file = path.open("rb")
        beside = samples_of(path)
        self.samples = json.loads(beside.read_bytes()) if beside.exists() else {}
        offset = 0
        for line in self.file:
            self.at[line[len(_HEAD) : len(_HEAD) + 64].decode("latin-1")] = offset
            offset += len(line)

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def request(self, key: str) -> Request:
        """The request of a key, its hash checked."""
        self.file.seek(self.at[key])
        sample, provider = self.samples.get(key, (0, None))
        try:
            body = json.loads(self.file.readline())["body"]
            model, messages = body.pop("model"), body.pop("messages")
            made = Request(model, messages, body, sample, provider)
            if made.key == key:
                return made
        except (ValueError, KeyError, TypeError) as error:
            problem = str(error)
        else:
            problem = "its request has another key"
        raise BadRow(
            f"the line of {key[:12]} in {self.path} is not the one that was exported ({problem});"
            " export the batch anew",
            path=self.path,
            line=list(self.at).index(key) + 1,
        )


def records(
    asked: Asked, results: Iterable[Path], failures: list[tuple[str, Failure]]
) -> Iterator[Record]:
    """The records in files of results; what is no reply is added to `failures`."""
    for path in results:
        with path.open("rb") as lines:
            for line in lines:
                key, outcome = _result(line)
                if isinstance(outcome, Reply) and key in asked.at:
                    yield Record(asked.request(key), outcome)
                elif isinstance(outcome, Reply):
                    outcome = Failure("not_asked", "the batch's file holds no such request")
                if isinstance(outcome, Failure):
                    failures.append((key, outcome))
                asked.seen.add(key)


def _result(line: bytes) -> tuple[str, Reply | Failure]:
    """The key and what came of it, in a line of results."""
    try:
        whole: Any = json.loads(line, parse_constant=str)
        key = str(whole["custom_id"])
        response, error = whole.get("response"), whole.get("error") or {}
        if not isinstance(response, Mapping):
            reason = str(error.get("code") or "batch_error")
            return key, Failure(reason, str(error.get("message"))[:500])
        status, body = int(response["status_code"]), dict(response["body"] or {})
        outcome = read_reply(status, {}, json.dumps(body).encode())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        return "", Failure("bad_reply", f"{problem}: {line[:300]!r}")
    if not isinstance(outcome, Reply):
        return key, Failure(outcome.reason, outcome.message, outcome.status)
    # The server's own time, so that reading a file again makes the same record.
    created: Any = body.get("created")
    known = isinstance(created, (int, float)) and not isinstance(created, bool)
    return key, replace(outcome, created=float(created) if known else None)


def line_of(request: Request) -> bytes:
    """The line of a request in a batch's file."""
    whole = {
        "custom_id": request.key,
        "method": "POST",
        "url": ADDRESS,
        "body": chat_body(request),
    }
    # In ASCII: a line that holds U+2028 is two lines to some readers.
    return json.dumps(whole, separators=(",", ":")).encode() + b"\n"


def samples_of(path: Path) -> Path:
    """The file, beside a batch's, of the samples and providers that are not the usual ones."""
    return path.with_name(f"{path.stem}.samples.json")
