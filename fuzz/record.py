"""What one worker writes for another with a connection: any bytes are a record, which can be written again, or refused.

Without the state that handlers keep: pickle reads it, finds nothing to call, but may be made to use memory.
"""

import json

from fuzzing import run

from paceline.errors import UsageError
from paceline.worker.record import MalformedRecord, decode, encode


def has_state(data: bytes) -> bool:
    try:
        header = json.loads(data.partition(b"\n")[0])
    except (ValueError, RecursionError):
        return False
    return isinstance(header, dict) and bool(header.get("state"))


def check(data: bytes) -> None:
    if has_state(data):
        return
    try:
        record = decode(data)
    except (MalformedRecord, UsageError):
        return
    assert decode(encode(record)) == record


if __name__ == "__main__":
    run("record", check)
