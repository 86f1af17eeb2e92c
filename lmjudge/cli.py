"""The command line: it only parses, calls and prints."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmjudge import __version__
from lmjudge.errors import LmjudgeError

if TYPE_CHECKING:
    from lmjudge.report import Run


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of `lmjudge ...`: 0, 1 where something failed or differs, 2 for usage."""
    parsed = _parser().parse_args(arguments)
    try:
        return int(parsed.call(parsed))
    except LmjudgeError as error:
        _say(f"lmjudge: {error}", sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader (head, less) has closed: nothing is left to say, nor to complain about.
        sys.stdout = None
        return 1
    except KeyboardInterrupt:
        _say("lmjudge: interrupted; what was finished is kept", sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lmjudge", description="Judging language models with language models."
    )
    parser.add_argument("--version", action="version", version=f"lmjudge {__version__}")
    verbs = parser.add_subparsers(metavar="command", required=True)

    def verb(name: str, call: Any, says: str, parent: Any = verbs) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = parent.add_parser(name, help=says, description=says)
        made.set_defaults(call=call)
        return made

    verb("reproduce", _reproduce, "fetch the open sources, run every notebook, write the report")
    fetch = verb("fetch", _fetch, "download published sources, each checked")
    fetch.add_argument("names", nargs="*", metavar="name", help="a source (default: the open ones)")
    run = verb("run", _run, "run notebooks and make their pages")
    run.add_argument("stems", nargs="*", metavar="stem", help="a notebook (default: all)")
    run.add_argument(
        "-p",
        action="append",
        default=[],
        type=_pair,
        metavar="name=value",
        help="a parameter of a notebook",
    )
    run.add_argument(
        "--source", default="auto", choices=("auto", "published", "simulated"), help="the rows used"
    )
    check = verb("check", _check, "hold the tables in reports/ against the published numbers")
    check.add_argument("stems", nargs="*", metavar="stem", help="a table (default: all)")
    store = verb("store", None, "look after the store of judgments")
    store.add_argument("--path", type=Path, help="its folder (default: the nearest one)")
    deeds = store.add_subparsers(metavar="deed", required=True)
    verb("stats", _stats, "count what the store holds", deeds)
    verb("verify", _verify, "check every record against its SHA-256", deeds)
    out = verb("export", _export, "write all records to one file (.jsonl.zst)", deeds)
    out.add_argument("out", type=Path, help="the file to write, such as all.jsonl.zst")
    merge = verb("merge", _merge, "add the records of other stores and exports", deeds)
    merge.add_argument("sources", nargs="+", type=Path, metavar="source")
    verb("seal", _seal, "make the store readable from read-only media", deeds)
    explain = verb("explain", _explain, "tell the stored request nearest to one", deeds)
    explain.add_argument(
        "request", type=Path, help="a file holding the request's JSON (- for stdin)"
    )
    return parser


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not name=value")
    return name, value


def _reproduce(parsed: argparse.Namespace) -> int:
    from lmjudge.data import fetch

    for source in fetch(progress=sys.stderr.isatty()).to_dict("records"):
        _say(_fetched(source))
    return _run_and_index(None, "auto", {})


def _fetch(parsed: argparse.Namespace) -> int:
    from lmjudge.data import fetch

    rows = fetch(parsed.names or None, progress=sys.stderr.isatty()).to_dict("records")
    for source in rows:
        _say(_fetched(source))
    return int(any(source["status"] not in ("present", "fetched") for source in rows))


def _fetched(source: dict[str, Any]) -> str:
    told = f"{source['source']}: {source['status']}"
    if source["status"] in ("present", "fetched"):
        return f"{told}, {source['files']} files ({source['licence']})"
    return f"{told}: {source['reason']}"


def _run(parsed: argparse.Namespace) -> int:
    return _run_and_index(parsed.stems or None, parsed.source, dict(parsed.p))


def _run_and_index(stems: Sequence[str] | None, source: str, parameters: dict[str, str]) -> int:
    """Runs notebooks, telling of each as it ends; the page of all is written even if some fail."""
    from lmjudge.errors import ReportError
    from lmjudge.report import run, write_index

    code = 0
    try:
        run(stems, source=source, parameters=parameters, each=_tell)
    except ReportError as error:
        if not hasattr(error, "failed"):
            raise
        code = 1
    _say(f"the report: {write_index().resolve()}")
    return code


def _tell(one: Run) -> None:
    if one.error:
        _say(f"lmjudge: {one.stem}: {one.error} (page: {one.page})", sys.stderr)
    else:
        _say(f"{one.stem}: {one.source or 'no table'}, {one.page}")


def _check(parsed: argparse.Namespace) -> int:
    from lmjudge.report import check, differing

    checked = check(parsed.stems or None)
    wrong = differing(checked)
    for cell in wrong.to_dict("records"):
        _say(
            f"{cell['stem']}: {cell['table']} / {cell['row']} / {cell['column']}: ours"
            f" {cell['ours_printed']} (n {cell['n']:g}), printed {cell['printed']}"
            f" (n {cell['n_printed']})"
        )
    if checked.empty:
        _say(
            "nothing to compare: no table here has cells that a paper printed; run notebooks first"
        )
    else:
        _say(f"{len(checked) - len(wrong)} of {len(checked)} cells are as printed")
    return int(len(wrong) > 0)


def _store(parsed: argparse.Namespace) -> Path:
    from lmjudge import places

    return parsed.path or places.judgments()


def _stats(parsed: argparse.Namespace) -> int:
    from lmjudge.store import exchange

    for name, value in exchange.stats(_store(parsed)).items():
        if isinstance(value, dict):
            for model, count in value.items():
                _say(f"  {model}: {count}")
        else:
            _say(f"{name}: {value}")
    return 0


def _verify(parsed: argparse.Namespace) -> int:
    from lmjudge.store import exchange

    found = exchange.verify(_store(parsed))
    for key, why in found.damaged.items():
        _say(f"damaged: {key}: {why}")
    _say(
        f"{found.keys} keys, {found.records} records ({found.observations} observations),"
        f" {len(found.damaged)} damaged; SHA-256 {found.digest}"
    )
    return int(bool(found.damaged))


def _export(parsed: argparse.Namespace) -> int:
    from lmjudge.store import exchange

    count, digest = exchange.export(_store(parsed), parsed.out)
    _say(f"{count} records in {parsed.out}; SHA-256 {digest}")
    return 0


def _merge(parsed: argparse.Namespace) -> int:
    from lmjudge.store import exchange

    code = 0
    for source, added in exchange.merge(_store(parsed), parsed.sources).items():
        _say(
            f"{source}: {added.new} new, {added.known} known, {added.observations} observations,"
            f" {len(added.changed)} replies changed, {len(added.refused)} refused"
        )
        for why in added.refused:
            code = 1
            _say(f"refused: {why}")
    return code


def _seal(parsed: argparse.Namespace) -> int:
    from lmjudge.store import exchange

    _say(f"sealed: {exchange.seal(_store(parsed))}")
    return 0


def _explain(parsed: argparse.Namespace) -> int:
    from lmjudge.errors import RequestError
    from lmjudge.records import Request
    from lmjudge.store import Store

    path = str(parsed.request)
    try:
        text = sys.stdin.read() if path == "-" else parsed.request.read_text(encoding="utf-8")
        request = Request.from_json(json.loads(text))
    except (OSError, ValueError, AttributeError) as error:
        raise RequestError(f"{path} holds no request ({error})", value=path, path="$") from error
    stored, differences = Store(_store(parsed)).explain(request)
    _say(f"asked:  {request.key}")
    _say(f"stored: {stored.key if stored else 'nothing'}")
    for field, (asked, held) in differences.items():
        _say(f"  {field}: asked {json.dumps(asked)}, stored {json.dumps(held)}")
    return int(stored is None or bool(differences))


def _say(text: str, stream: Any = None) -> None:
    """One line, without the control characters that data may hold."""
    from lmjudge.report.files import plain

    print(plain(text), file=stream or sys.stdout)
