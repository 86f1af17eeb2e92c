"""What an OpenAI-compatible server sent back, read: a reply, or the fault in its place.

Pure functions of status, headers and bytes. Only a whole chat completion is a reply; an error's
text, a web page or a tool call never is.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import cache
from urllib.parse import quote

from lmjudge.canonical import JSON, clean_text
from lmjudge.records import Reply

_DEEPEST = 50
_REASONING = ("reasoning_content", "reasoning")
# Ends of what the server itself gave up in the middle: asked again, it may come to the end.
_BROKEN_OFF = ("error", "abort", "insufficient_system_resource")
# Statuses that no request of the run would escape, and what to do about each.
_STOPS = {
    401: ("unauthorized", "check api_key or OPENAI_API_KEY"),
    402: ("quota", "add credit, then run again: what was answered is kept"),
    403: ("forbidden", "check that this key may use this model"),
    404: ("not_found", "check the model's name and the base URL"),
    405: ("not_found", "check the base URL"),
    410: ("not_found", "check the model's name and the base URL"),
}
_NO_CREDIT = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_TOO_LONG = re.compile(
    r"context.{0,20}(length|size|window)|prompt is too long|too many (input )?tokens|max_new_tokens"
)
_FILTERED = re.compile(
    r"content.?filter|content.{0,20}policy|responsibleaipolicy|data_inspection_failed|moderation"
)
_BAD_PARAM = re.compile(
    r"un(supported|known|recogni[sz]ed|expected).{0,12}(parameter|argument|value|field)"
)
# What a server may blame in one request and not in the next.
_OF_A_REQUEST = ("messages", "input", "prompt", "max_tokens", "max_completion_tokens")
# Shorter keys are words that servers on this machine are given for want of one, as "lm-studio".
_SHORTEST_KEY = 20
_SECRET = re.compile(r"(?i)bearer\s+[^\s\"']+|\bsk-[^\s\"',]+")


@dataclass(frozen=True)
class Fault:
    """Why an attempt gave no reply, and what follows: `again`, `fail` or `stop`.

    `wait` is how many seconds the server asked to be left alone, `usage` the tokens that it says
    it used. `refused` is True for an error response and for a server never reached: neither is
    charged for.
    """

    reason: str
    message: str
    status: int | None = None
    then: str = "again"
    wait: float | None = None
    usage: Mapping[str, JSON] | None = None
    refused: bool = False


def read_reply(
    status: int, headers: Mapping[str, str], body: bytes, *, secret: str = ""
) -> Reply | Fault:
    """The reply in what a server sent back, or the Fault that stands there in its place.

    Faults quote the first 500 characters of the body, without `secret`.
    """
    try:
        whole = json.loads(body, parse_constant=str)
    except (ValueError, RecursionError):
        whole = None
    if not isinstance(whole, dict):
        whole = {}
    found = _chat_reply(whole) if status == 200 and not whole.get("error") else None
    if isinstance(found, Reply):
        returned = any(is_told(secret, text) for text in _texts(found.as_json()))
        return replace(_key_returned, usage=found.usage) if returned else found
    fault = found or _fault(status, headers, whole.get("error") or whole)
    said = redacted(body.decode("utf-8", "replace"), secret)[:500]
    return replace(
        fault,
        message=f"{redacted(fault.message, secret)}; it sent {said!r}",
        usage=_usage(whole),
        refused=found is None,
    )


_key_returned = Fault(
    "key_returned",
    "the reply holds the API key, and is not kept; look at what answers at the base URL, and change"
    " the key",
    200,
    "stop",
)


def _chat_reply(whole: Mapping[str, JSON]) -> Reply | Fault:
    """The reply in a chat completion, or the Fault for what is none."""
    bad = Fault("bad_reply", "what came back is no chat completion", 200)
    choices = whole.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        return bad
    text, thought = _in_parts(message.get("content"))
    refusal, finish = message.get("refusal"), choice.get("finish_reason")
    if not text and (message.get("tool_calls") or message.get("function_call")):
        return Fault("tool_call", "the model called a tool instead of answering", 200, then="fail")
    if text is None and (refusal or finish in ("length", "content_filter")):
        text = ""
    if not isinstance(text, str) or finish in _BROKEN_OFF:
        return bad
    try:
        logprobs = _plain(choice.get("logprobs"))
        _plain(whole.get("usage"))
    except ValueError:
        return bad
    return Reply(
        text=clean_text(text),
        finish_reason=_text(finish),
        refusal=_text(refusal),
        logprobs=logprobs,
        usage=_usage(whole),
        model=_text(whole.get("model")),
        fingerprint=_text(whole.get("system_fingerprint")),
        reasoning=next(filter(None, map(_text, (*map(message.get, _REASONING), thought))), None),
    )


def _in_parts(content: JSON, thinking: bool = True) -> tuple[JSON, str | None]:
    """A message's content as one text, and the reasoning in it, where it is a list of parts.

    Mistral's models that reason reply so. The content as it is where a part is something else.
    """
    texts: list[str] = []
    thoughts: list[str] = []
    for part in content if isinstance(content, list) else ():
        kind = part.get("type") if isinstance(part, dict) else None
        said = part.get("text") if kind == "text" else None
        if kind == "thinking" and thinking:
            said = _in_parts(part.get("thinking"), thinking=False)[0]
        if not isinstance(said, str):
            return content, None
        (texts if kind == "text" else thoughts).append(said)
    whole = isinstance(content, list) and content
    return ("".join(texts), "".join(thoughts)) if whole else (content, None)


def _fault(status: int, headers: Mapping[str, str], error: JSON) -> Fault:
    """What an error means, by code, status and, where the request is to blame, by its words."""
    fields = error if isinstance(error, dict) else {"message": error}
    code, kind, words = (
        str(fields.get(name) or "").lower() for name in ("code", "type", "message")
    )
    if status == 200 and re.fullmatch("[45][0-9][0-9]", code):
        status = int(code)
    message = f"the server replied {status}"
    if {code, kind} & _NO_CREDIT:
        return Fault("quota", f"{message}; {_STOPS[402][1]}", status, "stop")
    if 300 <= status < 400:
        message += f" and redirects to {headers.get('location')!r}, where no prompt is sent"
        return Fault("redirect", f"{message}; give the final address as base_url", status, "stop")
    blamed = f"{code} {kind} {words}" if status in (400, 403, 413, 422) else f"{code} {kind}"
    for reason, pattern in (("context_length", _TOO_LONG), ("content_filter", _FILTERED)):
        if pattern.search(blamed):
            return Fault(reason, message, status, "fail")
    if status in _STOPS:
        reason, advice = _STOPS[status]
        return Fault(reason, f"{message}; {advice}", status, "stop")
    if status in (400, 422) and (named := _refused_param(fields, f"{code} {words}")):
        message += f"; it does not take the param {named} as sent; change it or leave it out of"
        return Fault("bad_param", f"{message} params, which replace the defaults", status, "stop")
    if 400 <= status < 500 and status not in (408, 409, 425, 429):
        return Fault("bad_request", message, status, "fail")
    reason = {200: "bad_reply", 429: "rate_limited"}.get(status, "server_error")
    return Fault(reason, message, status, wait=retry_after(headers, time.time()))


def _refused_param(fields: Mapping[str, JSON], words: str) -> str | None:
    """The param that a server will take in no request of this run, None where it blames none."""
    param, said = fields.get("param"), str(fields.get("message") or "")
    named = param if isinstance(param, str) and param else None
    if _BAD_PARAM.search(words.replace("_", " ")):
        quoted = re.search(r"['\"`]([A-Za-z_]\w*)|supplied: (\w+)", said)
        found = named or (quoted and (quoted[1] or quoted[2]))
        return repr(found) if found else "that its message names"
    if named is None or re.split(r"[.\[]", named)[0] in _OF_A_REQUEST:
        return None
    return repr(named)


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """The seconds that the server asks to wait, None where it asks nothing that can be read.

    `retry-after-ms`, else Retry-After, in seconds or as an HTTP date (RFC 9110, section 10.2.3);
    `now` is in seconds since 1970, and a date gone by is 0.

    >>> retry_after({"retry-after": "Thu, 01 Jan 1970 00:01:30 GMT"}, now=60.0)
    30.0
    """
    asked = headers.get("retry-after", "").strip()
    for text, unit in ((headers.get("retry-after-ms", "").strip(), 1000), (asked, 1)):
        if re.fullmatch(r"[0-9]+(\.[0-9]*)?", text):
            return float(text) / unit
    try:
        when = parsedate_to_datetime(asked)
    except (ValueError, OverflowError):
        return None
    return max(0.0, (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - now)


def redacted(text: str, secret: str) -> str:
    """The text without the key and without anything that looks like one."""
    for spelling in spellings(secret):
        text = text.replace(spelling, "[key]")
    return _SECRET.sub("[key]", text)


def is_told(secret: str, text: str) -> bool:
    """Return whether a text holds a key in any of its `spellings`; short words are no keys."""
    if len(secret) < _SHORTEST_KEY:
        return False
    lowered = text.lower()  # hex and URLs are written in either case
    return any(part.lower() in lowered for part in spellings(secret))


def _texts(value: JSON) -> Iterator[str]:
    """Yield every text in a JSON value, and the text that the items of each list make together.

    Log-probabilities cut a key into tokens, or tell it as lists of bytes.
    """
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        yield "".join(map(_piece, value))
        fields = [item for item in value if isinstance(item, dict)]
        for name in {name for item in fields for name in item}:
            yield "".join(_piece(item.get(name)) for item in fields)
        for item in value:
            yield from _texts(item)


def _piece(value: JSON) -> str:
    """Return the text that a value is: itself, or the characters of a list of bytes."""
    if isinstance(value, list) and all(isinstance(one, int) and 0 <= one < 256 for one in value):
        return bytes(value).decode("latin-1")
    return value if isinstance(value, str) else ""


@cache
def spellings(secret: str) -> tuple[str, ...]:
    """Return how a secret may stand in a text.

    As it is, reversed, in JSON, in a URL, in hex, in base64 at any offset.
    """
    if len(secret) < 8:
        return (secret,) if secret else ()
    data = secret.encode()
    in_url = [quote(secret), quote(secret, safe="")]
    found = [secret, secret[::-1], json.dumps(secret)[1:-1], secret.replace("/", "\\/")]
    found += in_url + [re.sub("%..", lambda part: part[0].lower(), text) for text in in_url]
    found += [data.hex(), data.hex().upper(), data.hex(" "), data.hex(":")]
    for shift in range(3):
        coded = base64.b64encode(bytes(shift) + data).decode()
        coded = coded[(0, 2, 3)[shift] : (shift + len(data)) * 8 // 6]
        found += [coded, coded.translate(str.maketrans("+/", "-_"))]
    return tuple(dict.fromkeys(found))


def _usage(whole: Mapping[str, JSON]) -> Mapping[str, JSON] | None:
    """The server's count of tokens, None where it tells none that can be read."""
    try:
        usage = _plain(whole.get("usage"))
    except ValueError:
        return None
    return usage if isinstance(usage, dict) else None


def _text(value: JSON) -> str | None:
    return clean_text(value) if isinstance(value, str) and value else None


def _plain(value: JSON, depth: int = 0) -> JSON:
    """The value as canonical JSON can hold it: odd numbers as text, text cleaned."""
    if depth > _DEEPEST:
        raise ValueError("it nests too deeply")
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, list):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {clean_text(name): _plain(item, depth + 1) for name, item in value.items()}
    if isinstance(value, (int, float)) and not abs(value) < 2**53:
        return str(value)
    return value
