"""The command line: it only parses, calls and prints."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmjudge import __version__, places
from lmjudge.cli import batching, judging, options, reporting, showing, storing
from lmjudge.cli.saying import say
from lmjudge.errors import LmjudgeError

_EXAMPLES = """\
examples:
  lmjudge reproduce                     run every notebook on shipped verdicts, write the report
  lmjudge run vicuna-scores             one notebook, on released rows or the simulated study
  lmjudge check                         the tables in reports/ against the published numbers
  lmjudge store stats                   what the store of judgments holds
  lmjudge plan judge questions.jsonl model_answer --judge gpt-4o      before a cent is spent
  lmjudge generate, judge, show         answers, verdicts, tables: see --help of each

environment:
  LMJUDGE_DATA      a folder of released rows; looked in before the downloads
  LMJUDGE_CACHE     the store's folder (default: lmjudge's nearest cache/judgments upward)
  LMJUDGE_REPORTS   where tables and pages are written (default: lmjudge's nearest reports)
  LMJUDGE_OFFLINE   1: nothing is fetched, and no model is asked
  LMJUDGE_PRICES    a table of prices of one's own
  OPENAI_API_KEY, OPENAI_BASE_URL       of a judge of one's own
"""
_RUNS = """\
examples:
  lmjudge run --jobs 2 --changed                      all that changed, two at a time
  lmjudge run mtbench-agreement -p votes=my-votes.jsonl
  lmjudge run vicuna-scores --full
  lmjudge run my/notebook.ipynb -p judge=my-model

notebooks:
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of `lmjudge ...`: 0, 1 where something failed or differs, 2 for usage."""
    parsed = _parser().parse_args(arguments)
    parsed.command = shlex.join(["lmjudge", *(sys.argv[1:] if arguments is None else arguments)])
    try:
        return int(parsed.call(parsed))
    except LmjudgeError as error:
        say(f"lmjudge: {error}", sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader (head, less) has closed: nothing is left to say, nor to complain about.
        sys.stdout = None
        return 1
    except KeyboardInterrupt:
        say("lmjudge: interrupted; what was finished is kept", sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    """A parser that takes options between a command's arguments: `judge q.jsonl --judge j a`."""

    _intermixed = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._subparsers is not None or self._intermixed:
            return super().parse_known_args(args, namespace)
        self._intermixed = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._intermixed = False


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="lmjudge",
        description="Judging language models with language models.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"lmjudge {__version__}")
    verbs = parser.add_subparsers(metavar="command", required=True)

    def verb(
        name: str, call: Any, says: str, parent: Any = verbs, epilog: str = ""
    ) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = parent.add_parser(
            name,
            help=says,
            description=says,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.set_defaults(call=call, wrong=made.error)
        return made

    again = verb(
        "reproduce",
        reporting.reproduce,
        "run every notebook on the verdicts that ship with lmjudge, and write the report",
    )
    again.add_argument(
        "--full",
        action="store_true",
        help="then fetch the open sources and add what their original files show",
    )
    again.add_argument(
        "--jobs", type=options.count, metavar="n", help="how many run at a time (default: cores)"
    )
    fetch = verb("fetch", reporting.fetch, "download published sources, each checked")
    fetch.add_argument("names", nargs="*", metavar="name", help="a source (default: the open ones)")
    listed = "".join(f"  {stem:22} {title}\n" for stem, title in places.titles().items())
    run = verb("run", reporting.run, "run notebooks and make their pages", epilog=_RUNS + listed)
    run.add_argument("stems", nargs="*", metavar="stem", help="a notebook (default: all)")
    run.add_argument(
        "-p",
        action="append",
        default=[],
        type=_pair,
        metavar="name=value",
        help="a parameter, for every notebook that has it",
    )
    run.add_argument(
        "--source", default="auto", choices=("auto", "published", "simulated"), help="the rows used"
    )
    run.add_argument(
        "--full", action="store_true", help="read the original files of the sources fetched here"
    )
    run.add_argument(
        "--jobs", type=options.count, default=1, metavar="n", help="how many run at a time"
    )
    run.add_argument(
        "--changed",
        action="store_true",
        help="skip those whose table rests on the same cells, parameters, data, records and code",
    )
    for one in (again, run):
        one.add_argument("--open", action="store_true", help="open the report in the browser")
    check = verb(
        "check", reporting.check, "hold the tables in reports/ against the published numbers"
    )
    check.add_argument("stems", nargs="*", metavar="stem", help="a table (default: all)")
    check.add_argument(
        "--evidence",
        action="store_true",
        help="instead, make the evidence pages and their digests again from the store, and compare",
    )
    plan = verb("plan", None, "tell what generate or judge would ask and cost; nothing is asked")
    batch = verb("batch", None, "ask by OpenAI's Batch API: half the price, within a day")
    deeds = batch.add_subparsers(metavar="command", required=True)
    export = verb("export", None, "write what the store lacks as a file of requests", deeds)
    export.add_argument("file", type=Path, help="the .jsonl to write; more files are numbered")
    parents = {"plan": plan, "export": export}
    shared = {
        deed: one.add_subparsers(metavar="command", required=True) for deed, one in parents.items()
    }
    for deed, parent in {"ask": verbs, **shared}.items():
        says = "ask a model to answer questions"
        generate = verb("generate", judging.generate, says, parent, options.GENERATING)
        options.generating(generate)
        # Twenty lines of options would bury the one that says what is wrong.
        generate.usage = "%(prog)s [questions] (--model | --local) NAME [options: --help]"
        says = "ask judges for verdicts on answers"
        judge = verb("judge", judging.judge, says, parent, options.JUDGING)
        options.judging(judge)
        judge.usage = "%(prog)s questions [answers ...] (--judge | --local) NAME [options: --help]"
        for one in (generate, judge):
            one.set_defaults(deed=deed)
    submit = verb("submit", batching.submit, "send files of requests, each once", deeds)
    submit.add_argument("files", nargs="+", type=Path, metavar="file")
    collect = verb("collect", batching.collect, "keep a batch's results in the store", deeds)
    collect.add_argument("file", type=Path, help="the file that was sent")
    collect.add_argument("results", nargs="*", type=Path, help="results downloaded already")
    for one in (submit, collect):
        options.serving(one)
    show = verb("show", showing.show, "show judgments as tables", epilog=options.SHOWING)
    options.showing(show)
    says = "say which of several judges to use, from people's votes"
    options.auditing(verb("audit", showing.audit, says, epilog=options.AUDITING))
    store = verb("store", None, "look after the store of judgments")
    store.add_argument("--path", type=Path, help="its folder (default: the nearest one)")
    deeds = store.add_subparsers(metavar="command", required=True)
    verb("stats", storing.stats, "count what the store holds", deeds)
    verb("verify", storing.verify, "check every record against its SHA-256", deeds)
    out = verb("export", storing.export, "write records to one file (.jsonl.zst)", deeds)
    out.add_argument("out", type=Path, help="the file to write, such as all.jsonl.zst")
    out.add_argument("--force", action="store_true", help="write over a file that is there")
    out.add_argument(
        "--without", nargs="+", default=[], metavar="PROVIDER", help="leave these records out"
    )
    out.add_argument(
        "--public",
        action="store_true",
        help="leave out sources that may not be passed on to anyone: without a licence,"
        " non-commercial, behind a login, or unknown",
    )
    out.add_argument(
        "--only",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="only the records that these rows rest on: files of lmjudge judge or generate",
    )
    merge = verb("merge", storing.merge, "add the records of other stores and exports", deeds)
    merge.add_argument("sources", nargs="+", type=Path, metavar="source")
    merge.add_argument(
        "--accept-changed",
        action="store_true",
        help="take the earlier of two replies, even where it is not the one that this store holds",
    )
    verb("seal", storing.seal, "make the store readable from read-only media", deeds)
    explain = verb("explain", storing.explain, "tell the stored request nearest to one", deeds)
    explain.add_argument(
        "request", type=Path, help="a file holding the request's JSON (- for stdin)"
    )
    return parser


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not name=value")
    return name, value
