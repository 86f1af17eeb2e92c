"""Find published files on this machine, and check them against their SHA-256."""

from __future__ import annotations

import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path

from lmjudge import places
from lmjudge.data.sources import File, Source, source_named
from lmjudge.errors import DataError, DataMissing, WrongHash


def find(source: str, file: File | str) -> Path:
    """Return the path of a source's file, after a check of its bytes.

    Looks in `$LMJUDGE_DATA`, then in `cache/data` (beside the store's folder). `file` is one of the
    source's files, or its path. Raises DataMissing, with the command that gets the file, and
    WrongHash if the SHA-256 is not the original's, or not that of the first download.
    """
    entry = source_named(source)
    known = {listed.path: listed for listed in entry.files}
    path = file.path if isinstance(file, File) else file
    folders = looked_in()
    for folder in folders:
        if path in known and (folder / path).is_file():
            first = locked().get(path, {}) if folder == places.downloads() else {}
            return _checked(folder / path, known[path].sha256 or first.get("sha256"))
    raise DataMissing(
        f"{path} of the source {source} is not in {' or '.join(map(str, folders))}"
        f" (licence: {entry.licence}); {how_to_get(entry)}",
        source=source,
        path=folders[-1] / path,
    )


def place(source: str, role: str) -> list[tuple[Path, str]]:
    """Return the paths of a source's files of one role, and the model of each.

    If one is missing, looks for another copy of them all. Raises as `find` does.
    """
    files = source_named(source).having(role)
    if not files:
        raise DataMissing(
            f"the source {source} holds no {role}, only"
            f" {', '.join(dict.fromkeys(file.role for file in source_named(source).files))}",
            source=source,
            path=Path(source),
        )
    try:
        return [(find(source, file), file.model) for file in files if file.url]
    except DataMissing as missing:
        for copy in (file for file in files if not file.url):
            try:
                return [(find(source, copy), copy.model)]
            except DataMissing:
                continue
        raise missing


def fetched(source: str) -> bool:
    """Return whether every file of a source is here. Raises WrongHash as `find` does.

    >>> fetched("mt-bench") in (True, False)
    True
    """
    roles = dict.fromkeys(file.role for file in source_named(source).files)
    try:
        for role in roles:
            place(source, role)
    except DataMissing:
        return False
    return True


def looked_in() -> list[Path]:
    """Return the folders in which published files are looked for, in order."""
    given = os.environ.get("LMJUDGE_DATA")
    if given and not Path(given).is_dir():
        raise DataError(
            f"LMJUDGE_DATA is {given!r}, which is no folder; unset it, or set it to one",
            path=Path(given),
        )
    return [*([Path(given)] if given else []), places.downloads()]


def how_to_get(source: Source) -> str:
    """Return the sentence that says how to get a source."""
    if not source.asks:
        return f"no login is asked for; get it with: lmjudge fetch {source.name}"
    folder = places.downloads() / Path(source.files[0].path).parts[0]
    return (
        f"it asks for {source.asks}: accept them at {source.homepage}, then get it with: hf"
        f" download --repo-type dataset --revision {source.root.rpartition('/')[2]}"
        f" --local-dir {folder} {source.homepage.partition('datasets/')[2]}"
    )


def locked() -> dict[str, dict[str, str]]:
    """Return what `sources.lock` holds: path -> the SHA-256 and address of its first download."""
    path = places.downloads() / "sources.lock"
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} is not JSON ({error}); mend or remove it", path=path) from error


def _checked(path: Path, expected: str | None) -> Path:
    """Return the path itself, once its SHA-256 is the expected one, if any; else WrongHash."""
    if expected and (digest := sha256_of(path)) != expected:
        raise WrongHash(
            f"{path} has the SHA-256 {digest}, the published file {expected}: remove it and fetch"
            " it anew, or give its path as a file of your own",
            path=path,
            expected=expected,
            found=digest,
        )
    return path


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, computed once for as long as its size and time stay."""
    state = path.stat()
    return _sha256(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=4096)
def _sha256(path: Path, size: int, mtime: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
