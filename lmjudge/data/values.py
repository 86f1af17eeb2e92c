"""What one cell of anybody's file says: an id, a name, texts, a number, a time, a verdict."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from lmjudge.data.raw import Row
from lmjudge.frames import id_text
from lmjudge.judges.prompts import FAMILIES
from lmjudge.turns import content

QUESTIONS = ("question", "prompt", "instruction", "context", "history", "text", "input")
MODELS = ("model_id", "model", "generator", "model_name", "response_model_name", "model_test")
_IDS = ("question_id", "uid")
# Marks of a missing verdict, and those of them that stand for a call that failed.
_MISSING = {"", "na", "n/a", "nan", "null", "none", "-1", "error", "$error$", "garbage"}
_FAILED = {"error", "$error$"}
_WINNERS: dict[str, tuple[str | None, str | None]] = {
    "model_a": ("model_a", None),
    "model_b": ("model_b", None),
    "tie": ("tie", None),
    "tie (bothbad)": ("tie", "both_bad"),
    "both_bad": ("tie", "both_bad"),
    "bothbad": ("tie", "both_bad"),
    "tie (inconsistent)": ("tie", "inconsistent"),
    "left": ("model_a", None),
    "right": ("model_b", None),
    "same": ("tie", None),
    "equal": ("tie", None),
    "draw": ("tie", None),
    "neither": ("tie", "both_bad"),
    "both bad": ("tie", "both_bad"),
    "a": ("model_a", None),
    "b": ("model_b", None),
    "c": ("tie", None),
    "unsure": (None, "no_verdict"),
    "?": (None, "no_verdict"),
}
_PASSES = {"pass": 1, "yes": 1, "true": 1, "fail": 0, "no": 0, "false": 0}
# A>>B and the like, with the better side first or last.
_SIGNS = {">>": 0, ">": 0, "<": -1, "<<": -1}


def take(row: Row, *names: str) -> Any:
    """Remove and return the first of these columns that has a value; None where none has."""
    for name in names:
        if name in row and (value := row.pop(name)) is not None:
            return value
    return None


def as_id(value: Any, name: str) -> str | None:
    """Return an id as text (see `id_text`); ValueError for what is none."""
    if isinstance(value, (bool, list, dict)):
        raise ValueError(f"has {name} = {value!r:.60}; expected a text or an integer")
    of = id_text(value)
    return None if of is None else str(of)


def name_of(row: Row, *names: str) -> str | None:
    """Remove and return the first of these columns that holds a name; numbers become text."""
    for name in names:
        value = row.get(name)
        if value is None or value == "":
            continue
        return as_id(row.pop(name), name)
    return None


def question_id(row: Row, *names: str) -> str:
    """Return the id that a row gives its question, else one made of the question's text.

    Rows with one text are on one question, whichever file they stand in. `names` are the columns
    that may hold the text. Raises KeyError where a row has neither.
    """
    for name in _IDS:
        if row.get(name) is not None and row[name] != "":
            return str(as_id(row.pop(name), name))
    turns = question_of(row, *names)
    if turns is None:
        raise KeyError("question_id")
    return content_id(turns, row.get("input") if "instruction" in row else None)


def verdict_id(row: Row) -> str | None:
    """Return the id of the question that a verdict is on; None where the row says nothing of it."""
    try:
        return question_id(row, "question", "prompt", "instruction")
    except KeyError:
        return None


def content_id(turns: list[str], beside: Any = None) -> str:
    """Return the id of a question that its file gives none: a hash of its text."""
    text_ = "\0".join([*turns, str(beside or "")])
    return f"q-{hashlib.sha256(text_.encode()).hexdigest()[:12]}"


def question_of(row: Row, *names: str) -> list[str] | None:
    """Return the turns of the question in a row, whatever its column; None where it has none."""
    if "conversation_a" in row:
        return talk(row["conversation_a"])[0]
    for name in names or ("turns", *QUESTIONS):
        if row.get(name) is not None:
            return asked(row[name])
    return None


def asked(value: Any) -> list[str] | None:
    """Return what was asked: a text, a list of texts, or what the user says in a list of messages.

    >>> asked("Sing"), asked([{"role": "user", "content": "Sing"}])
    (['Sing'], ['Sing'])
    """
    if isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
        if "role" in value[0]:
            return texts([one.get("content") for one in value if one.get("role") == "user"])
        if "user" in value[0]:
            return texts([one["user"] for one in value])
    return texts(value)


def talk(messages: Any) -> tuple[list[str], list[str]]:
    """Return what the user said and what the model said, one text a turn."""
    if not isinstance(messages, list) or not all(isinstance(one, Mapping) for one in messages):
        raise ValueError(f"has a conversation that is no list of messages ({messages!r:.60})")
    said = [one for one in messages if one.get("role") != "system"]
    if said and said[-1].get("role") == "user":
        said = said[:-1]  # a last question that nobody answered
    roles = [one.get("role") for one in said]
    if not roles or roles != ["user", "assistant"] * (len(roles) // 2):
        raise ValueError(f"has the roles {roles}; expected user and assistant in turn")
    spoken = texts([one.get("content") for one in said])
    if spoken is None:
        raise ValueError("has a message without text")
    return spoken[::2], spoken[1::2]


def sharegpt(messages: Any) -> tuple[list[str], list[str]]:
    """Return what the user and the model said in ShareGPT's form: from human or gpt, and value.

    What a model says before the first question is left out, as in Vicuna's data.
    """
    roles = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
    roles |= dict.fromkeys(("chatgpt", "bing", "bard"), "assistant") | {"system": "system"}
    if not isinstance(messages, list) or not all(isinstance(one, Mapping) for one in messages):
        raise ValueError(f"has conversations that are no list of messages ({messages!r:.60})")
    made = [
        {"role": roles.get(str(one.get("from")), one.get("from")), "content": one.get("value")}
        for one in messages
    ]
    while made and made[0]["role"] == "assistant":
        del made[0]
    return talk(made)


def text(value: Any) -> str | None:
    """Return a text, as it is or as its file wraps it ({"content": ...}, parts with pictures)."""
    while isinstance(value, Mapping):
        value = next((value[n] for n in ("content", "answer", "text") if n in value), None)
    if isinstance(value, list):
        parts = [text(part) for part in value if not isinstance(part, Mapping) or "text" in part]
        value = "\n".join(part for part in parts if part is not None) if parts else None
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    return str(value)


def replies(messages: Any) -> list[Any]:
    """Return what followed each of the user's messages: a text a turn, the tools used included.

    A last message of the user that nobody answered has none; a list of other things has none.
    """
    turns: list[list[Any]] = []
    for message in messages if isinstance(messages, list) else []:
        role = message.get("role") if isinstance(message, Mapping) else None
        if role == "user":
            turns.append([])
        elif role in ("assistant", "tool", "function"):
            turns = turns or [[]]
            turns[-1].append(message)
    said = [(one, _turn(one[0].get("content")) if len(one) == 1 else None) for one in turns if one]
    return [content(one) if alone is None else alone for one, alone in said]


def texts(value: Any) -> list[Any] | None:
    """Return the texts of a list of turns, or of one text; None where one is missing.

    A turn with pictures stays the list of its parts, and an agent's messages become one text.
    """
    turns = [_turn(one) for one in (value if isinstance(value, list) else [value])]
    return None if not turns or None in turns else [turn for turn in turns if turn is not None]


def _turn(value: Any) -> Any:
    parts: list[Any] = value if isinstance(value, list) and value else [None]
    if all(isinstance(one, Mapping) for one in parts):
        if any("role" in one for one in parts):
            return content(value)
        if any(one.get("type", "text") == "image_url" for one in parts):
            return value
    return text(value)


def listed(value: Any) -> Any:
    """Return the list whose JSON a text is; any other value as it is."""
    try:
        return json.loads(value) if isinstance(value, str) and value[:1] == "[" else value
    except ValueError:
        return value


def missing(value: Any) -> str | None:
    """Return why a verdict is missing, where its value only marks that; else None.

    >>> missing(-1), missing("$ERROR$"), missing("tie")
    ('no_verdict', 'request_failed', None)
    """
    if isinstance(value, str):
        mark = value.strip().lower()
        return ("request_failed" if mark in _FAILED else "no_verdict") if mark in _MISSING else None
    if value is None or value == -1 or value == [] or (isinstance(value, float) and value != value):
        return "no_verdict"
    failed = isinstance(value, list) and all(missing(one) for one in value)
    return "no_verdict" if failed else None


def number(value: Any, name: str = "score") -> float:
    """Return a number, also from a text that is one; ValueError for anything else."""
    try:
        if isinstance(value, bool):
            raise ValueError
        made = float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"has {name} = {value!r:.60}; expected a number") from error
    if not math.isfinite(made):
        raise ValueError(f"has {name} = {value!r}; expected a finite number")
    return made


def integer(value: Any, name: str) -> int:
    """Return an integer, also from a text or a float that is one."""
    if type(value) is int:
        return value
    made = number(value, name)
    if not made.is_integer():
        raise ValueError(f"has {name} = {value!r}; expected an integer")
    return int(made)


def grade(value: Any) -> Row:
    """Return the score that a value states, or the reason why there is none.

    A pass is 1 and a fail is 0, as true and false, or in words.

    >>> grade("7.5"), grade(-1), grade("Pass ")["score"]
    ({'score': 7.5, 'reason': None}, {'score': None, 'reason': 'no_verdict'}, 1.0)
    """
    why = missing(value)
    if isinstance(value, (str, bool)):
        value = _PASSES.get(str(value).strip().lower(), value)
    return {"score": None if why else number(value), "reason": why}


def flag(value: Any, name: str) -> bool:
    """Return a truth value, from what files write for one: True, 0, "f", "False", "yes"."""
    known = {"true": True, "t": True, "yes": True, "1": True, "1.0": True}
    known |= {"false": False, "f": False, "no": False, "0": False, "0.0": False, "": False}
    try:
        return known[str(value).strip().lower()]
    except KeyError:
        raise ValueError(f"has {name} = {value!r:.60}; expected true or false") from None


def seconds(value: Any, name: str = "tstamp") -> float | None:
    """Return a time in seconds since 1970: from seconds, milliseconds, a date or ISO 8601.

    A date or time without a zone is in UTC.

    >>> seconds(1682351591000), seconds("2023-04-24T15:53:11Z")
    (1682351591.0, 1682351591.0)
    """
    if value is None or value == "" or value != value:
        return None
    if isinstance(value, str) and not value.replace(".", "", 1).lstrip("-").isdigit():
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"has {name} = {value!r:.60}; expected a time") from None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    stamp = number(value, name)
    return stamp / 1000 if abs(stamp) > 1e11 else stamp


def win(value: Any) -> Row:
    """Return the winner that a label names, and the reason of a tie or a missing verdict.

    >>> win("A>>B"), win("tie (bothbad)")
    ({'winner': 'model_a', 'reason': None}, {'winner': 'tie', 'reason': 'both_bad'})
    """
    label = value.strip() if isinstance(value, str) else ""
    if label.lower() not in _WINNERS and (why := missing(value)):
        return {"winner": None, "reason": why}
    if label.lower() in _WINNERS:
        winner, reason = _WINNERS[label.lower()]
        return {"winner": winner, "reason": reason}
    sign = label[1:-1]
    if {label[:1], label[-1:]} == {"A", "B"} and sign in ("=", *_SIGNS):
        side = label[_SIGNS.get(sign, 0)].lower()
        return {"winner": "tie" if sign == "=" else f"model_{side}", "reason": None}
    raise ValueError(
        f"has the winner {value!r:.60}; expected model_a, model_b or tie, or say what it means:"
        f" labels={{{value!r:.60}: 'model_a'}}"
    )


def lean(value: Any, middle: float, name: str) -> Row:
    """Return the winner by a number: the first answer below the middle, the second above it."""
    if value is None or value == "" or value != value:
        return {"winner": None, "reason": "no_verdict"}
    at = number(value, name)
    return {"winner": "tie" if at == middle else "model_a" if at < middle else "model_b"}


def judge_of(value: Any) -> tuple[str | None, str | None]:
    """Return a judge's name and group by what a row says: a name, or FastChat's [model, prompt].

    A person's group is in the name (expert_3, author_1, arena_user_9, worker_5). A name of another
    form says nothing about its group.
    """
    if value is None or value == "" or value != value:
        return None, None
    if isinstance(value, list):
        if len(value) != 2 or not all(isinstance(part, str) for part in value):
            raise ValueError(f"has judge = {value!r:.60}; expected [model, prompt]")
        return judge_name(*value), "llm"
    name = str(as_id(value, "judge"))
    prefix = name.partition("_")[0]
    known = {"expert": "expert", "author": "author", "arena": "crowd", "worker": "crowd"}
    return name, known.get(prefix, "llm" if "/" in name else None)


def judge_name(model: str, prompt: str) -> str:
    """Return the name of FastChat's judge of that prompt: its family's, which has four prompts."""
    families = (f for f, members in FAMILIES.items() if f"fastchat:{prompt}" in members)
    return f"{model}/{next(families, prompt)}"
