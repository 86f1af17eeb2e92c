"""The tables of sources and files, and finding what they name."""

import hashlib
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import pytest

from lmjudge.data import SOURCES, find
from lmjudge.errors import DataMissing, WrongHash

ROLES = {"questions", "references", "prompts", "answers", "votes"}
ROLES |= {"scores", "games", "reviews", "threeclass"}
ROLES |= {"instructions", "rouge", "pairs", "templates"}


def test_every_source_says_where_it_comes_from_and_under_which_licence() -> None:
    for name, source in SOURCES.items():
        address = urlsplit(source.root)
        assert source.name == name
        assert source.files
        assert source.licence
        assert address.scheme == "https"
        # A commit, or the branch that a hub's link names.
        parts = address.path.split("/")
        assert "resolve" in parts or len(parts[3]) >= 8
        assert source.bench in ("", "mt_bench", "vicuna_bench")
        assert source.by_default == (source.licence != "none stated" and not source.asks)


def test_every_file_has_a_role_a_place_and_at_most_one_hash() -> None:
    known: dict[str, str] = {}
    for source in SOURCES.values():
        for file in source.files:
            place = PurePosixPath(file.path)
            assert file.role in ROLES
            assert not place.is_absolute()
            assert ".." not in place.parts
            assert not file.sha256 or len(bytes.fromhex(file.sha256)) == 32
            # Of the same path in two sources, the same bytes are expected.
            assert known.setdefault(file.path, file.sha256) == file.sha256


def test_hashes_are_those_of_the_released_files(published_data: Path) -> None:
    lines = (published_data / "SHA256SUMS").read_text().splitlines()
    sums = {path: digest for digest, path in (line.split("  ", 1) for line in lines)}
    checked = 0
    for source in SOURCES.values():
        for file in source.files:
            if file.sha256 and file.path in sums:
                assert file.sha256 == sums[file.path], file.path
                assert find(source.name, file) == published_data / file.path
                checked += 1
    assert checked > 100


def test_a_changed_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMJUDGE_DATA", str(tmp_path))
    file = SOURCES["fastchat"].having("prompts")[0]
    path = tmp_path / file.path
    path.parent.mkdir(parents=True)
    path.write_text("{}\n")
    with pytest.raises(WrongHash, match="a file of your own") as caught:
        find("fastchat", file)
    assert caught.value.path == path
    assert caught.value.expected == file.sha256
    assert caught.value.found == hashlib.sha256(b"{}\n").hexdigest()


def test_what_is_missing_is_named_with_places_licence_and_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "given").mkdir()
    monkeypatch.setenv("LMJUDGE_DATA", str(tmp_path / "given"))
    monkeypatch.setenv("LMJUDGE_CACHE", str(tmp_path / "cache" / "judgments"))
    with pytest.raises(DataMissing) as caught:
        find("prd", SOURCES["prd"].files[0])
    message = str(caught.value)
    for part in (str(tmp_path / "given"), str(tmp_path / "cache" / "data"), "MIT"):
        assert part in message
    assert "lmjudge fetch prd" in message
    assert caught.value.source == "prd"
    with pytest.raises(DataMissing, match=r"no-such\.jsonl"):
        find("prd", "no-such.jsonl")
