"""The content-addressed store: asking through it, its file, and exchange between stores."""

from lmjudge.store.shelf import Added, Counted, Shard, Shelf
from lmjudge.store.store import Mode, Store

__all__ = ["Added", "Counted", "Mode", "Shard", "Shelf", "Store"]
