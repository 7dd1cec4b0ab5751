"""Runs ClickHouse inside this process: one JSON string with SQL a line in, `ok|error BYTES` and the
answer as JSON lines out."""

import json
import os
import sys

from chdb import session

# The engine may print; only answers go to the standard output that we were started with.
answers = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)
store = session.Session(sys.argv[1])
for line in sys.stdin:
    try:
        state, body = "ok", store.query(json.loads(line), "JSONEachRow").bytes()
    except Exception as error:
        state, body = "error", str(error).encode()
    answers.write(f"{state} {len(body)}\n".encode())
    answers.write(body)
    answers.flush()
