"""Criteria: several named verdicts in one reply, and their total."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import pandas as pd

from lmjudge.canonical import JSON, canonical_json
from lmjudge.errors import FrameError, PromptError
from lmjudge.frames import COLUMNS, check, frame as make_frame, without_labels
from lmjudge.judges.parsers import LETTERS, Scale, Verdict, cut_short, json_object, winner_of
from lmjudge.judges.prompts import shape
from lmjudge.reasoning import after_reasoning

CANNOT_ASSESS = "cannot assess"
PASS_FAIL = ("fail", "pass")
_LETTERS = ("A", "B", "C")
# What a level is described under, as a field of an object and as a line of a text.
_TEXTS = ("text", "criteria_description", "criteria", "description")
_LEVEL = re.compile(r"(?:score[_ ]?)?(\d+(?:-\d+)?)(?:_description)?")
_GRADED = re.compile(r"^\s*(?:score )?(\d+)(?:-(\d+))?\s*:", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Criterion:
    """One thing that a judge gives a verdict on: a name, what it means, and how it is graded.

    | scale, labels | verdict | columns |
    | --- | --- | --- |
    | `scale=(1, 5)` | a number | score (of pairs: score_a, score_b, winner) |
    | `scale=("poor", "fair", "good")` | a word, from worst to best | as above (1, 2, 3), label |
    | `scale="pass/fail"` | pass or fail | as above (1, 0), label |
    | `labels=("news", "sport")` | a word, in no order | label |
    | neither | a number on the judge's scale; of pairs A, B or C | score; winner |

    On a scale, the two answers of a pair get a verdict each, and no label. `weight` is its share in
    `weighted_total`. Raises PromptError for a name that is empty or longer than a line, a scale
    that does not rise, fewer than two words, a weight that is negative or no number, and a scale
    beside labels.

    >>> Criterion("helpful", scale=(1, 5), weight=2, text="Does it do what was asked?").words
    ()
    >>> Criterion("safe", scale="pass/fail").words
    ('fail', 'pass')
    """

    name: str
    text: str = ""
    scale: Sequence[Any] | str | None = None
    labels: tuple[str, ...] = ()
    weight: float = 1

    def __post_init__(self) -> None:
        pass_fail = isinstance(self.scale, str) and self.scale == "pass/fail"
        lists = {"scale": PASS_FAIL if pass_fail else self.scale, "labels": self.labels}
        for name, values in lists.items():
            if not isinstance(values, str) and isinstance(values, Iterable):
                object.__setattr__(self, name, tuple(map(_plain, values)))
        object.__setattr__(self, "weight", _plain(self.weight))
        if not self._fits():
            raise PromptError(
                f"the criterion {self.name!r} has scale {self.scale!r}, labels {self.labels!r} and"
                f" weight {self.weight!r}; expected a name, a scale such as (1, 5), words from"
                ' worst to best, or "pass/fail", or labels=("one", "other"); a weight from 0 on',
                name=self.name,
            )

    def _fits(self) -> bool:
        """Return whether a judge can be asked for it, and its verdict be weighed."""
        line = isinstance(self.name, str) and self.name.strip().splitlines() == [self.name]
        lists = isinstance(self.labels, tuple) and isinstance(self.scale, (tuple, type(None)))
        if not (line and lists and _is_number(self.weight) and self.weight >= 0):
            return False
        words, scale = self.words, self.scale or ()
        if words:
            texts = all(isinstance(word, str) and word.strip() for word in words)
            distinct = len(set(words)) == len(words) > 1 and not any(map(_declined, words))
            return texts and distinct and not (scale and self.labels)
        return self.scale is None or (
            len(scale) == 2 and all(map(_is_number, scale)) and scale[0] < scale[1]
        )

    @property
    def words(self) -> tuple[str, ...]:
        """The words that the judge chooses from; none where it gives a number or a letter."""
        scale = tuple(self.scale or ())
        return self.labels or (scale if all(isinstance(step, str) for step in scale) else ())

    @property
    def numbers(self) -> Scale | None:
        """The least and the greatest number; None where the verdict is a word or a letter."""
        scale: tuple[Any, ...] = tuple(self.scale or ())
        plain = all(isinstance(step, (int, float)) and not isinstance(step, bool) for step in scale)
        return (scale[0], scale[1]) if plain and len(scale) == 2 else None

    def on(self, scale: Scale) -> Criterion:
        """Return the criterion on the judge's scale, where it has none of its own."""
        own = self.scale is not None or self.labels
        return self if own else replace(self, scale=scale)

    def asks(self, pairwise: bool) -> str:
        """Return what a verdict on it is to be, as the judge reads it."""
        each = '{"A": ..., "B": ...}, each ' if pairwise else ""
        if self.words:
            words = ", ".join(json.dumps(word, ensure_ascii=False) for word in self.words)
            return (
                f"{each}one of {words}, from worst to best"
                if each and self.scale
                else (f"one of {words}")
            )
        if self.numbers:
            low, high = self.numbers
            return f"{each}a number from {low} (worst) to {high} (best)"
        return '"A" where assistant A did better, "B" where assistant B did, "C" where neither did'


def listed(criteria: Sequence[Criterion], pairwise: bool) -> str:
    """Return the criteria as the judge reads them, in this order."""
    lines = []
    for criterion in criteria:
        text = f": {criterion.text}" if criterion.text else ""
        lines.append(f"{criterion.name}{text}\n(verdict: {criterion.asks(pairwise)})")
    return "\n\n".join(lines)


def criteria_format(criteria: Iterable[Criterion], *, pairwise: bool = False) -> dict[str, JSON]:
    """Return the `response_format` by which a server with JSON schemas writes these verdicts.

    It goes into a judge's params, and with them into the key. A criterion without scale or labels
    is a number, of pairs a letter.
    """

    def verdict(criterion: Criterion) -> JSON:
        one_word: JSON = {"type": "string", "enum": [*(criterion.words or _LETTERS), CANNOT_ASSESS]}
        number: JSON = {"anyOf": [{"type": "number"}, {"type": "string", "enum": [CANNOT_ASSESS]}]}
        if pairwise and criterion.scale:
            side = one_word if criterion.words else number
            return _object({"A": side, "B": side})
        return one_word if criterion.words or pairwise else number

    return shape(verdicts=_object({criterion.name: verdict(criterion) for criterion in criteria}))


def _object(fields: dict[str, JSON]) -> JSON:
    return {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }


def read_criteria(
    text: str, finish_reason: str | None, criteria: Sequence[Criterion], pairwise: bool
) -> list[Verdict]:
    """Return the verdict on each criterion in a reply that is one JSON object.

    The verdicts stand in its field `verdicts`, or in the object itself. A criterion that is not
    there or null is `no_verdict`, "cannot assess" is `cannot_assess`, one that stands twice is
    `ambiguous`, a number outside its scale `out_of_range`. Nothing is read of a reply that was cut
    short or that is not one JSON object.

    >>> safe = Criterion("safe", scale="pass/fail")
    >>> read_criteria('{"verdicts": {"safe": "pass"}}', "stop", [safe], False)[0].score
    1.0
    """
    if cut := cut_short(finish_reason):
        return [Verdict(reason=cut)] * len(criteria)
    fields = json_object(text) or json_object(after_reasoning(text)) or ()
    inner = [value for name, value in fields if name == "verdicts"]
    if inner:
        fields = inner[0] if len(inner) == 1 and isinstance(inner[0], tuple) else ()
    return [
        _verdict([value for name, value in fields if name == criterion.name], criterion, pairwise)
        for criterion in criteria
    ]


def _verdict(values: list[Any], criterion: Criterion, pairwise: bool) -> Verdict:
    if len(values) != 1:
        return Verdict(reason="ambiguous" if values else "no_verdict")
    value = values[0]
    if _declined(value):
        return Verdict(reason="cannot_assess")
    if pairwise and criterion.scale:
        sides = value if isinstance(value, tuple) else ()
        a, b = (
            _verdict([label for side, label in sides if side == letter], criterion, False)
            for letter in "AB"
        )
        if a.score is None or b.score is None:
            return Verdict(reason=a.reason or b.reason)
        better = "model_a" if a.score > b.score else "model_b"
        winner = "tie" if a.score == b.score else better
        return Verdict(winner=winner, score_a=a.score, score_b=b.score)
    if words := criterion.words:
        if value not in words:
            return Verdict(reason="no_verdict")
        from_zero = words == PASS_FAIL
        place = float(words.index(value) + (not from_zero))
        return Verdict(label=value, score=None if criterion.labels else place)
    if criterion.numbers is None:
        letter = value in _LETTERS
        return Verdict(winner=winner_of(value, LETTERS)) if letter else Verdict(reason="no_verdict")
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return Verdict(reason="no_verdict")
    low, high = criterion.numbers
    return Verdict(score=float(value)) if low <= value <= high else Verdict(reason="out_of_range")


def _declined(value: object) -> bool:
    """Return whether a value says "cannot assess", whatever its case and marks."""
    return isinstance(value, str) and (
        re.sub(r"[\W_]+", " ", value).strip().lower() == CANNOT_ASSESS
    )


def _plain(value: Any) -> Any:
    """Return a number or text of NumPy, as Parquet gives it, as Python's own."""
    return value.item() if hasattr(value, "item") else value


def _is_number(value: object) -> bool:
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    return known and math.isfinite(value)  # type: ignore[arg-type]


def scaled(verdict: Verdict, criterion: Criterion) -> float | None:
    """Return a score from 0 (the worst on its criterion's scale) to 1 (the best)."""
    if verdict.score is None:
        return None
    low, high = criterion.numbers or (1, len(criterion.words))
    if criterion.words == PASS_FAIL:
        low, high = 0, 1
    return (verdict.score - low) / (high - low)


def criteria_of(rubric: object) -> tuple[Criterion, ...]:
    """Return the criteria that a cell of a `rubric` column, or a file, holds.

    | cell | criteria |
    | --- | --- |
    | a text | one, of that text |
    | a list of texts (WildBench's checklist) | one a text |
    | a list of objects with `name` and `text` or `criteria_description` | one each |
    | an object with `criteria` and `score1_description` ... (BiGGen-Bench's) | one, on that scale |
    | an object with a list under `criteria` | those of the list |
    | an object of texts, or of such objects, by name | one a name |

    A text that names no criterion is called `criterion_1` and so on, or `rubric` where it is alone.
    Raises PromptError for a cell of another form, a criterion whose fields hold no text known here,
    and for two criteria of one name.
    """
    cell: Any = rubric
    if isinstance(cell, str) and cell.lstrip()[:1] in ("[", "{"):
        try:
            cell = json.loads(cell)
        except ValueError:
            cell = rubric
    if isinstance(cell, Mapping) and not isinstance(cell.get("criteria") or "", str):
        cell = cell["criteria"]
    if isinstance(cell, str) or (isinstance(cell, Mapping) and {"criteria", "name"} & set(cell)):
        cell = [cell]
    elif isinstance(cell, Mapping):
        cell = [
            {"name": name, **(value if isinstance(value, Mapping) else {"text": value})}
            for name, value in cell.items()
        ]
    items = list(cell) if isinstance(cell, Iterable) else []
    if not items:
        raise PromptError(
            f"the criteria are {rubric!r:.60}; expected a text, or a list of texts or of objects"
            " with name, text, scale, labels and weight",
            name="criteria",
        )
    alone = len(items) == 1
    names = ["rubric" if alone else f"criterion_{n}" for n in range(1, len(items) + 1)]
    criteria = tuple(map(_criterion, items, names))
    if len({value.name for value in criteria}) < len(criteria):
        raise PromptError(
            f"of the criteria {[value.name for value in criteria]} two have one name; give each a"
            " name of its own",
            name="criteria",
        )
    return criteria


def _criterion(item: object, name: str) -> Criterion:
    if isinstance(item, Criterion):
        return item
    if isinstance(item, str) and item.strip():
        item = {"text": item.strip()}
    if not isinstance(item, Mapping):
        raise PromptError(
            f"a criterion is {item!r:.60}; expected a text, or an object with name, text,"
            " scale, labels and weight",
            name="criteria",
        )
    texts = [item[key] for key in _TEXTS if isinstance(item.get(key), str)]
    levels = [f"{match[1]}: {item[key]}" for key in item if (match := _LEVEL.fullmatch(str(key)))]
    text = "\n".join([*texts[:1], *levels])
    fields = [key for key in item if key not in ("name", "scale", "labels", "weight")]
    if not text and any(item[key] is not None and item[key] != "" for key in fields):
        raise PromptError(
            f"the criterion {item.get('name') or name!r} has {', '.join(map(repr, fields))}, and no"
            " text in `text`, `description` or `criteria`; put there what the criterion means",
            name="criteria",
        )
    own = {key: item[key] for key in ("scale", "labels", "weight") if item.get(key) is not None}
    grades = [int(number) for line in _GRADED.findall(text) for number in line if number]
    if not {"scale", "labels"} & set(own) and len(set(grades)) > 1:
        own["scale"] = (min(grades), max(grades))
    return Criterion(str(item.get("name") or name).strip(), text, **own)


def digest_of(criteria: Sequence[Criterion]) -> str:
    """Return eight hex digits by which criteria are told apart in a judge's name."""
    content: Any = [
        {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(criterion).items()
        }
        for criterion in criteria
    ]
    return hashlib.sha256(canonical_json(content)).hexdigest()[:8]


def weighted_total(
    judged: pd.DataFrame,
    *,
    weights: Mapping[str, float] | None = None,
    missing: Literal["missing", "leave_out", "zero"] = "missing",
) -> pd.DataFrame:
    """Return one row for all criteria of a reply: its criterion is `total`.

    Scores: the mean of `scaled` (0 is the worst, 1 the best of each criterion's scale), weighted by
    the rows' `weight`, or by `weights` by criterion. Games: the side whose criteria weigh more
    wins; equal weights are a tie. A label without order counts nowhere. `missing` says what becomes
    of a criterion without a verdict: the total is missing too, with its reason (`missing`); the
    others are weighed alone (`leave_out`); it counts as the worst score, or as a tie (`zero`).

    Columns: as in the frame, less label, scaled and place; `criteria` (how many counted). Votes are
    weighed as games are, by `weights`. Raises FrameError for a frame without criteria, a criterion
    that `weights` lacks, a weight that is negative or no number, and where all weigh 0.
    """
    games = "model_a" in judged.columns
    kind = ("votes" if "group" in judged.columns else "games") if games else "scores"
    frame = check(judged, kind, by="criterion").reset_index(drop=True)
    if missing not in ("missing", "leave_out", "zero"):
        raise ValueError(f"missing is {missing!r}; expected 'missing', 'leave_out' or 'zero'")
    needs = ["criterion", *([] if games else ["scaled"])]
    needs += ["weight"] if weights is None else []
    if absent := [name for name in needs if name not in frame.columns]:
        raise FrameError(
            f"the {kind} lack {', '.join(absent)}, which a judge with criteria= gives; judge with"
            " criteria first",
            columns=absent,
        )
    if weights is not None:
        unknown = sorted(set(frame["criterion"]) - set(weights))
        if unknown:
            raise FrameError(
                f"weights lack the criterion {unknown[0]!r}; give each a weight, 0 to leave it out",
                rows=frame[frame["criterion"].isin(unknown)],
            )
        frame = frame.assign(weight=frame["criterion"].map(dict(weights)))
    weight = pd.to_numeric(frame["weight"], errors="coerce")
    if len(bad := frame[~weight.ge(0) | weight.eq(math.inf)]):
        raise FrameError(
            f"the weight of {bad['criterion'].iloc[0]!r} is {bad['weight'].iloc[0]}; give a number"
            " from 0 on, 0 to leave it out",
            rows=bad,
        )
    worth = (
        frame["winner"].map({"model_a": 1.0, "tie": 0.0, "model_b": -1.0}).astype(float)
        if games
        else frame["scaled"].astype(float)
    )
    # A criterion with labels has no worth, and neither has its verdict where that is missing.
    unordered = {*frame["criterion"].drop(without_labels(frame).index)}
    weight = weight.where(~frame["criterion"].isin(unordered) | worth.notna(), 0.0)
    if len(frame) and not weight.gt(0).any():
        raise FrameError(
            f"none of the criteria {', '.join(map(str, frame['criterion'].unique()[:5]))} has an"
            " ordered verdict and a weight above 0; give one a weight",
            rows=frame,
        )
    frame = frame.assign(worth=worth, weight=weight)
    names = [name for name in COLUMNS[kind] if name not in (*_READ, "reason", "time")]
    rows = []
    for _, part in frame.groupby(names, sort=False, dropna=False):
        rows.append(_total(part, missing, games))
    numbers = {name: float for name in _READ if name in COLUMNS[kind] and name != "winner"}
    return make_frame(kind, rows).astype(numbers)


_READ = ("winner", "score", "score_a", "score_b")


def _total(part: pd.DataFrame, missing: str, games: bool) -> dict[str, Any]:
    weighed = part[part["weight"] > 0]
    lost = weighed[weighed["worth"].isna()]
    counted = weighed if missing == "zero" else weighed[weighed["worth"].notna()]
    row = (
        part.drop(columns=["worth", "label", "scaled", "place"], errors="ignore").iloc[0].to_dict()
    )
    row |= {"criterion": "total", "reason": None, "weight": 1.0}
    row |= {name: None for name in _READ if name in row} | {"criteria": len(counted)}
    if (missing == "missing" and len(lost)) or not len(counted):
        return row | {"reason": next(iter(lost["reason"].dropna()), "no_verdict")}
    of = (counted["worth"].fillna(0) * counted["weight"]).sum() / counted["weight"].sum()
    if not games:
        return row | {"score": of}
    return row | {"winner": "tie" if abs(of) < 1e-12 else "model_a" if of > 0 else "model_b"}
