"""Download published files. Each is checked against its hash and limited in size and time."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any
from urllib.parse import urljoin, urlsplit

import pandas as pd

from lmjudge import places
from lmjudge.data.finding import find, how_to_get, locked, place
from lmjudge.data.raw import read_rows
from lmjudge.data.sources import SOURCES, File, Source, source_named
from lmjudge.errors import BadRow, DataError, DataMissing, WrongHash

_LARGEST = 500_000_000
_SLOWEST = 10_000  # bytes per second, on average, once six times the timeout has passed
# Where a host may send a download on to, beside itself.
_REDIRECTS = {"huggingface.co": ("hf.co",)}
_writing = Lock()


@dataclass
class _Run:
    """How far the download of one source is; its thread writes, the caller reads."""

    source: Source
    status: str = "unreachable"
    reason: str = ""
    files: int = 0
    size: int = 0
    seconds: float = 0.0
    reached: bool = False
    heard: float = field(default_factory=time.monotonic)
    given_up: Event = field(default_factory=Event)
    bug: BaseException | None = None


def fetch(
    names: Iterable[str] | None = None, *, timeout: float = 5.0, progress: bool = True
) -> pd.DataFrame:
    """Download sources; return what became of each, a row a source.

    `names` are sources. Without them, all sources that need no login and state a licence are
    fetched. Files go to `cache/data`, each in one step after its length and SHA-256 were checked.
    If the original's SHA-256 is not known, the first download's is kept in `sources.lock` there.
    Sources that do not answer cost `timeout` seconds together. Nothing is sent under
    LMJUDGE_OFFLINE=1.

    | status | meaning |
    |---|---|
    | present | all files were here |
    | fetched | downloaded now |
    | unreachable | no reply within `timeout` seconds |
    | login | the source requires one |
    | wrong bytes | not the published file, or not that of the first download |
    | failed | see the column reason |

    Columns: source, status, files, bytes, seconds, licence, reason. Raises DataMissing for a name
    that is not a source.
    """
    from tqdm.auto import tqdm

    wanted = [names] if isinstance(names, str) else names
    if wanted is None:
        sources = [source for source in SOURCES.values() if source.by_default]
    else:
        sources = [source_named(name) for name in dict.fromkeys(wanted)]
    runs = [_Run(source) for source in sources]
    with tqdm(desc="fetch", unit="B", unit_scale=True, disable=not progress) as bar:
        threads = []
        for run in runs:
            if (missing := _missing(run)) and run.status == "unreachable":
                # A daemon, for a name lookup that hangs must not keep anybody waiting.
                threads.append((run, Thread(target=_go, args=(run, missing, timeout), daemon=True)))
        for _, thread in threads:
            thread.start()
        for run, thread in threads:
            while thread.is_alive():
                allowed = 4 * timeout if run.reached else timeout
                left = run.heard + allowed - time.monotonic()
                if left <= 0:
                    run.given_up.set()
                    run.reason = f"no reply from {urlsplit(run.source.root).hostname} in time"
                    break
                thread.join(min(left, 0.1))
                bar.update(sum(run.size for run in runs) - bar.n)
        for run, _ in threads:
            if run.bug is not None:
                raise run.bug
        bar.update(sum(run.size for run in runs) - bar.n)
    rows = [
        {
            "source": run.source.name,
            "status": "failed" if run.reached and run.given_up.is_set() else run.status,
            "files": run.files,
            "bytes": run.size,
            "seconds": round(run.seconds, 1),
            "licence": run.source.licence,
            "reason": run.reason + (_here(run.source) if run.status == "unreachable" else ""),
        }
        for run in runs
    ]
    return pd.DataFrame(rows)


def _missing(run: _Run) -> list[File]:
    """Return the files of a source to download.

    If it has none, or some may not be fetched, the run's status says so.
    """
    missing = []
    for file in run.source.files:
        if file.url:
            try:
                find(run.source.name, file)
                run.files += 1
            except DataMissing:
                missing.append(file)
            except WrongHash as error:
                if places.downloads() not in error.path.parents:
                    run.status, run.reason = "wrong bytes", str(error)
                missing.append(file)
    if run.source.asks and missing:
        run.status, run.reason = "login", how_to_get(run.source)
    elif not missing:
        run.status = "present"
    elif os.environ.get("LMJUDGE_OFFLINE") == "1":
        run.status, run.reason = "failed", "LMJUDGE_OFFLINE=1 is set: nothing was asked for"
    return missing


def _here(source: Source) -> str:
    """Return the roles of a source whose rows are here all the same, such as in `$LMJUDGE_DATA`."""
    roles = []
    for role in dict.fromkeys(file.role for file in source.files):
        with suppress(DataError):
            place(source.name, role)
            roles.append(role)
    return f"; found here all the same: {', '.join(roles)}" if roles else ""


def _go(run: _Run, missing: list[File], timeout: float) -> None:
    """Download the files of one source, one after another, into its run."""
    import requests
    from urllib3.exceptions import HTTPError

    start = time.monotonic()
    try:
        with requests.Session() as session:
            # Lengths are those of the file itself only where nothing is compressed on the way.
            session.headers.update({"Accept-Encoding": "identity", "User-Agent": "lmjudge"})
            for file in missing:
                for attempt in (1, 2):
                    size = run.size
                    try:
                        _download(run, session, file, timeout)
                        break
                    except (requests.RequestException, HTTPError):
                        run.size = size
                        if attempt == 2 or not run.reached:
                            raise
                run.files += 1
        run.status = "fetched"
    except (requests.RequestException, HTTPError, OSError) as error:
        host = urlsplit(run.source.root).hostname
        run.status = "failed" if run.reached else "unreachable"
        run.reason = f"{host}: {type(error).__name__}: {error}"[:300]
        if not run.reached and isinstance(error, (requests.ConnectionError, requests.Timeout)):
            run.reason = f"{host} cannot be reached"
    except WrongHash as error:
        run.status, run.reason = "wrong bytes", str(error)
    except DataError as error:
        run.status, run.reason = "failed", str(error)
    except BaseException as error:
        run.bug = error
    run.seconds = time.monotonic() - start


def _download(run: _Run, session: Any, file: File, timeout: float) -> None:
    """Put one file into its place, in one step, once it is the file that was published."""
    folder = places.downloads()
    target = folder / file.path
    if not target.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"{file.path} points out of {folder}; nothing is written", path=target)
    url = f"{run.source.root}/{file.url}"
    with _get(run, session, url, timeout) as reply:
        if reply.status_code != 200:
            raise DataError(f"{url} answered {reply.status_code}", path=target)
        if "content-encoding" in reply.headers:
            raise DataError(f"{url} came compressed, though that was not asked for", path=target)
        chunked = reply.headers.get("transfer-encoding") == "chunked"
        if not file.sha256 and not chunked and "content-length" not in reply.headers:
            raise DataError(f"{url} states no length: a cut could not be seen", path=target)
        if not os.environ.get("LMJUDGE_CACHE"):
            places.mark(folder.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=".part")
        part = Path(name)
        try:
            with os.fdopen(handle, "wb") as out:
                digest = _copy(run, reply, out, url, timeout)
            _settle(run, file, url, part, target, digest)
        finally:
            part.unlink(missing_ok=True)


def _get(run: _Run, session: Any, url: str, timeout: float) -> Any:
    """Return the reply to a GET, redirects followed only as far as the source's own hosts reach."""
    from requests import Request

    first = urlsplit(url)
    hosts = (first.hostname or "", *_REDIRECTS.get(first.hostname or "", ()))
    for _ in range(6):
        reply = session.get(url, stream=True, allow_redirects=False, timeout=timeout)
        run.reached, run.heard = True, time.monotonic()
        if not reply.is_redirect:
            return reply
        reply.close()
        # The address as requests will ask for it, whatever another parser makes of a backslash.
        url = str(Request("GET", urljoin(url, reply.headers["location"])).prepare().url)
        to = urlsplit(url)
        known = any(f".{to.hostname}".endswith(f".{host}") for host in hosts)
        if "@" in to.netloc or not known or to.scheme not in (first.scheme, "https"):
            raise DataError(
                f"{first.hostname} sends the download on to {to.scheme}://{to.hostname}, which is"
                f" not one of its known hosts ({', '.join(hosts)}); nothing was fetched",
                path=Path(url),
            )
    raise DataError(f"{first.hostname} redirects without an end", path=Path(url))


def _copy(run: _Run, reply: Any, out: Any, url: str, timeout: float) -> str:
    """Return the SHA-256 of the body, once it is in the file.

    Raises DataError for a body that is too large or too slow.
    """
    digest, size, start = hashlib.sha256(), 0, time.monotonic()
    # One read of the socket at a time, so that a trickle of bytes is noticed.
    while chunk := reply.raw.read1(65536):
        run.heard = time.monotonic()
        out.write(chunk)
        digest.update(chunk)
        size += len(chunk)
        run.size += len(chunk)
        spent = run.heard - start
        if size > _LARGEST:
            raise DataError(f"{url} is larger than {_LARGEST:,} bytes", path=Path(url))
        if spent > 6 * timeout and size < _SLOWEST * spent:
            raise DataError(
                f"{url} comes too slowly ({size:,} bytes in {spent:.0f} s)", path=Path(url)
            )
    return digest.hexdigest()


def _settle(run: _Run, file: File, url: str, part: Path, target: Path, digest: str) -> None:
    """Move a whole download to its place; WrongHash where it is not the published file."""
    with _writing:
        lock = locked()
        expected = file.sha256 or lock.get(file.path, {}).get("sha256")
        if not expected:
            if target.suffix == ".jsonl":
                try:
                    for _, row in read_rows(part):
                        if isinstance(row, BadRow):
                            raise row
                except DataError as error:
                    problem = f"{url} gave no JSON lines: {error}; nothing was kept"
                    raise DataError(problem, path=target) from error
            lock[file.path] = {"sha256": digest, "url": url}
        elif digest != expected:
            since = "published" if file.sha256 else "first downloaded (see sources.lock)"
            raise WrongHash(
                f"{url} has the SHA-256 {digest}, the file {since} {expected}; nothing was kept",
                path=target,
                expected=expected,
                found=digest,
            )
        if run.given_up.is_set():
            raise DataError(f"{url} came after it was given up", path=target)
        if not file.sha256:
            body = json.dumps(lock, indent=1, sort_keys=True).encode() + b"\n"
            places.write(places.downloads() / "sources.lock", body)
        os.chmod(part, 0o644)
        os.replace(part, target)
