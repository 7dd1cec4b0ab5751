"""Reads what Lodge wrote with pandas and DuckDB, and checks every row.

read.py ARROW CSV COUNT: the same rows as an Arrow IPC stream and as CSV, with the columns `n` (0 to
COUNT - 1, each once), `_time`, `level`, `service` and `_msg` of the lines that the tests write.
"""
import sys

import duckdb
import pandas
import pyarrow

arrow_path, csv_path, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
LEVELS = ["info", "info", "warn", "error"]


def check(frame, source):
    assert len(frame) == count, f"{source}: {len(frame)} rows"
    frame = frame.sort_values("n").reset_index(drop=True)
    assert (frame["n"] == range(count)).all(), f"{source}: numbers"
    assert (frame["level"] == [LEVELS[i % 4] for i in range(count)]).all(), f"{source}: levels"
    assert (frame["service"] == [f"s{i % 5}" for i in range(count)]).all(), f"{source}: services"
    said = [f"request {i} took {i * 31 % 1009} ms" for i in range(count)]
    assert (frame["_msg"] == said).all(), f"{source}: messages"
    times = pandas.to_datetime(frame["_time"], utc=True, format="ISO8601")
    first = pandas.Timestamp("2026-11-22T10:00:00Z")
    seconds = [i // 60_000 % 60 * 60 + i // 1_000 % 60 + i % 1_000_000 / 1e6 for i in range(count)]
    expected = first + pandas.to_timedelta(seconds, unit="s").round("us")
    assert (times.dt.round("us") == expected).all(), f"{source}: times"


with pyarrow.ipc.open_stream(arrow_path) as reader:
    arrow_rows = reader.read_all()
assert pyarrow.types.is_timestamp(arrow_rows.schema.field("_time").type), arrow_rows.schema
assert pyarrow.types.is_integer(arrow_rows.schema.field("n").type), arrow_rows.schema
check(arrow_rows.to_pandas(), "Arrow, pandas")
check(pandas.read_csv(csv_path), "CSV, pandas")

connection = duckdb.connect()
check(connection.execute("SELECT * FROM arrow_rows").df(), "Arrow, DuckDB")
check(connection.execute("SELECT * FROM read_csv(?)", [csv_path]).df(), "CSV, DuckDB")
by_level = "SELECT level, count(*) AS c, sum(n) AS s FROM {} GROUP BY level ORDER BY level"
of_arrow = connection.execute(by_level.format("arrow_rows")).fetchall()
of_csv = connection.execute(by_level.format(f"read_csv('{csv_path}')")).fetchall()
assert of_arrow == of_csv and len(of_arrow) == 3, (of_arrow, of_csv)
print("read", count)
