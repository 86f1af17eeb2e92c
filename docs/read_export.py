"""Verify an export of lmjudge without lmjudge.

zstd -dc export.jsonl.zst | python read_export.py
"""

import hashlib
import json
import sys


def sha256(data):
    """Return the SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def records(lines):
    """Yield (key, request, reply) of each record; ValueError for what does not hold."""
    total, count, last, end = hashlib.sha256(), 0, "", None
    for line in (line.rstrip(b"\n") for line in lines):
        if end is not None:
            raise ValueError("lines follow the last line")
        whole = json.loads(line)
        if "lmjudge_export" in whole:
            end = whole
            continue
        body, _, digest = line.rpartition(b',"sha256":"')
        text = line.decode()
        _, at = json.JSONDecoder().raw_decode(text, text.index('"reply":') + len('"reply":'))
        request = body.decode()[at + len(',"request":') :].encode()
        if sha256(body + b"}") != digest.decode().rstrip('"}') or sha256(request) != whole["key"]:
            raise ValueError(f"the record {count + 1} does not match its digest or its key")
        if whole["key"] < last:
            raise ValueError("the keys are not in order")
        total.update(line + b"\n")
        count, last = count + 1, whole["key"]
        yield whole["key"], whole["request"], whole["reply"]
    if end != {"lmjudge_export": 1, "records": count, "sha256": total.hexdigest()}:
        raise ValueError("the last line does not match the lines before it")


if __name__ == "__main__":
    sys.stdout.write(f"{sum(1 for _ in records(sys.stdin.buffer))} records, all whole\n")
