"""The shapes of JSON verdicts, as a server that has JSON schemas is asked for them."""

from __future__ import annotations

from lmjudge.canonical import JSON

_LETTER: dict[str, JSON] = {"type": "string", "enum": ["A", "B", "C"]}
_NUMBER: dict[str, JSON] = {"type": "number"}


def shape(explanation: str = "explanation", **fields: JSON) -> dict[str, JSON]:
    """Return the response format of an object with these fields, the explanation first.

    The verdict then follows from the explanation.
    """
    properties: dict[str, JSON] = {explanation: {"type": "string"}, **fields}
    return {
        "type": "json_schema",
        "json_schema": {
            "name": "verdict",
            "strict": True,
            "schema": {
                "type": "object",
                "properties": properties,
                "required": list(properties),
                "additionalProperties": False,
            },
        },
    }


_FIELDS: dict[str, dict[str, JSON]] = {
    "pair-json": {"winner": _LETTER},
    "single-json": {"score": _NUMBER},
    "score-json": {"score_a": _NUMBER, "score_b": _NUMBER},
    "many-json": {"scores": {"type": "array", "items": _NUMBER}},
}
# For `params={"response_format": RESPONSE_FORMATS["pair-json-v2"]}`, by the prompt's name. They say
# no bounds, which not every server takes: the parser "json" holds scores to the prompt's scale.
# Servers move a field "reasoning" to where thinking models think, and the verdict with it: "-v2"
# names it "explanation". The first names keep the keys of requests that were made with them.
RESPONSE_FORMATS: dict[str, dict[str, JSON]] = {
    **{name: shape("reasoning", **fields) for name, fields in _FIELDS.items()},
    **{f"{name}-v2": shape(**fields) for name, fields in _FIELDS.items()},
}
