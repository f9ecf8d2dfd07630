"""Reads an export with Python's own csv, json and sqlite3 (and pyarrow for Parquet, where it is installed).

Usage: read_back.py DIRECTORY FORMAT SCHEMAS. Prints {table: [[value, ..], ..]}, rows in the order of the table's key.
"""

import csv
import json
import pathlib
import sqlite3
import sys

directory, form, schemas = pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])


def files(table):
    manifest = json.loads((directory / "manifest.json").read_text())
    entries = [entry for entry in manifest["files"] if entry["table"] == table]
    return [directory / entry["file"] for entry in sorted(entries, key=lambda entry: entry["min_height"])]


def from_text(column, text):
    if text == "" and column["nullable"]:
        return None
    return {"text": str, "u64": int, "time_ms": int, "bool": {"true": True, "false": False}.get}[column["type"]](text)


def read_csv(schema, path):
    with open(path, newline="", encoding="utf-8") as lines:
        rows = csv.reader(lines, strict=True)
        assert next(rows) == [column["name"] for column in schema["columns"]]
        for row in rows:
            assert len(row) == len(schema["columns"])
            yield [from_text(column, text) for column, text in zip(schema["columns"], row)]


def read_jsonl(schema, path):
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            assert list(row) == [column["name"] for column in schema["columns"]]
            yield list(row.values())


def read_sqlite(schema, path):
    names = ", ".join(column["name"] for column in schema["columns"])
    rows = sqlite3.connect(path).execute(f"SELECT {names} FROM {schema['table']} ORDER BY {', '.join(schema['key'])}")
    for row in rows:
        yield [value if column["type"] != "bool" or value is None else bool(value) for column, value in zip(schema["columns"], row)]


def read_parquet(schema, path):
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    assert table.column_names == [column["name"] for column in schema["columns"]]
    for at, column in enumerate(schema["columns"]):
        if column["type"] == "time_ms":
            assert table.schema.field(at).type == pyarrow.timestamp("ms", tz="UTC")
            table = table.set_column(at, column["name"], table.column(at).cast(pyarrow.int64()))
    for row in table.to_pylist():
        yield list(row.values())


readers = {"csv": read_csv, "jsonl": read_jsonl, "sqlite": read_sqlite, "parquet": read_parquet}
tables = {}
for path in schemas.glob("*.json"):
    schema = json.loads(path.read_text())
    name = schema["table"]
    found = dict.fromkeys(files(name))
    tables[name] = [row for found in found for row in readers[form](schema, found)]
json.dump(tables, sys.stdout)
