"""Read a response of an OpenAI-compatible server as a reply or a fault.

Pure functions of status, headers and bytes. Only a complete chat completion is a reply; an error, a
web page or a tool call is a fault.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import cache
from urllib.parse import quote

from lmjudge.canonical import JSON, clean_text
from lmjudge.records import Reply, ending_word

_DEEPEST = 50
_REASONING = ("reasoning_content", "reasoning", "reasoning_details", "thinking", "thoughts")
# The fields of a part in which servers put reasoning.
_THOUGHTS = ("text", "thinking", "reasoning", "summary", "content")
# Endings of a reply that the server broke off. A retry may finish.
_BROKEN_OFF = {
    *("error", "abort", "aborted", "cancelled", "insufficient_system_resource"),
    *("network_error", "server_error", "internal_error", "timeout"),
}
# Statuses that every request of the run would get, and what to do about each.
_STOPS = {
    401: ("unauthorized", "check api_key or OPENAI_API_KEY"),
    402: ("quota", "add credit, then run again; the replies are kept"),
    403: ("forbidden", "check that this key may use this model"),
    404: ("not_found", "check the model's name and the base URL"),
    405: ("not_found", "check the base URL"),
    410: ("not_found", "check the model's name and the base URL"),
}
_NO_CREDIT = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_TOO_LONG = re.compile(
    r"context.{0,20}(length|size|window)|context (the )?overflow|too many (input )?tokens"
    r"|max_new_tokens|maximum (prompt|input|sequence|model) length|reduce (the length|your message)"
    r"|(prompt|input|request|messages?|text) (is )?too (long|large)"
    r"|range of input length|string too long|(above|exceeds?).max.(length|message|seq)"
    r"|(prompt|input)[^.]{0,60} (exceeds?|too large)|exceeds? the maximum number of tokens"
)
_FILTERED = re.compile(
    r"content.?filter|content.{0,20}policy|responsibleaipolicy|data_inspection_failed|moderation"
)
_BAD_PARAM = re.compile(
    r"un(supported|known|recogni[sz]ed|expected).{0,12}(parameter|argument|value|field|name)"
    r"|(parameter|argument|field).{0,40} not (supported|permitted|allowed)"
    r"|deprecated for this model|(parameter|argument).{0,60} deprecated"
    r"|not support (the )?(parameter|argument)|extra.(inputs.are.not.permitted|forbidden)"
)
_NAMED = re.compile(
    r"['\"`]([A-Za-z_]\w*)|supplied: (\w+)|(\w+) is deprecated|(?:model|permitted): (\w+)"
    r"|(?i:parameter|argument):? (?!not\b|is\b|supplied\b)(\w+)"
)
_STREAMS_ONLY = re.compile(r"only supports? stream|stream.{0,20}(required|must be true)")
_A_DAY = re.compile(r"per.?(day|month)|daily|monthly|24.?h(our)?s?\b|\b[rt]pd\b")
_DURATION = r"(?:\d+(?:\.\d+)?\s?(?:ms|milli[a-z]*|[hms][a-z]*)\s?)+"
_WAIT = re.compile(rf"(?:try again|retry|wait|resets?)\D{{0,30}}?\s({_DURATION})")
_DELAYS = {"retryDelay": 1.0, "retryAfter": 1.0, "retry_after": 1.0, "retry_after_ms": 0.001}
_UNITS = {"ms": 0.001, "mi": 60.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_COMPLAINTS = ("message", "msg", "detail")
# The fields of an error, at any depth, that explain it.
_SAYING = {"message", "msg", "detail", "details", "error", "errors", "code", "type", "status"}
_SAYING |= {"reason", "metadata", "raw", "violations", "quotaId", "title", "description"}
# Fields that a server may refuse in one request and accept in the next.
_OF_A_REQUEST = ("messages", "input", "prompt", "max_tokens", "max_completion_tokens")
# Shorter keys are placeholders for local servers, such as "lm-studio".
_SHORTEST_KEY = 20
_COMMENT = re.compile(rb"(?m)^:.*$")
_UNASKED = re.compile(r"\b(br|zstd|compress)\b")
_SECRET = re.compile(r"(?i)bearer\s+[^\s\"']+|\bsk-[^\s\"',]+")


@dataclass(frozen=True)
class Fault:
    """Why an attempt has no reply, and what follows: `again`, `fail` or `stop`.

    `wait` is the pause that the server asks for, in seconds, and `usage` its count of tokens.
    `refused` is True for an error without any part of a reply and for an unreachable server, which
    charge nothing. `alike` is equal for two responses that differ only in numbers and ids.
    """

    reason: str
    message: str
    status: int | None = None
    then: str = "again"
    wait: float | None = None
    usage: Mapping[str, JSON] | None = None
    refused: bool = False
    alike: str = ""


def read_reply(
    status: int, headers: Mapping[str, str], body: bytes, *, secrets: Sequence[str] = ()
) -> Reply | Fault:
    """Return the reply in a response, or the Fault.

    Pieces of a stream (server-sent events) are joined. Faults quote the first 500
    characters of the body, without `secrets` (the API key).
    """
    success = 200 <= status < 300
    completion = _json(body)
    if completion is None and success:
        completion = _joined(body) or _json(_COMMENT.sub(b"", body))
    if isinstance(completion, list):  # an error of Gemini, or a gateway's list of completions
        completion = next(
            (
                item
                for item in completion
                if isinstance(item, dict) and {"error", "choices"} & set(item)
            ),
            None,
        )
    if completion is None and not success and not body.lstrip().startswith(b"<"):
        completion = {"message": body[:500].decode("utf-8", "replace")}  # plain words
    if not isinstance(completion, dict):
        completion = {}
    error = _nonempty(completion.get("error")) or _nonempty(_first(completion).get("error"))
    if "choices" not in completion and any(
        isinstance(completion.get(name), str) for name in _COMPLAINTS
    ):
        error = error or completion  # an error of FastChat's servers, with status 200
    outcome = _chat_reply(completion) if success and not error else None
    if isinstance(outcome, Reply):
        keys = [secret for secret in secrets if len(secret) >= _SHORTEST_KEY]
        texts = list(_texts(outcome.as_json())) if keys else ()
        returned = any(holds_key(key, text) for key in keys for text in texts)
        return replace(_key_returned, usage=outcome.usage) if returned else outcome
    fault = outcome or _fault(status, headers, completion, error or completion)
    quote = redacted(body.decode("utf-8", "replace"), *secrets)[:500]
    telling = re.search(r'"(choices|error|detail|message)"', quote)
    # The words of an error do not hold the prompt or the request's id, which each response echoes.
    told = fault.alike or "; ".join(_words(error or ({} if success else completion)))
    told = told or quote[telling.start() if telling else 0 :]
    shape = re.sub(r"\w*\d\w*", "#", told[:120])
    message = redacted(fault.message, *secrets)
    if success and (packed := _UNASKED.search(headers.get("content-encoding", "").lower())):
        message += f"; it is compressed as {packed[0]!r}, which lmjudge does not ask for: turn that"
        message += " off in the server or its gateway"
    return replace(
        fault,
        message=f"{message}; it sent {quote!r}",
        usage=_usage(completion),
        refused=outcome is None and not (success and _has_begun(completion)),
        alike=f"{fault.reason} {fault.status} {shape}",
    )


def _json(body: bytes) -> JSON:
    try:
        # Servers that make JSON themselves leave line breaks and tabs in a text as they are.
        return json.loads(body, parse_constant=str, strict=False)
    except UnicodeDecodeError:  # servers cut a reply at its longest, in the middle of a character
        return _json(body.decode("utf-8", "replace").encode())
    except (ValueError, RecursionError):
        return None


def _nonempty(error: JSON) -> JSON:
    """Return an error field, None where all in it is empty: some servers always send one."""
    return error if not isinstance(error, dict) or any(error.values()) else None


def _choices(completion: Mapping[str, JSON]) -> list[dict[str, JSON]]:
    """Return the choices of a completion by their index, which may not be their order."""
    choices = completion.get("choices")
    listed = choices if isinstance(choices, list) else [choices]
    return sorted((choice for choice in listed if isinstance(choice, dict)), key=_index)


def _index(choice: Mapping[str, JSON]) -> float:
    index = choice.get("index")
    return index if isinstance(index, (int, float)) else 0


def _first(completion: Mapping[str, JSON]) -> Mapping[str, JSON]:
    """Return the first choice of a completion, {} where it has none."""
    return next(iter(_choices(completion)), {})


def _has_begun(completion: Mapping[str, JSON]) -> bool:
    """Return whether a reply came before the error beside it: such tokens are charged for."""
    return _says(_message(_first(completion)))


def _says(message: JSON) -> bool:
    return isinstance(message, dict) and any(message[name] for name in message if name != "role")


def _message(choice: Mapping[str, JSON]) -> JSON:
    """Return a choice's message, in whichever field it is; its text as an object."""
    message = choice.get("message") or choice.get("delta") or choice.get("text")
    return {"content": message} if isinstance(message, str) else message


def _joined(body: bytes) -> dict[str, JSON] | None:
    """Return the completion that a stream's pieces make together, None where there is none.

    A stream was broken off if it stops without an ending or [DONE], or if a piece before its ending
    cannot be read. Only the first choice is joined. A stream of deltas may repeat the whole message
    in its last piece.
    """
    pieces = _pieces(body)
    completion: dict[str, JSON] = {}
    message: dict[str, JSON] = {}
    logprobs: dict[str, JSON] = {}
    finish: JSON = None
    broken = False
    choices = [choice for piece in pieces if isinstance(piece, dict) for choice in _choices(piece)]
    first = min(map(_index, choices), default=0)
    in_deltas = any(_says(choice.get("delta")) for choice in choices)
    for piece in pieces:
        if not isinstance(piece, dict):
            broken = broken or (piece is None and finish is None)
            continue
        completion |= {name: value for name, value in piece.items() if value not in (None, {})}
        if "error" in (piece.get("object"), piece.get("type")):
            completion.setdefault("error", piece)
        for choice in _choices(piece):
            if _index(choice) != first:
                continue
            further = choice.get("delta") if in_deltas else _message(choice)
            for joined, fields in ((message, further), (logprobs, choice.get("logprobs"))):
                for name, value in fields.items() if isinstance(fields, dict) else ():
                    joined[name] = _appended(joined.get(name), value)
            finish = choice.get("finish_reason") or finish
    if not choices:
        return completion if "error" in completion else None
    if broken or (finish is None and "[DONE]" not in pieces):
        finish = "error"
    whole = {"message": message, "finish_reason": finish, "logprobs": logprobs or None}
    return completion | {"choices": [whole]}


def _pieces(body: bytes) -> list[JSON]:
    """Return what the events of a stream hold: JSON, "[DONE]", or None for what cannot be read.

    The lines of an event make one text, but some servers leave out the empty line between events.
    An event of the type `error` becomes an object with the field `error`.

    >>> _pieces(b'data: {"a":\\ndata: 1}\\n\\n: ping\\ndata: {"b": 2}\\ndata: [DONE]')
    [{'a': 1}, {'b': 2}, '[DONE]']
    """
    pieces: list[JSON] = []
    data: list[bytes] = []
    kind = b""
    for line in [*body.removeprefix(b"\xef\xbb\xbf").splitlines(), b""]:
        name, _, value = line.partition(b":")
        if name == b"event":
            kind = value.strip()
        elif name == b"data" and value.strip():
            data.append(value.strip())
        elif not line:
            event = b"\n".join(data)
            said = _json(event)
            if kind == b"error" and data:
                said = said or event.decode("utf-8", "replace")
                pieces.append(
                    said if isinstance(said, dict) and "error" in said else {"error": said}
                )
            elif said is not None:
                pieces.append(said)
            else:
                pieces += ["[DONE]" if part == b"[DONE]" else _json(part) for part in data]
            kind, data = b"", []
    return pieces


def _appended(before: JSON, value: JSON) -> JSON:
    """Return what two pieces of a streamed field make together: one text, or a list of parts.

    >>> _appended("Hel", "lo"), _appended([{"text": "Hel"}], "lo"), _appended("Hello", None)
    ('Hello', [{'text': 'Hel'}, 'lo'], 'Hello')
    """
    if not before or not value:
        return value or before
    if isinstance(before, str) and isinstance(value, str):
        return before + value
    parts = (part if isinstance(part, list) else [part] for part in (before, value))
    return [item for part in parts for item in part]


def text_so_far(body: bytes) -> str:
    """Return the text in the whole pieces of a stream that is still coming.

    >>> text_so_far(b'data: {"choices": [{"delta": {"content": "Hel"}}]}\\n\\ndata: {"cho')
    'Hel'
    """
    message = _first(_joined(body) or {}).get("message")
    return _text(message.get("content")) or "" if isinstance(message, dict) else ""


_key_returned = Fault(
    "key_returned",
    "the reply holds the API key and is not kept; check which server answers at the base URL, and"
    " change the key",
    200,
    "stop",
)


def _chat_reply(completion: Mapping[str, JSON]) -> Reply | Fault:
    """Return the reply in a chat completion, or the Fault for what is none."""
    bad = Fault("bad_reply", "the response is not a chat completion", 200)
    choice = _first(completion)
    message = _message(choice)
    if not isinstance(message, dict):
        return bad
    text, thought = _in_parts(message.get("content"))
    refusal, finish = _text(message.get("refusal")), choice.get("finish_reason")
    finish = str(finish) if isinstance(finish, int) else _text(finish)
    if ending_word(finish) in _BROKEN_OFF:
        broken = f"the server broke the reply off (finish_reason {finish!r})"
        return replace(bad, message=broken, alike=broken)
    if not text and (message.get("tool_calls") or message.get("function_call")):
        return Fault("tool_call", "the model called a tool instead of answering", 200, then="fail")
    fields = [message[name] for name in _REASONING if message.get(name)]
    thoughts = ["".join(_inside(field, _THOUGHTS)) for field in fields]
    reasoning = next((_text(words) for words in (*thoughts, thought) if words), None)
    if message.get("content") in (None, []) and (refusal or finish or reasoning):
        text = ""  # a retry would cost again and say as little
    if text is None:
        return bad
    try:
        logprobs, usage = _plain(choice.get("logprobs")), _plain(completion.get("usage"))
    except ValueError:
        return bad
    return Reply(
        text=clean_text(text),
        finish_reason=finish,
        refusal=refusal,
        logprobs=logprobs,
        usage=usage if isinstance(usage, dict) else None,
        model=_text(completion.get("model")),
        fingerprint=_text(completion.get("system_fingerprint")),
        reasoning=reasoning,
    )


def _in_parts(content: JSON) -> tuple[str | None, str]:
    """Return a message's content as one text, and the reasoning in it.

    Content is a text, a list of parts, one part, or JSON that the server has parsed; a part is a
    text, or an object whose `text` it is. Parts that hold reasoning have a type that says so; other
    parts (pictures) are left out. The text is None where the content is nothing of the kind.
    """
    if isinstance(content, str):
        return content, ""
    if isinstance(content, dict) and not {"text", "type"} & set(content):
        return _dumped(content), ""
    parts = content if isinstance(content, list) else [content]
    if not parts or not all(isinstance(part, (str, dict)) for part in parts):
        return None, ""
    texts: list[str] = []
    thoughts: list[str] = []
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(kind, str) and re.search("think|reason|thought", kind):
            thoughts += _inside(part, _THOUGHTS)
        elif kind is None or "text" in str(kind):
            texts += _inside(part, ("text",))
    return "".join(texts), "".join(thoughts)


def _dumped(content: JSON) -> str | None:
    try:
        return json.dumps(content, ensure_ascii=False)
    except RecursionError:
        return None


def _inside(part: JSON, names: Sequence[str], depth: int = 0) -> list[str]:
    """Return the texts of a part: itself, or those in the first of these fields that it has."""
    if isinstance(part, str):
        return [part]
    if isinstance(part, list) and depth < 4:
        return [text for item in part for text in _inside(item, names, depth + 1)]
    if isinstance(part, dict) and depth < 4:
        field = next((name for name in names if part.get(name)), None)
        return _inside(part[field], names, depth + 1) if field else []
    return []


def _fault(
    status: int, headers: Mapping[str, str], completion: Mapping[str, JSON], error: JSON
) -> Fault:
    """Return what an error means, by code, status and, where the request is to blame, its words."""
    fields = error if isinstance(error, dict) else {**completion, "message": error}
    code, kind = (str(fields.get(name) or "").lower() for name in ("code", "type"))
    saying = "; ".join(_words(fields))
    words = saying.lower()
    if 200 <= status < 300 and re.fullmatch("[45][0-9][0-9]", code):
        status = int(code)
    message = f"the server replied {status}"
    if {code, kind} & _NO_CREDIT:
        return Fault("quota", f"{message}; {_STOPS[402][1]}", status, "stop")
    if 300 <= status < 400:
        message += f" and redirects to {headers.get('location')!r}, which lmjudge does not follow"
        return Fault("redirect", f"{message}; give the final address as base_url", status, "stop")
    success = 200 <= status < 300
    blamed = words if success or status in (400, 403, 413, 422, 500) else f"{code} {kind}"
    too_long = status == 413 or _TOO_LONG.search(blamed) or "request too large" in words
    if status not in (401, 402, 404) and too_long:
        return Fault("context_length", message, status, "fail")
    if _FILTERED.search(blamed):
        return Fault("content_filter", message, status, "fail")
    if status in _STOPS:
        reason, advice = _STOPS[status]
        return Fault(reason, f"{message}; {advice}", status, "stop")
    if status in (400, 422) and _STREAMS_ONLY.search(words):
        message += "; it only streams replies, which lmjudge does not use; use another server"
        return Fault("bad_request", f"{message} or model", status, "stop")
    if status in (400, 422) and (named := _refused_param(fields, saying)):
        message += f"; it refuses the param {named} as sent; change it or remove it from"
        return Fault("bad_param", f"{message} params, which replace the defaults", status, "stop")
    if 400 <= status < 500 and status not in (408, 409, 425, 429):
        return Fault("bad_request", message, status, "fail")
    if status == 429 and _A_DAY.search(words):
        message += "; a quota of a day or longer is used up; run again when it is renewed"
        return Fault("quota", f"{message}. The replies are kept.", status, "stop")
    reason = "bad_reply" if success else "rate_limited" if status == 429 else "server_error"
    wait = retry_after(headers, time.time())
    return Fault(reason, message, status, wait=_wait_in(fields, words) if wait is None else wait)


def _words(value: JSON, depth: int = 0) -> Iterator[str]:
    """Yield the texts of an error that say what was wrong; not what it echoes of the request."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)) and depth < 8:
        parts = value if isinstance(value, list) else [value[n] for n in value if n in _SAYING]
        for item in parts:
            yield from _words(item, depth + 1)


def _wait_in(error: Mapping[str, JSON], words: str) -> float | None:
    """Return the seconds that an error asks to wait, in a field (Google's) or in its words.

    >>> _wait_in({}, "please try again in 1m0.5s.")
    60.5
    """
    details = error.get("details")
    for item in [error, *(details if isinstance(details, list) else ())]:
        for name, unit in _DELAYS.items() if isinstance(item, dict) else ():
            if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?s?", delay := str(item.get(name))):
                return float(delay.rstrip("s")) * unit
    match = _WAIT.search(words)
    return _seconds(match[1]) if match else None


def _seconds(text: str) -> float:
    """Return the seconds in numbers with units.

    >>> _seconds("1m30s"), _seconds("250 ms")
    (90.0, 0.25)
    """
    parts = re.findall(r"(\d{1,9}(?:\.\d{1,9})?)\s?(ms|mi|[hms])", text)
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _refused_param(fields: Mapping[str, JSON], words: str) -> str | None:
    """Return the param that a server takes in no request of this run, None where it blames none."""
    param = fields.get("param") or _located(fields)
    named = param if isinstance(param, str) and param else None
    if _BAD_PARAM.search(words.lower().replace("_", " ")):
        quoted = _NAMED.search(words)
        name = named or (quoted and next(filter(None, quoted.groups())))
        return repr(name) if name else "that its message names"
    if named is None or re.split(r"[.\[]", named)[0] in _OF_A_REQUEST:
        return None
    return repr(named)


def _located(value: JSON, depth: int = 0) -> str | None:
    """Return the field of the body that an error's `loc` names, as FastAPI's servers tell it."""
    if isinstance(value, dict):
        loc = value.get("loc")
        if isinstance(loc, list) and len(loc) > 1 and loc[0] == "body":
            return str(loc[1])
    items = value.values() if isinstance(value, dict) else value
    if isinstance(value, (list, dict)) and depth < 8:
        return next(filter(None, (_located(item, depth + 1) for item in items)), None)
    return None


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds that the server asks to wait, None if it states none.

    `retry-after-ms`, else Retry-After, in seconds or as an HTTP date (RFC 9110, section 10.2.3), or
    with units, as some gateways send it ("1m30s"). `now` is in seconds since 1970, and a past date
    is 0.

    >>> retry_after({"retry-after": "Thu, 01 Jan 1970 00:01:30 GMT"}, now=60.0)
    30.0
    """
    header = headers.get("retry-after", "").strip()
    for text, unit in ((headers.get("retry-after-ms", "").strip(), 1000), (header, 1)):
        if re.fullmatch(r"[0-9]+(\.[0-9]*)?", text):
            return float(text) / unit
    if re.fullmatch(_DURATION, header.lower(), re.ASCII):
        return _seconds(header.lower())
    try:
        when = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return None
    return max(0.0, (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - now)


def redacted(text: str, *secrets: str) -> str:
    """Return the text without the keys and without anything that looks like one."""
    for spelling in (spelling for secret in secrets for spelling in spellings(secret)):
        text = text.replace(spelling, "[key]")
    return _SECRET.sub("[key]", text)


def holds_key(secret: str, text: str) -> bool:
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
    if isinstance(value, list) and all(isinstance(item, int) and 0 <= item < 256 for item in value):
        return bytes(value).decode("latin-1")
    return value if isinstance(value, str) else ""


@cache
def spellings(secret: str) -> tuple[str, ...]:
    """Return the spellings of a secret in a text.

    These are the secret itself, reversed, in JSON, in a URL, in hex, and in base64 at any offset.
    """
    if len(secret) < 8:  # of a key such as "x" any text is full
        return (secret,) if len(secret) > 3 else ()
    data = secret.encode()
    in_url = [quote(secret), quote(secret, safe="")]
    texts = [secret, secret[::-1], json.dumps(secret)[1:-1], secret.replace("/", "\\/")]
    texts += in_url + [re.sub("%..", lambda part: part[0].lower(), text) for text in in_url]
    texts += [data.hex(), data.hex().upper(), data.hex(" "), data.hex(":")]
    for shift in range(3):
        coded = base64.b64encode(bytes(shift) + data).decode()
        coded = coded[(0, 2, 3)[shift] : (shift + len(data)) * 8 // 6]
        texts += [coded, coded.translate(str.maketrans("+/", "-_"))]
    return tuple(dict.fromkeys(texts))


def _usage(completion: Mapping[str, JSON]) -> Mapping[str, JSON] | None:
    """Return the server's count of tokens, None without a readable one."""
    try:
        usage = _plain(completion.get("usage"))
    except ValueError:
        return None
    return usage if isinstance(usage, dict) else None


def _text(value: JSON) -> str | None:
    return clean_text(value) if isinstance(value, str) and value else None


def _plain(value: JSON, depth: int = 0) -> JSON:
    """Return the value as canonical JSON can hold it: odd numbers as text, text cleaned."""
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
