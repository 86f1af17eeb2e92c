"""A server with /v1/files and /v1/batches on 127.0.0.1."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lmjudge.endpoints.openai import OpenAIEndpoint


def result(custom_id: str, content: str, created: int = 1_700_000_000) -> dict[str, Any]:
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": content},
    }
    body = {"object": "chat.completion", "created": created, "model": "m-1", "choices": [choice]}
    return {
        "custom_id": custom_id,
        "response": {"status_code": 200, "body": body},
        "error": None,
    }


def refused(custom_id: str, status: int, error: dict[str, Any]) -> dict[str, Any]:
    answered = {"status_code": status, "body": {"error": error}}
    return {"custom_id": custom_id, "response": answered, "error": None}


class Server:
    """A server with /v1/files and /v1/batches: it takes a file, and works when told to."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.posts: list[str] = []
        self.forget_reply = False
        self.refuse: tuple[int, dict[str, str], bytes] | None = None

    def work(self, batch: dict[str, Any], *, fail: str = "") -> None:
        """Answers every line of a batch, but those whose prompt holds `fail`."""
        good, bad = [], []
        for line in self.files[batch["input_file_id"]].splitlines():
            asked = json.loads(line)
            said = asked["body"]["messages"][-1]["content"]
            assert asked["method"] == "POST"
            assert asked["url"] == "/v1/chat/completions"
            if fail and fail in said:
                error = {"message": "too long", "code": "context_length_exceeded"}
                bad.append(refused(asked["custom_id"], 400, error))
            else:
                good.append(result(asked["custom_id"], f"re: {said}"))
        for name, rows in (("output_file_id", good), ("error_file_id", bad)):
            if rows:
                batch[name] = f"file-{name}"
                self.files[batch[name]] = "\n".join(map(json.dumps, rows[::-1])).encode()
        batch["status"] = "completed"

    def post(self, path: str, raw: bytes) -> Any:
        self.posts.append(path)
        if path == "/v1/files":
            name = f"file-{len(self.files)}"
            parts = raw.split(raw.split(b"\r\n", 1)[0])
            content = next(p for p in parts if b"filename=" in p).split(b"\r\n\r\n", 1)[1]
            self.files[name] = content.removesuffix(b"\r\n")
            return {"id": name, "object": "file", "purpose": "batch"}
        asked = json.loads(raw)
        batch = {
            "id": f"batch_{len(self.batches)}",
            "object": "batch",
            "status": "validating",
            **asked,
        }
        self.batches[batch["id"]] = batch
        return None if self.forget_reply else batch

    def get(self, path: str) -> Any:
        if path.startswith("/v1/batches?") or path == "/v1/batches":
            return {"object": "list", "data": list(self.batches.values()), "has_more": False}
        if found := re.fullmatch("/v1/files/(.*)/content", path):
            return self.files[found[1]]
        return self.batches.get(path.rpartition("/")[2])


@contextmanager
def serving(server: Server) -> Iterator[OpenAIEndpoint]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.reply(server.post, self.rfile.read(int(self.headers["content-length"])))

        def do_GET(self) -> None:
            self.reply(server.get)

        def reply(self, made: Any, *raw: bytes) -> None:
            status, headers, body = 200, {"content-type": "application/json"}, b""
            if server.refuse:
                status, more, body = server.refuse
                headers |= more
            else:
                said = made(self.path, *raw)
                status = 200 if said is not None else 500 if raw else 404
                body = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=[0.02])
        thread.start()
        url = f"http://127.0.0.1:{http.server_address[1]}/v1"
        try:
            yield OpenAIEndpoint(url, api_key="sk-canary", timeout=10)
        finally:
            http.shutdown()
            thread.join()
