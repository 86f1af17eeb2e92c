"""The shapes of JSON verdicts, as a server that has JSON schemas is asked for them."""

from __future__ import annotations

from lmjudge.canonical import JSON

_LETTER: dict[str, JSON] = {"type": "string", "enum": ["A", "B", "C"]}
_NUMBER: dict[str, JSON] = {"type": "number"}


def _shape(**fields: JSON) -> dict[str, JSON]:
    # The reasoning stands first, so that the verdict follows from it.
    whole: dict[str, JSON] = {"reasoning": {"type": "string"}, **fields}
    return {
        "type": "json_schema",
        "json_schema": {
            "name": "verdict",
            "strict": True,
            "schema": {
                "type": "object",
                "properties": whole,
                "required": list(whole),
                "additionalProperties": False,
            },
        },
    }


# For `params={"response_format": RESPONSE_FORMATS["pair-json"]}`, by the prompt's name. They say no
# bounds, which not every server takes: the parser "json" holds scores to the prompt's scale.
RESPONSE_FORMATS: dict[str, dict[str, JSON]] = {
    "pair-json": _shape(winner=_LETTER),
    "single-json": _shape(score=_NUMBER),
    "score-json": _shape(score_a=_NUMBER, score_b=_NUMBER),
    "many-json": _shape(scores={"type": "array", "items": _NUMBER}),
}
