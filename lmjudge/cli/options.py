"""The options that several commands share."""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmjudge.cli.saying import say

if TYPE_CHECKING:
    import pandas as pd

GENERATING = """\
examples:
  lmjudge plan generate questions.jsonl --model qwen2.5-7b        calls and price
  lmjudge generate questions.jsonl --model qwen2.5-7b --base-url http://localhost:8000/v1
  lmjudge generate questions.jsonl --local my-model/ --recipe mt-bench --limit 20
  lmjudge generate questions.jsonl --model gpt-4o --budget 5.00 --out model_answer
  lmjudge generate --recipe devise --model gpt-4o --count 10 --out questions.jsonl
  lmjudge generate questions.jsonl --recipe translate-zh --model gpt-4o --out questions-zh.jsonl
  lmjudge generate alpaca.json --recipe gpt4llm --model gpt-4 --out alpaca-gpt4.json
  lmjudge generate questions.jsonl --local vicuna/ --chat-template vicuna.jinja --device-map auto

Two recipes write questions. `devise` has a model write questions for each category: the Vicuna
blog's, or those in QUESTIONS, with a category and its description in each row. `translate-zh`
translates questions into Chinese.

Questions are FastChat's, AlpacaEval's, Arena-Hard's, or a CSV, Parquet or JSON lines with a
`question`. Replies in the store are not asked for again: after a stop, run the same command.
"""
JUDGING = """\
examples:
  lmjudge plan judge questions.jsonl model_answer --judge gpt-4o       calls and price
  lmjudge judge questions.jsonl model_answer --judge gpt-4o --limit 20
  lmjudge judge questions.jsonl model_answer --judge gpt-4o --mode pairwise-baseline --baseline old
  lmjudge judge questions.jsonl model_answer --judge gpt-4o --judge qwen --mode pairwise-all
  lmjudge judge pairs.csv --judge gpt-4o --mode pairs
  lmjudge judge alpaca.json gpt4.json gpt3.json opt.json --judge gpt-4 --prompt many --pairs p.json
  lmjudge judge questions.jsonl model_answer --judge gpt-4o \\
      --prompt 'Is this polite? {answer} End in [[1]] to [[5]].' --scale 1,5
  lmjudge judge questions.jsonl model_answer --judge o4-mini --param temperature=null \\
      --param max_tokens=null --param max_completion_tokens=8000 --param reasoning_effort=low
"""
SHOWING = """\
examples:
  lmjudge show judgments-single.jsonl
  lmjudge show judgments-pairwise-all.jsonl --baseline my-old-model --out table.csv
  lmjudge show judgments-single.jsonl --html page.html --questions questions.jsonl
                                                 --answers model_answer
  lmjudge show annotations.json                  AlpacaEval's; FastChat's and Arena-Hard's too
"""


class Help(argparse.RawDescriptionHelpFormatter):
    """Help that says what type an option takes: N, NUMBER, PATH or TEXT."""

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        if isinstance(action.type, partial):
            return "PATH"
        names = {int: "N", count: "N", float: "NUMBER", Path: "PATH"}
        return names.get(action.type, "TEXT")


def count(text: str) -> int:
    """Return a whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def number(expected: str, fits: Callable[[float], bool]) -> Callable[[str], float]:
    """Return a type of numbers that fit; an error says what is expected."""

    def value_of(text: str) -> float:
        try:
            value = float(text.removeprefix("$"))
        except ValueError:
            value = math.nan
        if not fits(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not {expected}")
        return value

    return value_of


share = number("a share from 0 to 1, such as 0.7", lambda value: 0 <= value <= 1)
_DOLLARS = number("a sum of dollars, such as 5.00", lambda value: 0 <= value < math.inf)
_SECONDS = number("a number of seconds above 0", lambda value: 0 < value < math.inf)


def _suffixed(text: str, suffixes: Sequence[str]) -> Path:
    if Path(text).suffix not in suffixes:
        raise argparse.ArgumentTypeError(f"{text!r} does not end in {' or '.join(suffixes)}")
    return Path(text)


def _file(*suffixes: str) -> Callable[[str], Path]:
    """Return the type of a file to write, whose name ends in one of the suffixes."""
    return partial(_suffixed, suffixes=suffixes)


def named(text: str, *, last: bool = False) -> tuple[str, str]:
    """Return the name and the value of name=value, split at the first or the last =."""
    name, equals, value = text.rpartition("=") if last else text.partition("=")
    if not equals or not name or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not name=value")
    return name, value


def _column_or_label(text: str) -> tuple[str, str]:
    return named(text, last=">" in text)


def _price(text: str) -> tuple[str, float]:
    judge, dollars = named(text, last=True)
    return judge, _DOLLARS(dollars)


def _header(text: str) -> tuple[str, str]:
    try:
        return named(text)
    except argparse.ArgumentTypeError:  # its message would quote the value, which is secret
        raise argparse.ArgumentTypeError("expected a header as name=value") from None


def _param(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not name=value")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _turn(text: str) -> int | str:
    return text if text in ("last", "all") else count(text)


def _scale(text: str) -> tuple[float, float]:
    ends = re.fullmatch(r"(-?[\d.]+),(-?[\d.]+)", text)
    try:
        low, high = (float(ends[1]), float(ends[2])) if ends else (1.0, 0.0)
    except ValueError:
        low, high = 1.0, 0.0
    if not low < high:
        raise argparse.ArgumentTypeError(f"{text!r} is not LOW,HIGH, such as 1,5")
    return low, high


def _shard(text: str) -> tuple[int, int]:
    parts = re.fullmatch(r"(\d+)/(\d+)", text)
    if not parts or not 1 <= int(parts[1]) <= int(parts[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not i/n, such as 1/4")
    return int(parts[1]), int(parts[2])


_REPEATED: dict[str, Any] = {"action": "append", "default": [], "type": _column_or_label}


def generating(parser: argparse.ArgumentParser) -> None:
    """The arguments of `lmjudge generate`."""
    parser.add_argument(
        "questions", nargs="?", help="File or folder of questions, or a source's name."
    )
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--model", help="Model name that the server expects.")
    who.add_argument(
        "--local", type=Path, help="Folder or hub id of a model to run here with transformers."
    )
    parser.add_argument("--name", help="Name of the model in the answers (default: its own).")
    parser.add_argument(
        "--recipe",
        choices=("mt-bench", "gpt4llm", "devise", "translate-zh"),
        help="Use the settings of a published work, or write or translate questions.",
    )
    parser.add_argument(
        "--template",
        type=Path,
        metavar="FILE",
        help="Template of the first turn: a text with {question} (and {input}), or a file with"
        " Alpaca's PROMPT_DICT (default with --recipe gpt4llm: the source alpaca-prompts).",
    )
    parser.add_argument(
        "--count", type=count, help="Questions per category, with --recipe devise (default: 10)."
    )
    parser.add_argument(
        "--temperature", type=float, help="Sampling temperature for all categories."
    )
    parser.add_argument("--max-tokens", type=count, help="Maximum tokens of a reply.")
    parser.add_argument("--seed", type=int, help="Seed to send. Grows by one with each sample.")
    parser.add_argument(
        "--out",
        type=Path,
        help=".jsonl file, or folder with a file per model (default: model_answer; for a"
        " shard: none; for a recipe that writes questions: questions-RECIPE.jsonl). A .json file"
        " gets Alpaca's instruction, input and output (default with --recipe gpt4llm:"
        " instructions-gpt4llm.json).",
    )
    _asking(parser)


def judging(parser: argparse.ArgumentParser) -> None:
    """The arguments of `lmjudge judge`."""
    parser.add_argument("questions", help="File or folder of questions, or a source's name.")
    parser.add_argument(
        "answers",
        nargs="*",
        help="Files or folders of answers, or sources' names.",
    )
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument(
        "--judge",
        action="append",
        metavar="MODEL",
        help="Model of the judge. Repeat for several judges.",
    )
    who.add_argument(
        "--local", type=Path, help="Folder or hub id of a model to run here with transformers."
    )
    parser.add_argument(
        "--mode",
        default="single",
        choices=("single", "pairwise-baseline", "pairwise-all", "pairs"),
        help="Grade each answer, compare with the baseline, compare all with all, or compare the"
        " pairs in QUESTIONS (default: single). Comparisons run in both orders.",
    )
    parser.add_argument(
        "--baseline",
        action="append",
        metavar="[CATEGORY=]MODEL",
        help="Baseline model, with --mode pairwise-baseline. Repeat as category=model for a"
        " baseline per category.",
    )
    parser.add_argument("--models", nargs="+", metavar="MODEL", help="Use only these models.")
    parser.add_argument(
        "--prompt",
        help="Name of a prompt, a template with {question} and {answer}, or {answer_a} and"
        " {answer_b}, or @FILE with a template (default: single or pair).",
    )
    parser.add_argument(
        "--parser",
        help="Parser of verdicts (default: strict; FastChat's prompts: fastchat; *-json: json).",
    )
    parser.add_argument(
        "--output-format", help="Verdict that your template asks for: [[A]], [[rating]] ..."
    )
    parser.add_argument(
        "--scale",
        type=_scale,
        metavar="LOW,HIGH",
        help="Lowest and highest score of your template.",
    )
    parser.add_argument(
        "--turns",
        type=_turn,
        nargs="+",
        metavar="TURN",
        help="Turns to judge: numbers, last or all (default: those that the prompt shows by number,"
        " else last).",
    )
    parser.add_argument(
        "--criteria",
        metavar="COLUMN|@FILE",
        help="Ask for a verdict on each criterion in one reply: a column of the questions that"
        " holds them, or a JSON file (see docs/judges.md).",
    )
    parser.add_argument(
        "--rotate",
        action="store_true",
        help="Show the criteria in another order for each question and sample.",
    )
    parser.add_argument(
        "--redo",
        nargs="+",
        default=[],
        metavar="REASON",
        help="Ask again, up to three times, if a verdict is missing for this reason: no_verdict,"
        " ambiguous, truncated ...",
    )
    parser.add_argument("--references", type=Path, help="File of reference answers.")
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="Judge the answers that exist if some are missing.",
    )
    parser.add_argument(
        "--include-unfinished",
        action="store_true",
        help="Also judge answers that are empty or cut off.",
    )
    parser.add_argument(
        "--out",
        type=_file(".jsonl", ".csv", ".parquet"),
        help=".jsonl, .csv or .parquet file to write (default: judgments-MODE.jsonl; for a shard:"
        " none).",
    )
    parser.add_argument(
        "--fastchat", type=Path, help="Also write FastChat's format to this .jsonl file."
    )
    parser.add_argument(
        "--pairs",
        type=Path,
        help="Also write the pairs of answers with unequal scores, to train a reward model: a"
        " .jsonl file, or a .json file in Alpaca's format with the better output first.",
    )
    _asking(parser)


def showing(parser: argparse.ArgumentParser) -> None:
    """The arguments of `lmjudge show`."""
    parser.add_argument(
        "judgments", nargs="+", type=Path, help="Files of judgments, all of one kind."
    )
    parser.add_argument(
        "--baseline",
        action="append",
        metavar="[CATEGORY=]MODEL",
        help="Show win rates over this model only. Repeat as category=model, with --questions, for"
        " a baseline per category.",
    )
    parser.add_argument("--models", nargs="+", metavar="MODEL", help="Use only these models.")
    parser.add_argument(
        "--rule",
        default="tie",
        choices=("tie", "net", "drop", "given"),
        help="Verdict if the two orders disagree (default: tie, as in FastChat).",
    )
    _columns(parser)
    parser.add_argument("--out", type=_file(".csv"), help=".csv file to write the tables to.")
    parser.add_argument(
        "--html", type=Path, help="Page to write: tables, a figure, and the judgments with filters."
    )
    parser.add_argument("--questions", type=Path, help="Questions whose texts the page shows.")
    parser.add_argument(
        "--answers",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="Answers whose texts the page shows.",
    )


def auditing(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `lmjudge audit`."""
    parser.add_argument(
        "files",
        nargs="*",
        metavar="judgments",
        help="Judgments of one or more judges, best in both orders (default: the source prd).",
    )
    parser.add_argument(
        "--judgments", nargs="+", default=[], metavar="FILE", help="The same, as an option."
    )
    _people(parser, "People's votes or scores (default: the source prd).")
    parser.add_argument(
        "--gold",
        action="store_true",
        help="The votes are gold labels: rank judges by the pairs right in both orders.",
    )
    parser.add_argument(
        "--answers",
        nargs="+",
        metavar="FILE",
        help="Answers of the models, for the bias to length.",
    )
    parser.add_argument(
        "--price",
        action="append",
        default=[],
        type=_price,
        metavar="judge=dollars",
        help="Price of one call of a judge. Repeat for several (default: the cost of the calls in"
        " --store).",
    )
    _answer(parser)


def gating(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `lmjudge gate`."""
    parser.add_argument(
        "files", nargs="+", metavar="judgments", help="Judgments of one or more judges."
    )
    _people(parser, "People's votes or scores, for --min-agreement.")
    for name, says in (
        ("--min-agreement", "Least agreement with people: the interval's low end must reach it."),
        (
            "--max-position-bias",
            "Greatest share of pairs in which one place wins in both orders, by the high end.",
        ),
        ("--max-no-verdict", "Greatest share of judgments without a verdict, by the high end."),
    ):
        parser.add_argument(name, type=share, metavar="SHARE", help=says)
    parser.add_argument("--out", type=_file(".md"), help="Markdown (.md) file to write as well.")


def comparing(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `lmjudge compare`."""
    parser.add_argument("old", help="Judgments of the old run.")
    parser.add_argument("new", help="Judgments of the new run, on the same items.")
    _people(parser, "People's votes or scores, for the change in agreement.")
    _answer(parser)


def _people(parser: argparse.ArgumentParser, help: str) -> None:
    """Add what audit, gate and compare share: people's votes, and what columns and labels mean."""
    parser.add_argument("--votes", metavar="FILE", help=help)
    _columns(parser)


def _answer(parser: argparse.ArgumentParser) -> None:
    """Add what audit and compare share: the store, and the file with the answer."""
    parser.add_argument(
        "--store",
        type=Path,
        help="Store of the judgments: adds which model answered, when, and what calls cost.",
    )
    parser.add_argument(
        "--out", type=_file(".html", ".md"), help="Page (.html) or Markdown (.md) to write."
    )


AUDITING = """\
examples:
  lmjudge audit                                       five judges and people of PRD
  lmjudge audit judgments.jsonl --votes people.csv --out page.html
  lmjudge audit scores.jsonl --votes grades.csv       judges that grade one answer
  lmjudge audit judged.jsonl --votes labels.jsonl --gold
"""
GATING = """\
Compare the end of each interval with a threshold. The exit status is 1 if a check fails.

examples:
  lmjudge gate judgments.jsonl --votes people.csv --min-agreement 0.7
  lmjudge gate judgments.jsonl --max-position-bias 0.1 --max-no-verdict 0.02
"""
COMPARING = """\
examples:
  lmjudge compare old.jsonl new.jsonl
  lmjudge compare old.jsonl new.jsonl --votes people.csv --out page.html
"""


def _columns(parser: argparse.ArgumentParser, *, labels: bool = True) -> None:
    """Add what the columns of a file, and the labels in it, mean."""
    parser.add_argument(
        "--column",
        **_REPEATED,
        metavar="name=column",
        help="Column of the file, such as model_a=generator_1. Repeat for several.",
    )
    if labels:
        parser.add_argument(
            "--label",
            **_REPEATED,
            metavar="label=verdict",
            help="Meaning of a label in the file, such as A>>B=model_a. Repeat for several.",
        )


def _local(parser: argparse._ActionsContainer) -> None:
    """Add what `--local` takes beside the model."""
    parser.add_argument("--revision", help="Branch, tag or commit of a hub's model, with --local.")
    parser.add_argument(
        "--chat-template",
        type=Path,
        metavar="FILE",
        help="Jinja chat template that replaces the tokenizer's, with --local.",
    )
    parser.add_argument(
        "--device-map",
        help="auto spreads a model over all GPUs, with --local. To run a copy on each GPU, use"
        " --shard with CUDA_VISIBLE_DEVICES.",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        help="Type of the weights, with --local (default: bfloat16 on a GPU, else float32).",
    )


def _asking(parser: argparse.ArgumentParser) -> None:
    _columns(parser, labels=False)
    requests = parser.add_argument_group("requests")
    _local(requests)
    requests.add_argument("--system", help="System prompt.")
    requests.add_argument(
        "--param",
        action="append",
        default=[],
        type=_param,
        metavar="name=value",
        help="Field of the request, as JSON or text. null removes a default.",
    )
    requests.add_argument(
        "--include-reasoning",
        action="store_true",
        help="Also send the reasoning blocks (<think> ...) at the start of answers.",
    )
    requests.add_argument(
        "--samples", type=count, default=1, help="Number of samples of each request (default: 1)."
    )
    requests.add_argument("--limit", type=count, default=0, help="Use only the first questions.")
    requests.add_argument(
        "--categories", nargs="+", metavar="CATEGORY", help="Use only these categories."
    )
    limits = parser.add_argument_group("limits")
    limits.add_argument(
        "--concurrency", type=count, help="Number of requests in flight, or size of a local batch."
    )
    limits.add_argument(
        "--timeout",
        type=_SECONDS,
        metavar="SECONDS",
        help="Seconds to wait for a reply to a sent request (default: 120).",
    )
    limits.add_argument(
        "--budget",
        type=_DOLLARS,
        metavar="DOLLARS",
        help="Maximum to spend, in dollars. Stops before it is exceeded.",
    )
    limits.add_argument(
        "--max-calls", type=count, help="Maximum number of calls. Stops before it is exceeded."
    )
    limits.add_argument(
        "--same-model",
        action="store_true",
        help="Stop if the server reports another model than you asked for.",
    )
    limits.add_argument(
        "--shard",
        type=_shard,
        metavar="i/n",
        help="Send only part i of n. Merge the stores afterwards.",
    )
    serving(parser)


def serving(parser: argparse.ArgumentParser) -> None:
    """Add where the server is, and where the store."""
    server = parser.add_argument_group("server and store")
    server.add_argument(
        "--base-url",
        metavar="URL[,URL]",
        help="OpenAI-compatible server (default: $OPENAI_BASE_URL, else OpenAI's). Several of one"
        " model share the calls.",
    )
    server.add_argument(
        "--allow-http",
        action="store_true",
        help="Send prompts and key unencrypted to another machine, in a network that you trust.",
    )
    server.add_argument(
        "--header",
        action="append",
        default=[],
        type=_header,
        metavar="name=value",
        help="HTTP header to send. Repeat for several.",
    )
    server.add_argument(
        "--ca-file", type=Path, help="PEM file of the certificate authorities that you trust."
    )
    server.add_argument(
        "--store", type=Path, help="Folder of the store (default: the nearest one)."
    )


_SHOWN = ("question_id", "turn", "model", "model_a", "model_b", "criterion")


def baseline_of(parsed: argparse.Namespace) -> str | dict[str, str] | None:
    """Return the baseline, or one by category."""
    baselines = parsed.baseline or []
    by_category = dict(part.split("=", 1) for part in baselines if "=" in part)
    if baselines and len(by_category) == len(baselines):
        return by_category
    if len(baselines) > 1:
        parsed.wrong("use --baseline once, or write each as category=model")
    return baselines[0] if baselines else None


def opponents(baseline: str | dict[str, str] | None) -> list[str]:
    """Return the models that are baselines, each once."""
    models = baseline.values() if isinstance(baseline, dict) else [baseline]
    return list(dict.fromkeys(model for model in models if model))


def read(
    parsed: argparse.Namespace, load: Callable[..., pd.DataFrame], source: Any, **options: Any
) -> pd.DataFrame:
    """Return a frame of files, of --column and --label with those that the files have.

    A command may read files of several kinds: questions and answers, judgments and votes.
    """
    from lmjudge.errors import DataError

    columns, labels = dict(parsed.column), dict(getattr(parsed, "label", ()))
    takes_labels = "labels" in signature(load).parameters
    unknown: DataError | None = None
    while True:
        try:
            if takes_labels:
                options["labels"] = labels
            table = load(source, columns=columns, **options)
            break
        except DataError as error:
            present = getattr(error, "columns", [])
            part = {ours: theirs for ours, theirs in parsed.column if theirs in present}
            if labels and hasattr(error, "labels"):
                labels = {}
            elif unknown is None and present and part != columns:
                unknown, columns = error, part
            elif unknown is None or not present:
                raise
            else:
                raise DataError(
                    f"{unknown}. If another file has it, repeat --column with this file's name for"
                    " it.",
                    path=unknown.path,
                    columns=present,
                ) from error
    parsed.used = getattr(parsed, "used", set()) | set(columns.items()) | set(labels)
    return table


def check_used(parsed: argparse.Namespace) -> None:
    """Refuse a --column or --label that no file has: a typing error would go unnoticed."""
    used: set[Any] = getattr(parsed, "used", set())
    for ours, theirs in parsed.column:
        if (ours, theirs) not in used:
            parsed.wrong(f"no file has the column {theirs!r} of --column {ours}={theirs}")
    labels = dict(getattr(parsed, "label", ()))
    if labels and not set(labels) & used:
        names = ", ".join(labels)
        parsed.wrong(f"no row has a verdict that --label names: {names}")


def check_outputs(parsed: argparse.Namespace, inputs: Iterable[Any], *outputs: Path | None) -> None:
    """Refuse to write over a file that the command reads."""
    files = {Path(name).absolute() for name in inputs if name is not None}
    for path in outputs:
        if path is not None and path.absolute() in files:
            parsed.wrong(f"{path} is a file that this command reads; write to another one")


def tell_of_rows(judged: pd.DataFrame) -> None:
    """Print what may be wrong with rows that are read all the same.

    These are repeated judgments, judgments that name no judge, and rows without a question.
    """
    if again := judged.attrs.get("repeats", 0):
        say(f"{again} of {len(judged)} judgments repeat another, and count too (see `sample`)")
    shown = [name for name in _SHOWN if name in judged]
    if judged.attrs.get("unnamed") and (again or judged.duplicated(shown).any()):
        judges = ", ".join(map(repr, judged.attrs["unnamed"]))
        say(
            f"no column names the judge, so each file counts as one judge: {judges}."
            f" If one does, name it: --column judge={_column_of_judges(judged, shown)}"
        )
    if nowhere := int(judged["question_id"].isna().sum()):
        say(
            f"{nowhere} of {len(judged)} rows have no question_id, so nothing says which are on one"
            " question. If a column has it, name it: --column question_id=..."
        )


def _column_of_judges(judged: pd.DataFrame, shown: list[str]) -> str:
    """Return the column that tells repeated judgments apart, or "..."."""
    from lmjudge.frames import COLUMNS

    known = {name for kind in ("scores", "games", "votes") for name in COLUMNS[kind]}
    for name in judged.columns.drop([*known], errors="ignore"):
        texts = judged[name].map(str)
        if (
            1 < texts.nunique() <= 20
            and not judged.assign(**{name: texts}).duplicated([*shown, name]).any()
        ):
            return str(name)
    return "..."
