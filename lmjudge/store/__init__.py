"""The content-addressed store: asking, the file, the exchange between stores."""

from lmjudge.store.store import Added, Counted, Mode, Shard, Shelf, Store

__all__ = ["Added", "Counted", "Mode", "Shard", "Shelf", "Store"]
