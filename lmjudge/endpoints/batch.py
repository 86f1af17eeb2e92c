"""OpenAI's Batch API: write the requests that a store lacks to a file, and read the results.

A batch costs half as much and may take a day. The `custom_id` of a line is its request's key, so
you can read a result at any time, and more than once.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from lmjudge.endpoints.network import Network
from lmjudge.endpoints.openai import OpenAIEndpoint, chat_body
from lmjudge.endpoints.replies import read_reply
from lmjudge.errors import BadRow, DataError, EndpointStopped
from lmjudge.records import Failure, Record, Reply, Request

if TYPE_CHECKING:
    import openai

_NOTES = "batches.jsonl"
# What the Batch API takes in one file.
MOST_REQUESTS, MOST_BYTES = 50_000, 200_000_000
_ADDRESS: Literal["/v1/chat/completions"] = "/v1/chat/completions"
_HEAD = b'{"custom_id":"'


class Keeps(Protocol):
    """The part of a store that a batch uses."""

    @property
    def path(self) -> Path:
        """Return the store's folder."""
        ...

    def look_up(self, keys: Iterable[str]) -> dict[str, Reply]:
        """Return the replies to the keys that the store holds."""
        ...

    def add(self, records: Iterable[Record]) -> Any:
        """Add records; return what changed."""
        ...

    def note_attempt(self, key: str, failure: Failure) -> None:
        """Note a failure beside the store."""
        ...

    def note(self, name: str, line: Mapping[str, Any], *, sync: bool = False) -> None:
        """Append a line of JSON to a file beside the store."""
        ...

    def notes(self, name: str) -> list[dict[str, Any]]:
        """Return the lines of a file beside the store."""
        ...


@dataclass(frozen=True)
class Collected:
    """The status and the results of a batch.

    `status` is the server's ("in_progress", "completed", "expired" ...), or "read" for files that
    you downloaded. `new` counts the added replies, `known` those that the store had, `failed` the
    requests without a reply by reason, `open` those without a result: export these again once the
    batch has ended.
    """

    status: str
    new: int = 0
    known: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    open: int = 0


def export_batch(
    requests: Iterable[Request], store: Keeps, path: str | os.PathLike[str]
) -> list[Path]:
    """Write each request that the store has no reply to, once; return the files.

    The first file is `path`, the next `<stem>-2.jsonl` and so on. A file has one model and at most
    50,000 requests and 200 MB. Samples and providers of requests, which a line cannot hold, are in
    `<stem>.samples.json` beside it. Writes no file if the store has all replies. Raises DataError
    for a file that exists, RequestFailed for a request that is not a chat.
    """
    first, files = Path(path), dict[str, _Writer]()
    written: list[_Writer] = []
    seen: set[str] = set()
    source = iter(requests)
    try:
        while some := list(islice(source, 500)):
            held = store.look_up(request.key for request in some)
            for request in some:
                if request.key in held or request.key in seen:
                    continue
                seen.add(request.key)
                line = _line_of(request)
                file = files.get(request.model)
                if file is None or not file.takes(line):
                    number = len(written) + 1
                    name = first.name if number == 1 else f"{first.stem}-{number}{first.suffix}"
                    file = files[request.model] = _Writer(first.with_name(name))
                    written.append(file)
                file.write(request, line)
        for file in written:
            file.close()
    except BaseException:
        for file in written:
            file.drop()
        raise
    return [file.path for file in written]


def submit_batch(
    path: str | os.PathLike[str], store: Keeps, endpoint: OpenAIEndpoint | None = None
) -> str:
    """Send a file as a batch, once; return the batch's id.

    The id is noted in `batches.jsonl` beside the store. A file that is noted there or in the
    server's list of batches is sent again only if it has no answers: the server refused or forgot
    it, or it expired or was cancelled before it began. Raises EndpointStopped if the server refuses
    the file or does not answer.
    """
    file = Path(path)
    digest = _digest(file)
    endpoint = endpoint or OpenAIEndpoint()
    with _client(endpoint) as client:
        noted = _noted(store, digest)
        if noted is not None and not _in_vain(client, noted):
            return noted
        for batch in islice(client.batches.list(limit=100), 1000):
            if (batch.metadata or {}).get("sha256") == digest and not _in_vain(client, batch.id):
                break
        else:
            with file.open("rb") as content:
                sent = client.files.create(file=(file.name, content), purpose="batch")
            # No retry here: the server may have taken it, which the list above shows next time.
            batch = client.with_options(max_retries=0).batches.create(
                input_file_id=sent.id,
                endpoint=_ADDRESS,
                completion_window="24h",
                metadata={"sha256": digest, "file": file.name[:200]},
            )
        if not isinstance(getattr(batch, "id", None), str):
            raise EndpointStopped(
                f"{endpoint.target()[0]} replied without a batch; check that this server has"
                " OpenAI's Batch API",
                reason="bad_reply",
                status=None,
            )
    line = {"file": file.name, "sha256": digest, "id": batch.id, "time": time.time()}
    store.note(_NOTES, line, sync=True)
    return batch.id


def collect_batch(
    path: str | os.PathLike[str],
    store: Keeps,
    endpoint: OpenAIEndpoint | None = None,
    *,
    results: Iterable[str | os.PathLike[str]] = (),
) -> Collected:
    """Add the results of the batch of an exported file to the store.

    Downloads the results beside the file (`<stem>.output.jsonl`, `<stem>.errors.jsonl`), or reads
    `results`, the files that you downloaded. Reading them again changes nothing. Raises DataError
    for a file that was not sent, BadRow for a changed line, EndpointStopped for a batch that the
    server refused, and what `submit_batch` raises.
    """
    file = Path(path)
    status, files = "read", [Path(path) for path in results]
    if not files:
        noted = _noted(store, _digest(file))
        if noted is None:
            raise DataError(
                f"{file} was not sent from the store {store.path}; submit it first, or give the"
                " results that you downloaded",
                path=file,
            )
        status, files = _download(noted, file, endpoint or OpenAIEndpoint())
    failures: list[tuple[str, Failure]] = []
    with closing(_ExportedFile(file)) as exported:
        added = store.add(_records(exported, files, failures))
    digest = hashlib.sha256("".join(map(_digest, files)).encode()).hexdigest()
    if failures and not any(note.get("read") == digest for note in store.notes(_NOTES)):
        for key, failure in failures:
            if key in exported.at:
                store.note_attempt(key, failure)
        store.note(_NOTES, {"read": digest, "time": time.time()}, sync=True)
    return Collected(
        status,
        added.new,
        added.known + added.observations,
        dict(Counter(failure.reason for _, failure in failures)),
        len(exported.at.keys() - exported.seen),
    )


def _in_vain(client: openai.OpenAI, name: str) -> bool:
    """Return whether a batch has no answers and will get none."""
    import openai

    try:
        batch = client.batches.retrieve(name)
    except openai.NotFoundError:
        return True
    return batch.status in ("failed", "expired", "cancelled") and not batch.output_file_id


def _download(noted: str, file: Path, endpoint: OpenAIEndpoint) -> tuple[str, list[Path]]:
    """Download the results of a batch beside the file; return its status and the files."""
    files = []
    with _client(endpoint) as client:
        batch = client.batches.retrieve(noted)
        if batch.status == "failed":
            why = [
                f"{error.code}: {error.message}"
                for error in (batch.errors and batch.errors.data) or ()
            ]
            raise EndpointStopped(
                f"the server refused the batch {noted} ({'; '.join(why[:3])[:500] or 'no reason'});"
                " correct that, then export and submit again",
                reason="batch_failed",
                status=None,
            )
        for result, name in ((batch.output_file_id, "output"), (batch.error_file_id, "errors")):
            if result:
                part = file.with_name(f"{file.stem}.{name}.jsonl.part")
                with client.files.with_streaming_response.content(result) as content:
                    content.stream_to_file(part)
                files.append(part.replace(part.with_suffix("")))
    return str(batch.status), files


@contextmanager
def _client(endpoint: OpenAIEndpoint) -> Iterator[openai.OpenAI]:
    """Open the SDK's client; raise its errors as ours."""
    import httpx2
    import openai

    url, key = endpoint.target()
    network = Network.to(url, endpoint.ca_file)
    # A redirect would take the prompts to another host.
    http = openai.DefaultHttpxClient(
        follow_redirects=False, trust_env=False, verify=network.tls, proxy=network.proxy
    )
    try:
        with openai.OpenAI(
            base_url=url,
            api_key=key or "none",
            http_client=http,
            timeout=endpoint.timeout,
            default_headers=endpoint.headers,
        ) as client:
            yield client
    except openai.APIStatusError as error:
        body = error.response.content
        fault = read_reply(error.status_code, error.response.headers, body, secrets=[key])
        if isinstance(fault, Reply):  # which no error is
            raise
        raise EndpointStopped(fault.message, reason=fault.reason, status=fault.status) from None
    except (openai.OpenAIError, httpx2.HTTPError, ValueError) as error:
        raise EndpointStopped(
            f"no complete response from {url} ({type(error).__name__}: {str(error)[:300]});"
            " check the base URL, then run again",
            reason="unreachable",
            status=None,
        ) from None


def _digest(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _noted(store: Keeps, digest: str) -> str | None:
    """Return the id of the last batch of the file with that SHA-256, None if it was not sent."""
    ids = [note["id"] for note in store.notes(_NOTES) if note.get("sha256") == digest]
    return ids[-1] if ids else None


class _Writer:
    """One file of a batch, as it is written."""

    def __init__(self, path: Path) -> None:
        self.path, self.samples = path, dict[str, tuple[int, str | None]]()
        self.beside = _samples_of(path)
        self.count = self.size = 0
        for there in (path, self.beside):
            if there.exists():
                raise DataError(
                    f"{there} exists; collect that batch, or give another path", path=there
                )
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb")

    def takes(self, line: bytes) -> bool:
        """Return whether the line fits into the file."""
        return self.count < MOST_REQUESTS and self.size + len(line) <= MOST_BYTES

    def write(self, request: Request, line: bytes) -> None:
        """Add a request, by its line."""
        self.file.write(line)
        self.count += 1
        self.size += len(line)
        if request.sample or request.provider is not None:
            self.samples[request.key] = (request.sample, request.provider)

    def close(self) -> None:
        """Close the file, and write samples and providers beside it."""
        self.file.close()
        if self.samples:
            self.beside.write_text(json.dumps(self.samples), encoding="utf-8")

    def drop(self) -> None:
        """Delete the file."""
        self.file.close()
        self.path.unlink(missing_ok=True)
        self.beside.unlink(missing_ok=True)


class _ExportedFile:
    """The requests of an exported file, read one at a time, and the keys with a result."""

    def __init__(self, path: Path) -> None:
        self.path, self.at, self.seen = path, dict[str, int](), set[str]()
        self.file = path.open("rb")
        beside = _samples_of(path)
        self.samples = json.loads(beside.read_bytes()) if beside.exists() else {}
        offset = 0
        for line in self.file:
            self.at[line[len(_HEAD) : len(_HEAD) + 64].decode("latin-1")] = offset
            offset += len(line)

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def request(self, key: str) -> Request:
        """Return the request of a key; check its hash."""
        self.file.seek(self.at[key])
        sample, provider = self.samples.get(key, (0, None))
        try:
            body = json.loads(self.file.readline())["body"]
            model, messages = body.pop("model"), body.pop("messages")
            request = Request(model, messages, body, sample, provider)
            if request.key == key:
                return request
        except (ValueError, KeyError, TypeError) as error:
            problem = str(error)
        else:
            problem = "its request has another key"
        raise BadRow(
            f"the line of {key[:12]} in {self.path} was changed after the export ({problem});"
            " export the batch again",
            path=self.path,
            line=list(self.at).index(key) + 1,
        )


def _records(
    exported: _ExportedFile, results: Iterable[Path], failures: list[tuple[str, Failure]]
) -> Iterator[Record]:
    """Yield the records in files of results; add results without a reply to `failures`."""
    for path in results:
        with path.open("rb") as lines:
            for line in lines:
                key, outcome = _result(line)
                if isinstance(outcome, Reply) and key in exported.at:
                    yield Record(exported.request(key), outcome)
                elif isinstance(outcome, Reply):
                    outcome = Failure("not_asked", "the batch's file has no such request")
                if isinstance(outcome, Failure):
                    failures.append((key, outcome))
                exported.seen.add(key)


def _result(line: bytes) -> tuple[str, Reply | Failure]:
    """Return the key and the outcome in a line of results."""
    try:
        item: Any = json.loads(line, parse_constant=str)
        key = str(item["custom_id"])
        response, error = item.get("response"), item.get("error") or {}
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


def _line_of(request: Request) -> bytes:
    """Return the line of a request in a batch's file."""
    item = {
        "custom_id": request.key,
        "method": "POST",
        "url": _ADDRESS,
        "body": chat_body(request),
    }
    # In ASCII: a line that holds U+2028 is two lines to some readers.
    return json.dumps(item, separators=(",", ":")).encode() + b"\n"


def _samples_of(path: Path) -> Path:
    """Return the path of the samples and providers of a batch's file."""
    return path.with_name(f"{path.stem}.samples.json")
