"""A model's files on this machine, and the name that tells one checkpoint from another."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lmjudge.errors import EndpointError

# How all is read: nothing more is fetched, no code beside a model runs, and nobody is asked whether
# it may.
READING: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
FILES = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")


def need_torch() -> None:
    """Nothing; EndpointError where torch or transformers is not installed."""
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ModuleNotFoundError as error:
        raise EndpointError(
            f"{error.name} is not installed, and a model on this machine needs it;"
            ' pip install -e ".[train]"',
            name="train",
        ) from error


def loading_errors() -> tuple[type[Exception], ...]:
    """What transformers raises for files that are no model, or a damaged one."""
    from safetensors import SafetensorError

    return (OSError, ValueError, RuntimeError, KeyError, AttributeError, SafetensorError)


@contextmanager
def without_bars() -> Iterator[None]:
    """A while in which transformers shows no bars for files read and written."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def longest_of(model: Any, tokenizer: Any) -> int:
    """The most tokens that a model reads: the least of what it and its tokenizer say."""
    config = model.config.get_text_config()
    said = getattr(config, "max_position_embeddings", None) or 1_000_000
    return int(min(said, tokenizer.model_max_length))


def folder_of(model: str | os.PathLike[str], revision: str | None = None) -> Path:
    """Where a model's files lie: the folder itself, or where the hub's files of an id are kept.

    They are fetched, if need be, unless LMJUDGE_OFFLINE=1. Raises EndpointError for what is
    neither, and for weights that are not safetensors (others are pickled, and reading them runs
    what is in them).
    """
    folder = Path(model)
    if not folder.is_dir():
        need_torch()
        from huggingface_hub import snapshot_download

        try:
            found = snapshot_download(
                os.fspath(model),
                revision=revision,
                allow_patterns=list(FILES),
                local_files_only=os.environ.get("LMJUDGE_OFFLINE") == "1",
            )
        except (OSError, ValueError) as error:  # the hub's own errors are of these kinds
            raise EndpointError(
                f"{os.fspath(model)!r} is no folder here, and no model that the hub gives"
                f" ({error}); give the folder of a model, or the id of one",
                name="model",
            ) from error
        folder = Path(found)
    if not list(folder.glob("*.safetensors")):
        raise EndpointError(
            f"{folder} holds no *.safetensors; expected a model in transformers' format, whose"
            " weights are not pickled",
            name="model",
        )
    return folder


def name_of(model: str | os.PathLike[str], folder: Path) -> str:
    """The name of a checkpoint: a folder's with the digest of its files, a hub id with its commit.

    The digest is over the names and contents of what transformers reads.
    """
    if not Path(model).is_dir():
        return f"{os.fspath(model)}@{folder.name[:12]}"
    total = hashlib.sha256()
    for path in sorted({path for form in FILES for path in folder.glob(form)}):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.name}\0{content}\n".encode())
    return f"{folder.resolve().name}@{total.hexdigest()[:12]}"
