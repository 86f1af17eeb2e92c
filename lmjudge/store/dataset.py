"""A store as a data set: Parquet shards with a card, which `datasets` loads and `merge` reads.

A row is a record: key, provider, model, sample, text (the reply's), request and reply (JSON), and
sha256, which ends the record's line. A reader can build the same line from these, byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lmjudge.canonical import canonical_json
from lmjudge.errors import DamagedStore
from lmjudge.records import Record
from lmjudge.store.disk import LARGEST

COLUMNS = ("key", "provider", "model", "sample", "text", "request", "reply", "sha256")
_OF_A_SHARD = 50_000  # rows
_FILE = "train-{:05d}-of-{:05d}.parquet"
_CARD = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/*.parquet
tags:
- llm-as-a-judge
- lmjudge
---

# {title}

{count:,} calls of language models, recorded by lmjudge: each request as it was sent, and the reply.
SHA-256 of all records: `{digest}`.

```python
import datasets

rows = datasets.load_dataset("owner/name", split="train")
```

`lmjudge store merge FOLDER` adds the records to a store, after a check of each against its SHA-256.
`text` is the reply; `request` and `reply` are JSON, and `key` is the SHA-256 of the request.

## Licences

| provider | records | licence |
| --- | --- | --- |
{licences}

Left out: {left_out}.

## Citation

Cite the digest above, and the works that the providers' records come from:
{title}, {count:,} records, SHA-256 {digest}.
"""


def row_of(record: Record) -> dict[str, Any]:
    """Return a record as a row of the data set."""
    request = record.request
    return {
        "key": request.key,
        "provider": request.provider,
        "model": request.model,
        "sample": request.sample,
        "text": record.reply.text,
        "request": request.canonical.decode(),
        "reply": canonical_json(record.reply.as_json()).decode(),
        "sha256": record.digest,
    }


def line_of(row: Mapping[str, Any]) -> bytes:
    """Return the line of the record that a row holds; it is not checked."""
    names = ("key", "reply", "request", "sha256")
    key, reply, request, digest = (str(row[name]).encode() for name in names)
    return b'{"key":"%s","reply":%s,"request":%s,"sha256":"%s"}' % (key, reply, request, digest)


def write(folder: Path, records: Iterable[Record]) -> None:
    """Write the shards of a data set into a folder."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"sample": pa.int64()}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS])
    shards, batch = 0, list[dict[str, Any]]()

    def put() -> None:
        nonlocal shards, batch
        table = pa.Table.from_pylist(batch, schema=schema)
        pq.write_table(table, folder / f"{shards}.parquet", compression="zstd")
        shards, batch = shards + 1, []

    for record in records:
        batch.append(row_of(record))
        if len(batch) == _OF_A_SHARD:
            put()
    if batch or not shards:
        put()
    for shard in range(shards):
        (folder / f"{shard}.parquet").rename(folder / _FILE.format(shard, shards))


def card(
    title: str,
    digest: str,
    taken: Mapping[str | None, int],
    left_out: Mapping[str | None, int],
    licence: Callable[[str | None], str],
) -> str:
    """Return the README.md of a data set: how to load and cite it, whose records, what is not."""
    rows = [
        f"| {name or 'calls of the owner'} | {taken[name]:,} | {licence(name)} |"
        for name in sorted(taken, key=str)
    ]
    left = ", ".join(f"{left_out[name]:,} of {name}" for name in sorted(left_out, key=str))
    return _CARD.format(
        title=title,
        count=sum(taken.values()),
        digest=digest,
        licences="\n".join(rows),
        left_out=left or "nothing",
    )


def shards_in(source: Path) -> list[Path]:
    """Return the Parquet files of a data set: itself, or those of a folder or of its `data`."""
    if source.is_dir():
        return sorted([*source.glob("*.parquet"), *source.glob("data/*.parquet")])
    return [source] if source.suffix == ".parquet" else []


def lines_in(path: Path) -> Iterator[bytes]:
    """Yield the lines of the records in a Parquet file; DamagedStore for another file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(64, columns=["key", "request", "reply", "sha256"]):
                for row in batch.to_pylist():
                    line = line_of(row)
                    if len(line) > LARGEST:
                        raise DamagedStore(f"{path} has a record of over {LARGEST} bytes", keys=[])
                    yield line
    except (OSError, KeyError, pa.ArrowException) as error:
        raise DamagedStore(
            f"{path} is not a data set of records ({error}); export it again, or give another file",
            path=path,
            keys=[],
        ) from error
