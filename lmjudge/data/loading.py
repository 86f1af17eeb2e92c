"""Load data from a source's name, files, folders, data sets or a DataFrame.

Each loader takes three arguments for files that differ from the known layouts:

- `columns` maps a frame's columns to the file's, such as {"model_a": "generator_1"}.
- `labels` maps the file's verdicts, such as {"1": "model_a", "2": "model_b", "unsure": None}.
- `errors="skip"` leaves out malformed rows and lists them in `frame.attrs["skipped"]`.

`frame.attrs["layout"]` names the layout that was recognised. Columns that a frame does not need
are kept; one whose name clashes with a frame's column is called `file_<name>`.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import parse_qsl

import pandas as pd

from lmjudge.data.finding import find, place
from lmjudge.data.layouts import LAYOUTS, ORDERS, File, Layout
from lmjudge.data.raw import Cells, Row, Rows, as_id, bad_row, integer, plain, read_rows
from lmjudge.data.rows import shipped
from lmjudge.data.sources import Source as Entry, original, source_name, source_named
from lmjudge.errors import BadRow, DataError, DataMissing, FrameError
from lmjudge.frames import COLUMNS, VERDICTS, frame, id_text, resolve

One: TypeAlias = str | os.PathLike[str] | pd.DataFrame | Any
Source: TypeAlias = One | Sequence[One]
Columns: TypeAlias = Mapping[str, str] | None
Labels: TypeAlias = Mapping[Any, Any] | None
Errors: TypeAlias = Literal["raise", "skip"]

# Where the files of each kind lie in a folder, by FastChat's and the Vicuna blog's habits.
_PLACES = {
    "questions": ("question.*", "questions.*"),
    "references": ("reference_answer/*",),
    "prompts": ("prompt.jsonl",),
    "answers": ("model_answer/*", "answer/*"),
    "judgments": ("model_judgment/*", "review/*"),
}
_SUFFIXES = (".json", ".jsonl", ".csv", ".tsv", ".parquet", ".gz", ".zst", ".eval")
_JUDGED = {"scores": "scores", "games": "games", "threeclass": "games", "reviews": "games"}
_PAIRWISE = ("games", "threeclass", "reviews")
_LABELLED = ("winner", "win", "preference", "overall_preference", "label", "score", "choice")
_FLOATS = {
    "scores": ("score", "published"),
    "games": ("score_a", "score_b", "published_a", "published_b"),
    "votes": ("time",),
}
_OPTIONAL = ("category", "judge", "group", "criterion", "reason", "text", "key", "subset")
_IDS = ("question_id", "uid", "id", "pair_id", "prompt")
_SHOWING = {
    "answers": ("question_id", "model"),
    "scores": ("question_id", "turn", "model", "judge", "criterion"),
    "games": ("question_id", "turn", "model_a", "model_b", "judge", "criterion"),
    "pairings": ("question_id", "model_a", "model_b"),
}


@dataclass
class How:
    """How files are to be read: what a caller said of their columns, labels and errors."""

    columns: Columns = None
    labels: Labels = None
    orders: tuple[str, str] | None = None
    errors: Errors = "raise"
    baseline: str | None = None
    samples: int | None = None
    matched: bool = False

    def __post_init__(self) -> None:
        for name, mapping in (("columns", self.columns), ("labels", self.labels)):
            if mapping is not None and not isinstance(mapping, Mapping):
                raise ValueError(f"{name} is {mapping!r:.60}; expected a dict")
        if self.orders is not None and (isinstance(self.orders, str) or len({*self.orders}) != 2):
            raise ValueError(f"orders is {self.orders!r:.60}; expected two columns")
        if self.errors not in ("raise", "skip"):
            raise ValueError(f"errors is {self.errors!r}; expected 'raise' or 'skip'")


@dataclass
class Loaded:
    """The rows of files in one kind of frame, with the file and line that each comes from."""

    kind: str = ""
    rows: list[Row] = field(default_factory=list)
    origins: list[tuple[Path, int]] = field(default_factory=list)
    layouts: list[Layout] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    unnamed: list[str] = field(default_factory=list)  # judges that are called by their files
    others: set[str] = field(default_factory=set)  # kinds of rows that nobody asked for
    read: int = 0
    repeats: int = 0

    def framed(self) -> pd.DataFrame:
        """Return the frame, its numbers as numbers, and what was recognised in its attrs."""
        table = frame(self.kind, self.rows)
        numbers = [name for name in _FLOATS.get(self.kind, ()) if name in table]
        table = table.astype(dict.fromkeys(numbers, float))
        names = dict.fromkeys(layout.name for layout in self.layouts)
        table.attrs |= {"layout": " + ".join(names), "rows": self.read, "skipped": self.skipped}
        table.attrs |= {"repeats": self.repeats} if self.repeats else {}
        table.attrs |= {"unnamed": self.unnamed} if self.unnamed else {}
        return table


def load_questions(
    source: Source,
    references: Source | None = None,
    *,
    columns: Columns = None,
    labels: Labels = None,
    errors: Errors = "raise",
) -> pd.DataFrame:
    """Load questions from a source, files, a folder or a data set: a questions frame.

    `turns` is a list of texts; `reference` is a list too, or None. A row without `question_id`,
    `uid` or `prompt_id` gets an id from its text, so rows with the same text are one question.
    `references` is a file of answers that replaces the references. A folder is read in FastChat's
    layout, with its reference_answer; a source about FastChat's questions has those references. A
    source whose rows ship with lmjudge gives ids and categories; `<name>/original` gives the texts
    of the fetched files.

    Raises DataMissing for data that are not here, BadRow for a malformed row and for an id that two
    questions share.
    """
    if (figures := shipped(source, "questions")) is not None:
        return figures
    how = How(columns, labels, None, errors)
    loaded = _load(source, "questions", ("questions",), how)
    table = _distinct(loaded, how, ("question_id",)).framed()
    guides = _references(source) if references is None else _first_answers(references)
    if references is not None and guides.keys().isdisjoint(table["question_id"]):
        ids = [", ".join(map(repr, [*some][:3])) for some in (guides, table["question_id"])]
        raise DataError(
            f"no reference answers a question: the references have question_id {ids[0]}, the"
            f" questions {ids[1]}. Write the ids the same way in both.",
            path=Path("the references"),
        )
    if guides:
        table["reference"] = [guides.get(of) for of in table["question_id"]]
    return table


def load_answers(
    source: Source,
    models: Iterable[str] | None = None,
    *,
    samples: int | None = 1,
    columns: Columns = None,
    errors: Errors = "raise",
) -> pd.DataFrame:
    """Load answers from a source, files, a folder or a data set: an answers frame.

    A row's model is its whole `model_id`, `model` or `generator`, or else the file's name. `turns`
    is a list of texts, or missing if the call failed. A source whose rows ship with lmjudge gives
    counts of each turn instead: words, characters, headings, items and bold; `<name>/original`
    gives the texts of the fetched files. `samples` keeps the first samples of each answer (None
    keeps all). `models` keeps some models, in that order.

    Raises DataMissing for answers that are not here and for unknown models, BadRow for a malformed
    row and for a question that one model answers twice in one sample.
    """
    how = How(columns, None, None, errors, samples=samples)
    wanted = None if models is None else list(models)
    table = shipped(source, "answers")
    if table is None:
        loaded = _load(source, "answers", ("answers",), how, wanted)
        table = _distinct(loaded, how, ("question_id", "model", "sample")).framed()
    known = list(dict.fromkeys(table["model"]))
    if unknown := [model for model in wanted or () if model not in known]:
        raise _unknown_model(source, unknown[0], known)
    if samples is not None:
        table = table[table["sample"] < samples]
    if wanted is not None:
        parts = [table[table["model"] == model] for model in wanted]
        table = pd.concat(parts) if parts else table[:0]
    return table.reset_index(drop=True)


def load_pairings(
    source: Source,
    *,
    columns: Columns = None,
    labels: Labels = None,
    errors: Errors = "raise",
) -> pd.DataFrame:
    """Load pairs of answers to one question, ready to be judged: a pairings frame, a row a pair.

    A row has a question as in `load_questions` and two answers: answer_a and answer_b, output_1 and
    output_2, response_A, response1 and so on. Models without a column are "a" and "b". Gold labels
    and preferences stay as columns. A repeated pair is the next `sample`.
    """
    how = How(columns, labels, None, errors)
    table = _load(source, "pairings", ("pairings",), how).framed()
    same = table[table["model_a"] == table["model_b"]]
    if len(same):
        raise DataError(
            f"{len(same)} rows compare {same['model_a'].iloc[0]!r} with itself; give the two"
            " answers two names",
            path=Path(str(source)),
        )
    return table


def read_judged(
    source: Source, kind: Literal["scores", "games", "votes"] | None, how: How
) -> Loaded:
    """Return the judgments of files of one kind, with the file and line of each."""
    kinds = ("games", "scores", "votes") if kind is None else (kind,)
    loaded = _load(source, "judgments", (*kinds, "votes") if kind == "games" else kinds, how)
    _name_judges(loaded)
    if loaded.kind == "votes" and (kind == "games" or (kind is None and _in_both_orders(loaded))):
        return _as_games(loaded)
    return loaded


def _name_judges(loaded: Loaded) -> None:
    """Name a judge by its file where no row of the file names one."""
    named = {
        path for (path, _), row in zip(loaded.origins, loaded.rows, strict=True) if row["judge"]
    }
    for (path, _), row in zip(loaded.origins, loaded.rows, strict=True):
        if path not in named and path.suffix and row.get("group") in (None, "llm"):
            row["judge"] = path.name.split(".")[0]
            if row["judge"] not in loaded.unnamed:
                loaded.unnamed.append(row["judge"])


def _in_both_orders(loaded: Loaded) -> bool:
    """Return whether bare verdicts of judges show a pair in both orders, which makes them games."""
    shown = {
        tuple(row.get(name) for name in _SHOWING["games"])
        for row in loaded.rows
        if row.get("group") in (None, "llm")
    }
    return any((of, turn, b, a, *judge) in shown for of, turn, a, b, *judge in shown)


def _as_games(loaded: Loaded) -> Loaded:
    """Return rows of bare verdicts as games: one a row, a pair shown again the next sample."""
    shown: Counter[tuple[Any, ...]] = Counter()
    rows = []
    for row in loaded.rows:
        showing = tuple(str(row.get(name)) for name in _SHOWING["games"])
        game = {name: value for name, value in row.items() if name not in ("group", "time")}
        empty = dict.fromkeys(("score_a", "score_b", "text", "key"))
        rows.append(empty | game | {"sample": shown[showing]})
        shown[showing] += 1
    repeats = len(rows) - len(shown)
    return replace(loaded, kind="games", rows=rows, repeats=repeats)


def load_votes(
    source: Source,
    *,
    columns: Columns = None,
    labels: Labels = None,
    errors: Errors = "raise",
) -> pd.DataFrame:
    """Load votes, the preferences of people or judges between two answers: a votes frame.

    A source whose rows ship with lmjudge reads those; `<name>/original` reads the fetched files.
    Every judgment with a text goes through `resolve`, which makes one vote of both orders. A table
    of bare verdicts is taken row by row, also if it has both orders (see `load_judgments`).

    `group` is expert, author, crowd or llm if the row, its source or the voter's name (expert_3,
    arena_user_9) says so. A tie that stood for something else has the reason `both_bad` or
    `inconsistent`. Conversations are left out; `load_questions`, `load_answers` and `load_pairings`
    read them.

    >>> mine = pd.DataFrame({"A": ["m"], "B": ["n"], "better": ["left"]})
    >>> load_votes(mine, columns={"model_a": "A", "model_b": "B", "winner": "better"})["winner"][0]
    'model_a'
    """
    how = How(columns, labels, None, errors)
    entry = source_named(source) if source_name(source) else None
    if entry is None or not any(map(entry.having, _PAIRWISE)):
        return people(source, how)
    games = shipped(source, "games")
    if games is None:
        games = read_judged(source, "games", how).framed()
    judged = resolve(games)
    if not entry.having("votes"):
        return judged
    columns_ = list(COLUMNS["votes"])
    return pd.concat([judged[columns_], people(source, how)[columns_]], ignore_index=True)


def people(source: Source, how: How | None = None) -> pd.DataFrame:
    """Return the votes in files of votes, without the votes that a source's judgments give."""
    if (rows := shipped(source, "votes")) is not None:
        return rows
    loaded = _load(source, "votes", ("votes", "games"), how or How())
    return resolve(loaded.framed()) if loaded.kind == "games" else loaded.framed()


def load_pairs(
    source: Source,
    *,
    columns: Columns = None,
    errors: Errors = "raise",
) -> pd.DataFrame:
    """Load pairs of a chosen and a rejected text, for training or RewardBench: a pairs frame.

    A row has `prompt`, `chosen` and `rejected`. These are texts, conversations, or lists of several
    texts, each of which meets each of the other side. Instead it can have `instruction`, `input`
    and `output`, a list of the better and the worse text. A pair without an id gets one from its
    texts.
    """
    return _load(source, "pairs", ("pairs",), How(columns, None, None, errors)).framed()


# ---- finding the rows


def own_path(source: Any) -> Path | None:
    """Return the path of a source, or None if it is a source's name; DataMissing for neither."""
    if source_name(source):
        return None
    path = Path(source)
    if path.exists():
        return path
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        raise DataMissing(
            f"{source} is not read: download the file first, or name a data set of the hub as"
            " hf://datasets/owner/name",
            source=source,
            path=path,
        )
    if path.suffix or len(path.parts) > 1:
        raise DataMissing(
            f"no such file or folder: {path}; give a path, or the name of a source",
            source=str(source),
            path=path,
        )
    source_named(source)
    return None


def files_of(source: Any, role: str) -> list[tuple[Path, str]]:
    """Return the files of a role and the model of each, for a source or a path."""
    own = own_path(source)
    if own is None:
        return place(source, role)
    if own.is_file():
        return [(own, "")]
    for pattern in _PLACES.get(role, ()):
        if there := sorted(path for path in own.glob(pattern) if path.is_file()):
            return [(path, "") for path in there]
    named = {path for n in ("questions", "prompts") for p in _PLACES[n] for path in own.glob(p)}
    other: list[Path] = sorted(p for p in own.iterdir() if p.suffix in _SUFFIXES and p not in named)
    if not other or role in ("references", "prompts"):
        places = " or ".join(_PLACES.get(role, ())) or "a data file"
        raise DataError(f"{own} holds no {role}; expected {places} in it", path=own)
    return [(path, "") for path in other]


def _tables(
    source: Any, role: str, kinds: Sequence[str], models: list[str] | None
) -> Iterator[tuple[File, Rows]]:
    """Yield each file of one source, with its rows."""
    if isinstance(source, pd.DataFrame):
        if not source.columns.is_unique:
            names = [str(name) for name in source.columns[source.columns.duplicated()]]
            problem = f"the DataFrame has several columns {names[0]!r}; rename one"
            raise DataError(problem, path=Path("the DataFrame"))
        rows = enumerate(map(plain, source.to_dict("records")), 1)
        yield File(Path("the DataFrame")), list(rows)
    elif hasattr(source, "features") and hasattr(source, "to_list"):
        yield File(Path("the Dataset")), list(enumerate(map(plain, source.to_list()), 1))
    elif isinstance(source, dict) and all(hasattr(of, "features") for of in source.values()):
        raise DataError(
            f"this is a DatasetDict with the splits {', '.join(source)}; give one of them",
            path=Path("the DatasetDict"),
        )
    elif not isinstance(source, (str, os.PathLike)) or not str(source):
        raise DataError(
            f"{' '.join(repr(source).split())[:60]} is no source; give a name, a path, a"
            " datasets.Dataset or a pandas.DataFrame",
            path=Path("the data"),
        )
    elif isinstance(source, str) and source.startswith("hf://"):
        yield File(Path(source)), list(enumerate(_from_hub(source).to_list(), 1))
    else:
        for file in _found(source, role, kinds, models):
            yield file, read_rows(file.path)


def _from_hub(address: str) -> Any:
    """Return the data set at hf://datasets/owner/name[@revision][?split=train&name=config]."""
    import datasets

    where, _, query = address.removeprefix("hf://").removeprefix("datasets/").partition("?")
    name, _, revision = where.partition("@")
    options = dict(parse_qsl(query))
    data_set = datasets.load_dataset(name, options.get("name"), revision=revision or None)
    if options.get("split"):
        return data_set[options["split"]]
    if len(data_set) > 1:
        raise DataError(
            f"{address} has the splits {', '.join(data_set)}; name one, as in"
            f" {address}?split={next(iter(data_set))}",
            path=Path(address),
        )
    return next(iter(data_set.values()))


def _judged_files(entry: Entry, kinds: Sequence[str]) -> list[File]:
    """Return the files of a source's judgments of these kinds.

    Raises FrameError where it has two of them.
    """
    roles = [role for role, kind in _JUDGED.items() if entry.having(role) and kind in kinds]
    if len({_JUDGED[role] for role in roles}) > 1:
        raise FrameError(
            f"{entry.name} holds scores and games; choose with kind='scores' or kind='games'",
            columns=[],
        )
    return [file for role in roles or ["scores"] for file in _placed(entry.name, role)]


def _placed(source: str, role: str) -> list[File]:
    return [File(path, model, role) for path, model in place(source, role)]


def _found(source: Any, role: str, kinds: Sequence[str], models: list[str] | None) -> list[File]:
    """Return the files of a source or path.

    If the source's table names models, returns only the files of the wanted ones.
    """
    if own_path(source) is not None:
        return [File(path) for path, _ in files_of(source, role)]
    entry = source_named(source)
    if role == "judgments":
        return _judged_files(entry, kinds)
    if role in ("questions", "answers") and not entry.having(role) and not entry.bench:
        talks = [file for file in entry.having("votes") if file.path.endswith(".parquet")]
        role = "votes" if talks else role  # what was asked and said stands beside the votes
        role = "instructions" if entry.having("instructions") else role
    if role == "questions" and entry.bench:
        return [File(path) for path, of in place("fastchat", role) if of == entry.bench]
    if role in ("questions", "votes"):
        names = {Path(file.path).stem: file.model for file in entry.having("answers")}
        return [File(path, role=role, answers=names) for path, _ in place(entry.name, role)]
    if role != "answers" or models is None or not entry.having(role):
        return _placed(entry.name, role)
    known = [file.model for file in entry.having(role)]
    if unknown := [model for model in models if model not in known]:
        raise _unknown_model(source, unknown[0], known)
    wanted = [file for file in entry.having(role) if file.model in models]
    return [File(find(entry.name, file), file.model) for file in wanted]


def _unknown_model(source: Source, model: str, known: Iterable[str]) -> DataMissing:
    shown = source if isinstance(source, (str, os.PathLike)) else "the data"
    return DataMissing(
        f"{shown} has no answers of {model!r}; it has those of {', '.join(known)}",
        source=str(shown),
        path=Path(shown),
    )


def _references(source: Source) -> dict[Any, Any]:
    """Return the reference answers beside the questions of a source or a folder."""
    if not isinstance(source, (str, os.PathLike)) or str(source).startswith("hf://"):
        return {}
    own = own_path(source)
    if own is None:
        entry = source_named(source)
        bench = entry.bench or ("" if entry.name == "fastchat" else None)
        files = [] if bench is None else place("fastchat", "references")
        return _first_answers([path for path, of in files if bench in ("", of)])
    return _first_answers(sorted(own.glob("reference_answer/*")))


def _first_answers(source: Source) -> dict[Any, Any]:
    if isinstance(source, list) and not source:
        return {}
    known = load_answers(source).drop_duplicates("question_id")
    return dict(zip(known["question_id"], known["turns"], strict=True))


# ---- reading them


def _load(
    source: Source, role: str, kinds: Sequence[str], how: How, models: list[str] | None = None
) -> Loaded:
    """Return the rows of every file in one kind of frame; DataError for files of several kinds."""
    several = list(source) if isinstance(source, (list, tuple)) else [source]
    loaded, seen = Loaded(), set[Any]()
    for part in several:
        known: dict[str, str] | None = None
        for file, rows in _tables(part, role, kinds, models):
            file.baseline, file.orders, file.samples = how.baseline, how.orders, how.samples
            which = file.path.resolve() if file.path.exists() else id(part)
            if which in seen:
                raise DataError(f"{file.path} is given twice; give it once", path=file.path)
            seen.add(which)
            first = rows[0][1] if rows else {}
            if "games" in kinds and isinstance(first, dict) and "answer1_id" in first:
                known = _answer_ids(part) if known is None else known
                file.answers = known if _all_known(rows, known) else {}
            _add(loaded, file, rows, kinds, how)
    if how.labels and loaded.rows and not how.matched:
        raise DataError(
            f"no row has one of the labels {', '.join(map(repr, how.labels))}; check `labels`, in a"
            " shell --label",
            path=Path(str(several[0])) if isinstance(several[0], (str, Path)) else Path("the data"),
            labels=list(how.labels),
        )
    if not loaded.kind or (loaded.read and not loaded.rows and not loaded.skipped):
        held = f"; it holds {' and '.join(sorted(loaded.others))}" if loaded.others else ""
        if loaded.others and "scores" in kinds:
            held += ", which scores meet only as votes (see lmjudge.scores_as_votes)"
        raise DataError(f"{source} holds no {' or '.join(kinds)}{held}", path=Path(str(source)))
    _number(loaded)
    return loaded


def _answer_ids(source: Any) -> dict[str, str]:
    """Return the models of the reviewed answers, from the source or a folder beside it."""
    if not source_name(source):
        folder = Path(source) if isinstance(source, (str, os.PathLike)) else None
        if folder is None or not any((folder / n).is_dir() for n in ("answer", "model_answer")):
            return {}
    answers = load_answers(original(source))
    return (
        dict(zip(answers["answer_id"], answers["model"], strict=True))
        if "answer_id" in answers
        else {}
    )


def _all_known(rows: Rows, known: Mapping[str, str]) -> bool:
    """Return whether all reviewed answers are known, because a file has one naming scheme."""
    named = [row.get(f"answer{n}_id") for _, row in rows if isinstance(row, dict) for n in (1, 2)]
    return all(str(name) in known for name in named)


def _add(loaded: Loaded, file: File, rows: Rows, kinds: Sequence[str], how: How) -> None:
    if not rows:
        raise DataError(f"{file.path} has no rows; it needs at least one row", path=file.path)
    good: list[Row] = [row for _, row in rows if isinstance(row, dict)]
    if not good and rows and how.errors == "raise" and isinstance(rows[0][1], BadRow):
        raise rows[0][1]
    cells = any(isinstance(row, Cells) for row in good)
    names = list(dict.fromkeys(name for row in good for name in row))
    mapped = _mapping(file, names, how)
    shown = [mapped.get(name, name) for name in names]
    if len(kinds) == 1 and (others := _others(shown, kinds[0])):
        loaded.others |= others
        return  # a folder of FastChat's holds scores and games, and the caller chose one of them
    layout = _recognised(file, shown, kinds, how)
    if loaded.kind not in ("", layout.kind):
        raise DataError(
            f"the files hold {loaded.kind} and {layout.kind}; give files of one kind at a time, or"
            f" say kind={loaded.kind!r}",
            path=file.path,
        )
    loaded.kind = layout.kind
    loaded.layouts.append(layout)
    loaded.read += len(rows)
    integral = {name for name in _IDS if cells and _integral(good, name)}
    first, checked = len(loaded.rows), set[tuple[str, ...]]()
    for line, row in rows:
        if isinstance(row, BadRow):
            _skip(loaded, row, how)
            continue
        try:
            taken = {mapped.get(name, name): value for name, value in row.items()}
            if (columns := tuple(taken)) not in checked:
                if lacking := layout.lacks(columns):
                    raise KeyError(", ".join(lacking))
                checked.add(columns)
            for name in integral:
                taken[name] = int(float(taken[name])) if taken.get(name) else None
            loaded.rows += _read(taken, layout, file, how)
            loaded.origins += [(file.path, line)] * (len(loaded.rows) - len(loaded.origins))
        except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
            _skip(loaded, bad_row(file.path, line, _problem(error, row, layout)), how, error)
    if cells:
        _typed(loaded.rows[first:], layout.kind)


def _problem(error: Exception, row: Row, layout: Layout) -> str:
    if isinstance(error, KeyError):
        return f"lacks {error}; it has {', '.join(row) or 'nothing'}"
    if isinstance(error, ValueError):
        return str(error)
    return f"has a value in a form unknown to the layout {layout.name} ({error}); mend the row"


def _skip(loaded: Loaded, error: BadRow, how: How, cause: Exception | None = None) -> None:
    if how.errors == "raise":
        raise error from cause
    loaded.skipped.append(str(error))


def _mapping(file: File, names: list[str], how: How) -> dict[str, str]:
    """Return the frame's name for each column of the file that the caller named."""
    columns = how.columns or {}
    if unknown := [theirs for theirs in columns.values() if theirs not in names]:
        raise DataError(
            f"{file.path} has no column {unknown[0]!r}; it has {', '.join(names)}",
            path=file.path,
            columns=names,
        )
    mapped = {theirs: ours for ours, theirs in columns.items()}
    # A column that is called as another is now keeps its values under a name of its own.
    return mapped | {
        ours: f"file_{ours}" for ours in columns if ours in names and ours not in mapped
    }


def _others(names: list[str], kind: str) -> set[str]:
    """Return the kinds of judgments that these columns identify, if this kind is none of them."""
    given = {
        layout.kind for layout in LAYOUTS if layout.kind in VERDICTS and not layout.lacks(names)
    }
    return given if kind in VERDICTS and kind not in given else set()


def _recognised(file: File, names: list[str], kinds: Sequence[str], how: How) -> Layout:
    """Return the layout that these columns identify.

    Raises DataError with the nearest layouts if none fits.
    """
    if how.orders and "games" in kinds:
        return ORDERS
    known = [layout for kind in kinds for layout in LAYOUTS if layout.kind == kind]
    for layout in known:
        if not layout.lacks(names):
            return layout
    lacks = {layout: layout.lacks(names) for layout in known}
    needs = {layout: len(layout.needs.split()) for layout in known}
    near = sorted(known, key=lambda layout: (len(lacks[layout]) / needs[layout], needs[layout]))
    near = [layout for layout in near[:2] if len(lacks[layout]) < needs[layout]]
    plain_ = [layout for layout in known if layout.name == layout.kind]
    lacking = "; ".join(
        f"{layout.name} lacks {', '.join(lacks[layout])}" for layout in dict.fromkeys(near + plain_)
    )
    guesses = {layout.kind: _guesses(lacks[layout], names) for layout in plain_ or near}
    # The kind of which most columns seem to be here; without any such column, each.
    known_names = {kind: sum(v != "..." for v in guess.values()) for kind, guess in guesses.items()}
    most = max(known_names.values(), default=0)
    given = {
        kind: guess for kind, guess in guesses.items() if not most or known_names[kind] == most
    }
    ways = " or ".join(
        f"columns={guess!r}, in a shell "
        + " ".join(f"--column {ours}={theirs}" for ours, theirs in guess.items())
        for guess in given.values()
    )
    found = ", ".join(names[:30]) + (f" and {len(names) - 30:,} more" if len(names) > 30 else "")
    raise DataError(
        f"{file.path} has the columns {found or '(none)'}, which is no layout of"
        f" {' or '.join(kinds)} ({lacking}). Say which column is which, for example {ways}",
        path=file.path,
        columns=names,
    )


def _guesses(lacking: list[str], names: list[str]) -> dict[str, str]:
    """Return the most similar column name for each missing one, or "..."."""
    free, guesses = list(names), dict[str, str]()
    for needed in lacking:
        ours = needed.split("|")[0].lstrip("!")
        guesses[ours] = (difflib.get_close_matches(ours, free, 1, 0.55) or ["..."])[0]
        free = [name for name in free if name != guesses[ours]]
    return guesses


def _read(row: Row, layout: Layout, file: File, how: How) -> list[Row]:
    """Return the rows of the frame that one row of a file holds, its other columns beside them."""
    if how.labels:
        labels = {_label(label): meaning for label, meaning in how.labels.items()}
        stated = [name for name in (*_LABELLED, *(how.orders or ())) if name in row]
        texts = {name: _label(row[name]) for name in stated}
        how.matched |= any(texts[name] in labels for name in texts)
        row |= {name: labels.get(label, row[name]) for name, label in texts.items()}
    columns = COLUMNS[layout.kind]
    rows = []
    for cells in list(layout.read(row, file)):
        full_row = dict.fromkeys(columns) | cells
        full_row |= {f"file_{n}" if n in full_row else n: value for n, value in row.items()}
        _finish(full_row, layout.kind)
        rows.append(full_row)
    return rows


def _label(value: Any) -> str:
    """Return a label as text; 1, 1.0 and "1.0" are one, as a gap in a column makes floats of it."""
    return str(id_text(value)).removesuffix(".0")


def _finish(row: Row, kind: str) -> None:
    """Put ids, numbers and reasons into the form of every frame; ValueError for what has none."""
    name = "pair_id" if kind == "pairs" else "question_id"
    row[name] = as_id(row[name], name)
    if kind in VERDICTS and "criterion" in row:
        row["criterion"] = as_id(row["criterion"], "criterion")
    for number, unstated in (("turn", 1), ("sample", None)):
        if number in COLUMNS[kind]:
            value = row[number]
            row[number] = unstated if value is None or value == "" else integer(value, number)
    if kind in ("votes", "games") and (row["model_a"] is None or row["model_b"] is None):
        raise ValueError("has no name for one of its models")
    if kind in ("votes", "games") and row["model_a"] == row["model_b"]:
        raise ValueError(f"has {row['model_a']!r} on both sides")
    verdict = {"scores": "score", "games": "winner", "votes": "winner"}.get(kind)
    if verdict and row[verdict] is None and row["reason"] in (None, "no_verdict"):
        # A label in no order is a verdict (see `frames.without_labels`).
        labelled = row.get("criterion") and row.get("label") and "weight" in row
        row["reason"] = None if labelled else "no_verdict"
    if kind == "pairs" and row["pair_id"] is None:
        texts = "\0".join(str(row[name]) for name in ("prompt", "chosen", "rejected"))
        row["pair_id"] = f"p-{hashlib.sha256(texts.encode()).hexdigest()[:12]}"


def _integral(rows: list[Row], name: str) -> bool:
    """Return whether a CSV column of ids holds whole numbers, some of them written as floats."""
    filled = [str(row[name]) for row in rows if row.get(name) not in (None, "")]
    whole_numbers = [cell.removesuffix(".0") for cell in filled]
    written = all(re.fullmatch(r"0|[1-9][0-9]*", cell) for cell in whole_numbers)
    return written and whole_numbers != filled


def _typed(rows: list[Row], kind: str) -> None:
    """Read a CSV's further columns that hold only JSON's values; an empty cell is missing."""
    for row in rows:
        row |= {name: None for name in _OPTIONAL if row.get(name) == ""}
    for name in {name for row in rows for name in row} - {*COLUMNS[kind], "criterion"}:
        texts = {row[name] for row in rows if isinstance(row.get(name), str)} - {""}
        values = {text: _value_in(text) for text in texts}
        alike = None not in values.values()
        for row in rows:
            value = row.get(name)
            if value == "":
                row[name] = None
            elif alike and isinstance(value, str):
                row[name] = values[value]


def _value_in(text: str) -> Any:
    """Return what a cell writes as JSON does, but for texts and null; None for any other text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    known = isinstance(value, (bool, int, float, list, dict)) and value == value
    return value if known and json.dumps(value, ensure_ascii=False) == text else None


def _number(loaded: Loaded) -> None:
    """Number repeated rows 0, 1, 2 in their order where no sample is stated."""
    names, seen = _SHOWING.get(loaded.kind), Counter[tuple[Any, ...]]()
    for row in loaded.rows if names else ():
        if row["sample"] is None:
            showing = tuple(row.get(name) for name in names or ())
            ours = loaded.kind != "answers" or str(row["question_id"]).startswith("q-")
            row["sample"] = seen[showing] if ours and row["question_id"] is not None else 0
            loaded.repeats += bool(row["sample"])
            seen[showing] += 1


def _distinct(loaded: Loaded, how: How, key: tuple[str, ...]) -> Loaded:
    """Return each question or answer once; BadRow where two rows claim one key.

    Rows of votes show the same question many times, and the first turns of it; the longest counts.
    """
    merge = any(layout.merge for layout in loaded.layouts)
    kept: dict[tuple[Any, ...], int] = {}
    rows: list[Row] = []
    origins: list[tuple[Path, int]] = []
    for row, origin in zip(loaded.rows, loaded.origins, strict=True):
        name = tuple(row[part] for part in key)
        at = kept.setdefault(name, len(rows))
        if at == len(rows):
            rows.append(row)
            origins.append(origin)
            continue
        turns, known = row["turns"] or [], rows[at]["turns"] or []
        same = all(a == b for a, b in zip(turns, known, strict=False))
        if same and (merge or (len(key) == 1 and str(name[0]).startswith("q-"))):
            if len(turns) > len(known):
                rows[at] = row
            continue
        first = "" if origins[at][0] == origin[0] else f" (first in {origins[at][0]})"
        what = (
            f"answers the question {name[0]} as {name[1]!r} a second time{first}; keep one of them"
            if len(key) > 1
            else f"repeats the question {name[0]}{first}"
        )
        what = "has another text where the same question or answer stood before" if merge else what
        _skip(loaded, bad_row(*origin, what), how)
    loaded.rows, loaded.origins = rows, origins
    return loaded
