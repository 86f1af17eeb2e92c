"""One turn of a dialogue: a text, content parts (such as pictures), or an agent's messages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from lmjudge.errors import FrameError

Content: TypeAlias = str | list[dict[str, Any]]
# The line above each speaker's text in a conversation that a judge reads.
_SAYS = {"system": "(system)", "developer": "(system)", "user": "(user asks)"}
_REPLIES = "(assistant replies)"


def content(turn: object) -> Content:
    """Return a turn as a message's content: a text, or content parts if it has pictures.

    An agent's messages become one text: what the agent says, its tool calls with their arguments,
    and what the tools return. Parts other than text are unchanged.

    Raises FrameError for a picture at a web address, because it may change, and for anything else
    that is not a turn.

    >>> call = {"name": "search", "arguments": '{"query": "rain"}'}
    >>> agent = [{"role": "assistant", "tool_calls": [{"id": "1", "function": call}]},
    ...          {"role": "tool", "tool_call_id": "1", "content": "It rains."},
    ...          {"role": "assistant", "content": "Take an umbrella."}]
    >>> print(content(agent))
    (assistant calls search)
    {"query": "rain"}
    <BLANKLINE>
    (search returns)
    It rains.
    <BLANKLINE>
    (assistant replies)
    Take an umbrella.
    """
    if isinstance(turn, str):
        return turn
    items = list(turn) if isinstance(turn, Iterable) and not isinstance(turn, Mapping) else []
    if items and all(isinstance(item, Mapping) and "role" in item for item in items):
        return joined([*_spoken(items)])
    if not items or not all(isinstance(item, Mapping) and "type" in item for item in items):
        raise FrameError(
            f"a turn is {str(turn)[:60]!r}; expected a text, a list of content parts, or a list of"
            " messages"
        )
    return joined([_part(item) for item in items], between="\n")


def dialogue(
    asked: Sequence[Content], replied: Sequence[Content], system: object = None
) -> Content:
    """Return a conversation, each text under a line with its speaker; the last may have no reply.

    >>> print(dialogue(["Hi", "Why?"], ["Hello."]))
    (user asks)
    Hi
    <BLANKLINE>
    (assistant replies)
    Hello.
    <BLANKLINE>
    (user asks)
    Why?
    """
    parts: list[tuple[str, Content]] = [("(system)", system)] if isinstance(system, str) else []
    for at, question in enumerate(asked):
        parts.append((_SAYS["user"], question))
        parts += [(_REPLIES, reply) for reply in replied[at : at + 1]]
    return joined([joined([f"{who}\n", text], between="") for who, text in parts])


def joined(pieces: Sequence[Content], between: str = "\n\n") -> Content:
    """Return pieces of content as one text if all are texts, otherwise as content parts."""
    parts: list[dict[str, Any]] = []
    for at, piece in enumerate(pieces):
        text = between if at else ""
        for part in [{"type": "text", "text": piece}] if isinstance(piece, str) else piece:
            text += part["text"] if part["type"] == "text" else ""
            if part["type"] == "text" and parts and parts[-1]["type"] == "text":
                parts[-1] = {"type": "text", "text": parts[-1]["text"] + text}
            elif part["type"] == "text":
                parts.append({"type": "text", "text": text})
            else:
                parts.append(part)
            text = ""
    if all(part["type"] == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return [part for part in parts if part["type"] != "text" or part["text"]]


def _spoken(messages: Sequence[Mapping[str, Any]]) -> Iterator[Any]:
    """Yield each message's text, tool calls and tool results."""
    names: dict[object, str] = {}
    for message in messages:
        role, body = message["role"], message.get("content")
        called = [*(message.get("tool_calls") or ())]
        called += [message["function_call"]] if message.get("function_call") else []
        results = []
        parts = [] if body is None or isinstance(body, str) else [*body]
        if not all(isinstance(item, Mapping) for item in [*called, *parts]):
            raise FrameError(
                f"a message is {str(dict(message))[:60]!r}; expected a text or content parts in its"
                " content, and objects in its tool_calls"
            )
        if parts:
            called += [part for part in parts if part.get("type") == "tool_use"]
            results = [part for part in parts if part.get("type") == "tool_result"]
            body = [part for part in parts if part.get("type") not in ("tool_use", "tool_result")]
        for result in results:
            yield f"({names.get(result.get('tool_use_id'), 'tool')} returns)\n" + _json(
                result.get("content")
            )
        returned = role in ("tool", "function")
        if body or returned:  # a judge should also see that a tool returned nothing
            tool = message.get("name") or names.get(message.get("tool_call_id"), "tool")
            who = f"({tool} returns)" if returned else _SAYS.get(role, _REPLIES)
            yield joined([f"{who}\n", content(body) if body else ""], between="")
        for call in called:
            function = call.get("function") or call
            name = str(function.get("name"))
            names[call.get("id")] = name
            yield f"(assistant calls {name})\n{_json(function.get('arguments', call.get('input')))}"


def _json(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _part(part: Mapping[str, Any]) -> Content:
    if part["type"] in ("text", "input_text", "output_text"):
        return str(part.get("text", ""))
    for address in _addresses(part):
        if not str(address).startswith("data:"):
            raise FrameError(
                f"a picture or file is at {str(address)[:60]!r}, which may change or vanish under"
                " the same key; give the picture itself as a data URL (data:image/png;base64,...)"
            )
    return [dict(part)]


def _addresses(part: Mapping[str, Any]) -> Iterator[object]:
    """Yield the addresses in the part's fields (url, image_url, file_url ...), at any depth."""
    for name, value in part.items():
        if isinstance(value, Mapping):
            yield from _addresses(value)
        elif str(name).endswith(("url", "uri")) and value != "":
            yield value
