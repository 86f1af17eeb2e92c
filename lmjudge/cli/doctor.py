"""The command that shows what is installed, where files are, and what is wrong."""

from __future__ import annotations

import argparse
import os
import platform
import re
from collections.abc import Iterator
from contextlib import closing
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryFile

from lmjudge import __version__, places
from lmjudge.cli.saying import say

_EXTRA = re.compile(r"([\w.-]+).*; extra == ['\"](\w+)['\"]")
_BUILDING = ("dev", "docs")  # extras that only those who change lmjudge need
_WAIT = 5.0  # seconds


def doctor(parsed: argparse.Namespace) -> int:
    """Print the state, then each fault with the command that fixes it; return 1 if there is one."""
    faults = []
    for name, state, fault in [
        *_software(),
        *_folders(parsed.store),
        *_data(),
        *_prices(),
        *_server(parsed),
    ]:
        say(f"{name:10} {state}")
        if fault:
            faults.append(f"{name}: {fault}")
    for fault in faults:
        say(f"wrong: {fault}")
    if not faults:
        say("nothing is wrong")
    return int(bool(faults))


def _software() -> Iterator[tuple[str, str, str]]:
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    yield "lmjudge", f"{__version__}, Python {platform.python_version()}, {system}", ""
    extras: dict[str, list[str]] = {}
    for requirement in metadata.requires("lmjudge") or ():
        if (match := _EXTRA.match(requirement)) and match[2] not in _BUILDING:
            extras.setdefault(match[2], []).append(match[1])
    for extra, packages in extras.items():
        versions = {package: _version(package) for package in packages}
        missing = [package for package, version in versions.items() if not version]
        state = ", ".join(
            f"{package} {version}" for package, version in versions.items() if version
        )
        if missing:
            state = f"{state or 'not installed'}; to add it: pip install {' '.join(missing)}"
        yield f"[{extra}]", state, ""


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _folders(store: Path | None) -> Iterator[tuple[str, str, str]]:
    from lmjudge.errors import LmjudgeError
    from lmjudge.store import Store

    store, fault = store or places.judgments(), ""
    try:
        with closing(Store(store)):
            pass
    except LmjudgeError as error:
        fault = str(error)
    for name, path, variable in (
        ("store", store, "LMJUDGE_CACHE"),
        ("reports", places.reports(), "LMJUDGE_REPORTS"),
        ("downloads", places.downloads(), "LMJUDGE_CACHE"),
    ):
        size = _size(path)
        there = next((p for p in (path, *path.absolute().parents) if p.exists()), path)
        try:
            with TemporaryFile(dir=there):
                pass
        except OSError as error:
            why = f"{path} cannot be written ({error.strerror})"
            fault = fault or f"{why}; set {variable} to another folder"
        yield name, f"{path} ({size / 1e6:,.1f} MB)" if size else f"{path} (empty)", fault
        fault = ""


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _data() -> Iterator[tuple[str, str, str]]:
    from lmjudge.data import SOURCES, rows
    from lmjudge.data.finding import looked_in
    from lmjudge.errors import LmjudgeError

    folders, fault = [], ""
    try:
        folders = looked_in()
    except LmjudgeError as error:
        fault = str(error)
    yield "data", os.environ.get("LMJUDGE_DATA") or "LMJUDGE_DATA is not set", fault
    shipped = set(rows.sources())
    yield "shipped", ", ".join(sorted(shipped)), ""
    fetched = {
        name
        for name, source in SOURCES.items()
        if any((folder / file.path).is_file() for folder in folders for file in source.files)
    }
    rest = len(SOURCES) - len(shipped | fetched)
    state = f"{', '.join(sorted(fetched)) or 'none'}; {rest} others: lmjudge fetch"
    yield "fetched", state, ""


def _prices() -> Iterator[tuple[str, str, str]]:
    from lmjudge.errors import LmjudgeError
    from lmjudge.prices import prices

    try:
        yield "prices", f"{len(prices())} models in the table", ""
    except LmjudgeError as error:
        yield "prices", "not readable", str(error)


def _server(parsed: argparse.Namespace) -> Iterator[tuple[str, str, str]]:
    from lmjudge.cli.asking import server_of
    from lmjudge.errors import EndpointError

    set_key = "set" if os.environ.get("OPENAI_API_KEY") else "not set"
    yield "key", f"OPENAI_API_KEY is {set_key}", ""
    try:
        targets = server_of(parsed).targets()
    except EndpointError as error:
        chosen = parsed.base_url or os.environ.get("OPENAI_BASE_URL")
        yield "server", f"not asked: {error}", str(error) if chosen else ""
        return
    for url, key in targets:
        if os.environ.get("LMJUDGE_OFFLINE") == "1":
            yield "server", f"{url}: not asked (LMJUDGE_OFFLINE=1)", ""
        else:
            state, fault = _answers(url, key, parsed)
            yield "server", f"{url}: {state}", fault


def _answers(url: str, key: str, parsed: argparse.Namespace) -> tuple[str, str]:
    """Return the server's answer to a request for its list of models, and the fault."""
    import httpx2

    from lmjudge.endpoints.network import Network
    from lmjudge.errors import EndpointError

    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        way = Network.to(url, parsed.ca_file)
        with httpx2.Client(
            verify=way.tls, proxy=way.proxy, trust_env=False, timeout=_WAIT
        ) as client:
            status = client.get(
                f"{url.rstrip('/')}/models", headers=headers | dict(parsed.header)
            ).status_code
    except (httpx2.HTTPError, EndpointError) as error:
        return "no answer", f"{url} does not answer ({error}); check OPENAI_BASE_URL, or start it"
    if status in (401, 403):
        return f"status {status}", f"{url} refuses the key; set OPENAI_API_KEY to a valid one"
    if status == 404:
        return "answers, but lists no models", ""
    if status != 200:
        return f"status {status}", f"{url} answers with status {status}; check OPENAI_BASE_URL"
    return "answers" + (" and accepts the key" if key else ""), ""
