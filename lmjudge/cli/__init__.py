"""The command line: parse arguments, call the library, print."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmjudge import __version__, places
from lmjudge.cli import (
    asking,
    auditing,
    doctor,
    judging,
    options,
    reporting,
    showing,
    storing,
    training,
)
from lmjudge.cli.saying import say
from lmjudge.errors import LmjudgeError

_EXAMPLES = """\
examples:
  lmjudge reproduce                     run every notebook on the shipped verdicts
  lmjudge run vicuna-scores             run one notebook
  lmjudge check                         compare reports/ with the published numbers
  lmjudge store stats                   count the records of the store
  lmjudge doctor                        what is installed, where files are, what is wrong
  lmjudge plan judge questions.jsonl model_answer --judge gpt-4o      calls and price
  lmjudge generate, judge, show         make answers, verdicts, tables (see each --help)

environment:
  LMJUDGE_DATA      a folder of released rows, read before the downloads
  LMJUDGE_CACHE     the store's folder (default: lmjudge's nearest cache/judgments upward)
  LMJUDGE_REPORTS   where tables and pages are written (default: lmjudge's nearest reports)
  LMJUDGE_OFFLINE   1: fetch nothing and call no model
  LMJUDGE_PRICES    your own table of prices
  OPENAI_API_KEY, OPENAI_BASE_URL       for your own judge
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
    """Run `lmjudge ...` and return its exit code: 1 if something failed or differs, 2 for usage."""
    parser = _parser()
    if not (sys.argv[1:] if arguments is None else arguments):
        parser.print_help(sys.stderr)
        parser.exit(2)
    parsed = parser.parse_args(arguments)
    parsed.command = shlex.join(["lmjudge", *(sys.argv[1:] if arguments is None else arguments)])
    try:
        return int(parsed.call(parsed))
    except LmjudgeError as error:
        say(f"lmjudge: {error}", sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of the pipe (head, less) has closed it, which is no error.
        sys.stdout = None
        return 1
    except KeyboardInterrupt:
        say("lmjudge: interrupted; finished replies and files are kept", sys.stderr)
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


class _Completion(argparse.Action):
    """Print a shell's completion script and leave."""

    def __call__(self, parser: argparse.ArgumentParser, _: Any, value: Any, *rest: Any) -> None:
        import shtab

        print(shtab.complete(parser, value))
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="lmjudge",
        description="Measure how far you can trust an LLM judge.",
        epilog=_EXAMPLES,
        formatter_class=options.Help,
    )
    parser.add_argument("--version", action="version", version=f"lmjudge {__version__}")
    parser.add_argument(
        "--completion",
        action=_Completion,
        choices=("bash", "zsh", "tcsh"),
        help='Print the completion of a shell. For bash: eval "$(lmjudge --completion bash)"',
    )
    verbs = parser.add_subparsers(metavar="command", required=True)

    def verb(
        name: str, call: Any, says: str, parent: Any = verbs, epilog: str = ""
    ) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = parent.add_parser(
            name,
            help=says,
            description=says,
            epilog=epilog,
            formatter_class=options.Help,
        )
        command.set_defaults(call=call, wrong=command.error)
        return command

    again = verb(
        "reproduce",
        reporting.reproduce,
        "Run every notebook on the verdicts that ship with lmjudge, and write the report.",
    )
    again.add_argument(
        "--full",
        action="store_true",
        help="Also fetch the open sources, and add the tables that need their original files.",
    )
    again.add_argument(
        "--jobs",
        type=options.count,
        metavar="N",
        help="Run this many notebooks at a time (default: number of cores).",
    )
    fetch = verb("fetch", reporting.fetch, "Download published sources and check their SHA-256.")
    fetch.add_argument(
        "names", nargs="*", metavar="name", help="Source to download (default: all open sources)."
    )
    listed = "".join(f"  {stem:22} {title}\n" for stem, title in places.titles().items())
    run = verb("run", reporting.run, "Run notebooks and write their pages.", epilog=_RUNS + listed)
    run.add_argument("stems", nargs="*", metavar="stem", help="Notebook to run (default: all).")
    run.add_argument(
        "-p",
        action="append",
        default=[],
        type=_parameter,
        metavar="name=value",
        help="Set a notebook parameter. Repeat for several.",
    )
    run.add_argument(
        "--full",
        action="store_true",
        help="Read the original files of the sources that you fetched.",
    )
    run.add_argument(
        "--jobs",
        type=options.count,
        default=1,
        metavar="N",
        help="Run this many notebooks at a time (default: 1).",
    )
    run.add_argument(
        "--changed",
        action="store_true",
        help="Skip notebooks whose cells, parameters, data, records and code did not change.",
    )
    for command in (again, run):
        command.add_argument("--open", action="store_true", help="Open the report in the browser.")
    check = verb(
        "check", reporting.check, "Compare the tables in reports/ with the published numbers."
    )
    check.add_argument("stems", nargs="*", metavar="stem", help="Table to compare (default: all).")
    check.add_argument(
        "--evidence",
        action="store_true",
        help="Rebuild the evidence pages from the store and compare their digests instead.",
    )
    plan = verb("plan", None, "Show the calls a run would make and their cost. Makes no call.")
    batch = verb("batch", None, "Use OpenAI's Batch API: half the price, within a day.")
    batches = batch.add_subparsers(metavar="command", required=True)
    export = verb("export", None, "Write the requests that the store lacks to a file.", batches)
    export.add_argument("file", type=Path, help=".jsonl file to write. Further files are numbered.")
    parents = {"plan": plan, "export": export}
    shared = {
        deed: parser.add_subparsers(metavar="command", required=True)
        for deed, parser in parents.items()
    }
    for deed, parent in {"ask": verbs, **shared}.items():
        says = "Ask a model to answer questions."
        generate = verb("generate", judging.generate, says, parent, options.GENERATING)
        options.generating(generate)
        # A usage of twenty lines of options would hide the error below it.
        generate.usage = "%(prog)s [questions] (--model | --local) NAME [options: --help]"
        says = "Ask judges for verdicts on answers."
        judge = verb("judge", judging.judge, says, parent, options.JUDGING)
        options.judging(judge)
        judge.usage = "%(prog)s questions [answers ...] (--judge | --local) NAME [options: --help]"
        for command in (generate, judge):
            command.set_defaults(deed=deed)
    submit = verb("submit", asking.submit, "Send files of requests. Sends each file once.", batches)
    submit.add_argument(
        "files", nargs="+", type=Path, metavar="file", help="File of lmjudge batch export."
    )
    collect = verb("collect", asking.collect, "Add a batch's results to the store.", batches)
    collect.add_argument("file", type=Path, help="File that was sent.")
    collect.add_argument(
        "results", nargs="*", type=Path, help="Results that you downloaded already."
    )
    for command in (submit, collect):
        options.serving(command)
    show = verb("show", showing.show, "Show judgments as tables.", epilog=options.SHOWING)
    options.showing(show)
    says = "Recommend one of several judges, from people's votes."
    options.auditing(verb("audit", auditing.audit, says, epilog=options.AUDITING))
    says = "Check judgments against thresholds, for a CI job."
    options.gating(verb("gate", auditing.gate, says, epilog=options.GATING))
    says = "Show what a new run of a judge changed."
    options.comparing(verb("compare", auditing.compare, says, epilog=options.COMPARING))
    training.arguments(verb, verbs)
    says = "Show versions, folders, data and the server's answer, and what is wrong."
    options.serving(verb("doctor", doctor.doctor, says))
    store = verb("store", None, "Inspect, check, export and merge the store.")
    store.add_argument("--store", type=Path, help="Folder of the store (default: the nearest one).")
    store.add_argument("--path", dest="store", type=Path, help=argparse.SUPPRESS)  # as in 0.1
    deeds = store.add_subparsers(metavar="command", required=True)
    verb("stats", storing.stats, "Count the records of the store.", deeds)
    verb("verify", storing.verify, "Check every record against its SHA-256.", deeds)
    out = verb("export", storing.export, "Write records to one file (.jsonl.zst).", deeds)
    out.add_argument("out", type=Path, help="File to write, such as all.jsonl.zst.")
    out.add_argument("--force", action="store_true", help="Overwrite an existing file.")
    out.add_argument(
        "--without",
        nargs="+",
        default=[],
        metavar="PROVIDER",
        help="Leave out the records of these providers.",
    )
    out.add_argument(
        "--parquet",
        action="store_true",
        help="Write a folder of Parquet files with a data set card, public unless --no-public.",
    )
    out.add_argument(
        "--public",
        action=argparse.BooleanOptionalAction,
        help="Leave out sources that you may not pass on to everyone: without a licence,"
        " non-commercial, behind a login, or unknown.",
    )
    out.add_argument(
        "--only",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="Write only the records behind these files of lmjudge judge or generate.",
    )
    merge = verb("merge", storing.merge, "Add the records of other stores and exports.", deeds)
    merge.add_argument(
        "sources", nargs="+", type=Path, metavar="source", help="Folder of a store, or an export."
    )
    merge.add_argument(
        "--accept-changed",
        action="store_true",
        help="Keep the earlier of two replies, even if it replaces the one in this store.",
    )
    verb("seal", storing.seal, "Make the store readable from read-only media.", deeds)
    explain = verb("explain", storing.explain, "Show the stored request nearest to yours.", deeds)
    explain.add_argument("request", type=Path, help="File with the request's JSON (- for stdin).")
    return parser


def _parameter(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not name=value")
    return name, value
