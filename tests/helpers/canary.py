"""A key that must be found nowhere, and where to look for it: as it is, encoded and compressed."""

from __future__ import annotations

import base64
import binascii
import gzip
import io
import json
import re
import sqlite3
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

import zstandard

KEY = "canary/7Q+d41d8cd98f00b204e9800998ecf8427e"
_WORDS = re.compile(rb"[A-Za-z0-9+/_=-]{24,}")


def tells(data: bytes) -> bool:
    """Whether bytes hold the key: plain, backwards, in a URL, in JSON, in hex or in base64."""
    seen = [data, data[::-1], data.replace(b"\\/", b"/"), unquote_to_bytes(data)]
    for word in set(_WORDS.findall(data)):
        for shift in range(4):
            part = word[shift:].translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
            with_end = part[: len(part) // 4 * 4]
            try:
                seen.append(base64.b64decode(with_end))
                seen.append(bytes.fromhex(word[shift % 2 :].decode()))
            except (binascii.Error, ValueError):
                continue
    # Half a key is one found too: a message may have been cut in the middle of it.
    halves = KEY[:20].encode(), KEY[-20:].encode()
    return any(half in one for one in seen for half in halves)


def unpacked(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """What is in a file: its bytes, and what is packed in them."""
    yield name, data
    if data.startswith(b"\x1f\x8b"):
        yield from unpacked(f"{name} (gzip)", gzip.decompress(data))
    elif data.startswith(b"\x28\xb5\x2f\xfd"):
        whole = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read()
        yield from unpacked(f"{name} (zstd)", whole)
    elif data.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(data)) as parts:
            for part in parts.namelist():
                yield from unpacked(f"{name}: {part}", parts.read(part))
    elif data.startswith(b"SQLite format 3\x00") and Path(name).is_file():
        rows = sqlite3.connect(f"file:{quote(name)}?mode=ro", uri=True)
        for table, *_ in rows.execute("SELECT name FROM sqlite_master WHERE type = 'table'"):
            for row in rows.execute(f"SELECT * FROM {table}"):
                for item in row:
                    content = item if isinstance(item, bytes) else str(item).encode()
                    yield from unpacked(f"{name}: {table}", content)
        rows.close()


def found_in(folder: Path) -> set[str]:
    """The files under a folder that hold the key, each with what of it does."""
    return {
        where
        for path in folder.rglob("*")
        if path.is_file()
        for where, data in unpacked(str(path), path.read_bytes())
        if tells(data)
    }


def encoded() -> dict[str, str]:
    """The key in other spellings, by their names."""
    return {
        "plain": KEY,
        "in a URL": f"https://x/?key={quote(KEY, safe='')}&y=1",
        "in hex": KEY.encode().hex(),
        "in JSON": json.dumps({"k": KEY}),
        "in base64": base64.b64encode(KEY.encode()).decode(),
        "in basic authorization": base64.b64encode(f"me:{KEY}".encode()).decode(),
        "in a URL's base64": base64.urlsafe_b64encode(f"u:{KEY}".encode()).decode(),
    }
