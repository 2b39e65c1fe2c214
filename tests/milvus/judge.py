"""Makes the rows of the collections in cases.py, and asks a real Milvus whether it has the same ones after an import.

  judge.py make FOLDER                             writes schema.json, rows and keys of each collection, and FOLDER/plan.json
  judge.py keys CASE ROWS NUMBERS OUT              finds the keys that Tidegate gave to rows, by their numbers
  judge.py compare CASE PORT EXPORTED ROWS         imports an export, compares each value of each row, and searches; the keys that Tidegate
                                                   gave are those of ROWS

The exit code is 1, with a line for each of the first differences, when the server has other rows. A server that does not answer in time
ends it too: every call has a bound.
"""

import json
import os
import struct
import sys
import time

import pyarrow
import pyarrow.parquet
from pymilvus import Collection, CollectionSchema, DataType, FieldSchema, connections
from pymilvus.grpc_gen import common_pb2, milvus_pb2

from cases import CASES

CALL_MAX_S = 30
IMPORT_MAX_S = 120
LOAD_MAX_S = 60
ROWS_MAX = 16_384
SEARCHES = 20
ARROW = {
    "BOOL": pyarrow.bool_(),
    "INT8": pyarrow.int8(),
    "INT16": pyarrow.int16(),
    "INT32": pyarrow.int32(),
    "INT64": pyarrow.int64(),
    "FLOAT": pyarrow.float32(),
    "DOUBLE": pyarrow.float64(),
    "VARCHAR": pyarrow.string(),
    "JSON": pyarrow.string(),
    "FLOAT_VECTOR": pyarrow.list_(pyarrow.float32()),
    "BINARY_VECTOR": pyarrow.binary(),
}


def case_named(name):
    return next(case for case in CASES if case.name == name)


def fields_of(case):
    """The fields that rows have values of, `$meta` included."""
    fields = case.schema()["fields"]
    return fields + [{"name": "$meta", "dtype": "JSON"}] if case.dynamic else fields


def make(folder):
    plan = []
    for case in CASES:
        at = os.path.join(folder, case.name)
        os.makedirs(at)
        write_json(os.path.join(at, "schema.json"), case.schema())
        steps = []
        for place, (kind, *what) in enumerate(case.steps()):
            step = {"kind": kind}
            if kind == "ingest":
                step["partition"], rows = what
                step["file"] = os.path.join(at, f"{place}.parquet")
                write_rows(case, [case.row(n, version) for n, version in rows], step["file"])
            elif kind == "delete":
                step["file"] = os.path.join(at, f"{place}.json")
                step["by_number"] = case.key is None
                write_json(step["file"], what[0] if case.key is None else [case.key(n) for n in what[0]])
            steps.append(step)
        plan.append({"name": case.name, "schema": os.path.join(at, "schema.json"), "shards": case.shards, "partitions": case.partitions, "steps": steps})
    write_json(os.path.join(folder, "plan.json"), plan)


def write_rows(case, rows, file):
    def arrow_type(field):
        return pyarrow.list_(ARROW[field["element_type"]]) if field["dtype"] == "ARRAY" else ARROW[field["dtype"]]

    fields = [field for field in fields_of(case) if field["name"] in rows[0]]
    columns = {f["name"]: pyarrow.array([row[f["name"]] for row in rows], arrow_type(f)) for f in fields}
    pyarrow.parquet.write_table(pyarrow.table(columns), file)


def write_json(file, value):
    with open(file, "w", encoding="utf-8") as out:
        json.dump(value, out, ensure_ascii=False)


def keys(case, rows, numbers, out):
    wanted = set(json.load(open(numbers, encoding="utf-8")))
    table = pyarrow.parquet.read_table(rows, columns=["id", "n"]).to_pydict()
    found = [key for key, n in zip(table["id"], table["n"]) if n in wanted]
    print(f"{len(found)} keys of {len(wanted)} rows of {case.name}")
    write_json(out, found)


class Judge:
    """One collection in the server."""

    def __init__(self, case, port):
        self.case = case
        connections.connect(host="127.0.0.1", port=str(port), timeout=CALL_MAX_S)
        self.stub = connections._fetch_handler("default")._stub
        schema = case.schema()
        fields = [self.field(field) for field in schema["fields"]]
        schema = CollectionSchema(fields, enable_dynamic_field=case.dynamic)
        options = {"num_partitions": case.partitions} if case.partition_key else {}
        options.update(num_shards=case.shards, consistency_level="Strong", timeout=CALL_MAX_S)
        self.collection = Collection(case.name, schema, **options)
        for name in [] if case.partition_key else case.partitions:
            if not self.collection.has_partition(name, timeout=CALL_MAX_S):
                self.collection.create_partition(name, timeout=CALL_MAX_S)

    def field(self, field):
        options = dict(field.get("params", {}))
        if field.get("is_primary"):
            options.update(is_primary=True, auto_id=field["auto_id"])
        if field.get("is_partition_key"):
            options["is_partition_key"] = True
        if "element_type" in field:
            options["element_type"] = DataType[field["element_type"]]
        return FieldSchema(field["name"], DataType[field["dtype"]], **options)

    def bring_in(self, exported):
        """Makes the calls that the export says, all at once, and waits for them."""
        tasks = {}
        for part in exported["partitions"]:
            request = dict(part["import_2_3"])
            options = [common_pb2.KeyValuePair(key=key, value=value) for key, value in request.pop("options").items()]
            answer = self.stub.Import(milvus_pb2.ImportRequest(**request, options=options), timeout=CALL_MAX_S)
            if answer.status.error_code or answer.status.code:
                sys.exit(f"{self.case.name}: the import of {request} is refused: {answer.status.reason}")
            tasks[answer.tasks[0]] = part["partition"]
        deadline = time.monotonic() + IMPORT_MAX_S
        while tasks:
            for task, partition in list(tasks.items()):
                state = self.stub.GetImportState(milvus_pb2.GetImportStateRequest(task=task), timeout=CALL_MAX_S)
                name = common_pb2.ImportState.Name(state.state)
                if name == "ImportCompleted":
                    del tasks[task]
                elif "Failed" in name:
                    why = "; ".join(info.value for info in state.infos if info.key == "failed_reason")
                    sys.exit(f"{self.case.name}: the import of partition {partition} failed: {why}")
            if time.monotonic() > deadline:
                sys.exit(f"{self.case.name}: the imports of {list(tasks.values())} do not end")
            time.sleep(0.1)

    def load(self):
        kind, _ = self.case.vector
        index = {"index_type": "FLAT", "metric_type": "L2", "params": {}}
        if kind == "BINARY_VECTOR":
            index = {"index_type": "BIN_FLAT", "metric_type": "HAMMING", "params": {}}
        self.metric = index["metric_type"]
        self.collection.create_index("v", index, timeout=CALL_MAX_S)
        self.collection.load(timeout=LOAD_MAX_S)

    def parts(self, alive):
        """Queries that together find every row once, and the partition that their rows are expected in."""
        key = self.case.partition_key
        if key is None:
            return [("n >= 0", [name], name) for name in self.case.partitions]
        # The server looks only into the partition that it hashes the value to.
        values = {self.case.row(n, version)[key] for n, (version, _) in alive.items()}
        return [(f"{key} == {json.dumps(value, ensure_ascii=False)}", None, None) for value in sorted(values)]

    def compare(self, exported, given):
        alive, dead = self.case.expected()
        fields = fields_of(self.case)
        names = [field["name"] for field in fields]
        differences, seen, keys_seen, values = [], set(), set(), 0
        for expression, partitions, partition in self.parts(alive):
            # Nothing changes any more: there is no newer state to wait for.
            how = {"timeout": CALL_MAX_S, "limit": ROWS_MAX, "consistency_level": "Eventually"}
            rows = self.collection.query(expression, names, partitions, **how)
            for row in map(self.folded, rows):
                n = row["n"]
                if n not in alive or n in seen or alive[n][1] != partition:
                    differences.append(f"row {n} is found by {expression}, {partition}; expected {alive.get(n)}, twice: {n in seen}")
                    continue
                seen.add(n)
                keys_seen.add(row["id"])
                wanted = self.case.row(n, alive[n][0])
                wanted.setdefault("id", given.get(n))
                if self.case.dynamic:
                    wanted.setdefault("$meta", "{}")
                for field in fields:
                    name = field["name"]
                    values += 1
                    if bits(field, row[name]) != bits(field, wanted[name]):
                        differences.append(f"row {n}, field {name}: {row[name]!r}; expected {wanted[name]!r}")
        differences += [f"row {n} is missing" for n in alive if n not in seen]
        if len(keys_seen) != len(seen):
            differences.append(f"{len(seen)} rows have {len(keys_seen)} keys")
        count = self.collection.query("", ["count(*)"], timeout=CALL_MAX_S)[0]["count(*)"]
        told = exported["rows"] - exported["deleted"]
        if not count == told == len(alive):
            differences.append(f"the server counts {count} rows, the export says {told}; expected {len(alive)}")
        found = self.search(alive, dead, differences)
        for difference in differences[:10]:
            print(f"{self.case.name}: {difference}")
        if differences:
            sys.exit(f"{self.case.name}: {len(differences)} differences")
        kinds = [f["dtype"] + (f" of {f['element_type']}" if f["dtype"] == "ARRAY" else "") for f in fields]
        described = ", ".join(f"{name} {kind}" for name, kind in zip(names, kinds))
        print(
            f"{self.case.name}: Milvus has the {count} rows of {exported['segments']} segments in {len(exported['partitions'])} partitions, "
            f"{exported['deleted']} deleted; {values} values of {len(fields)} fields are equal ({described}); {found} searches"
        )

    def search(self, alive, dead, differences):
        """Rows find themselves, and deleted ones are not found."""
        def nearest(rows):
            vectors = [self.case.row(n, version)["v"] for n, (version, _) in rows]
            how = {"metric_type": self.metric, "params": {}}
            found = self.collection.search(vectors, "v", how, 1, output_fields=["n"], timeout=CALL_MAX_S)
            return [(row[0], hits[0].entity.get("n"), hits[0].distance) for row, hits in zip(rows, found)]

        some = sorted(alive.items())[:: max(1, len(alive) // SEARCHES)][:SEARCHES]
        for n, found, distance in nearest(some):
            if found != n or distance > 1e-4:
                differences.append(f"a search for the vector of row {n} finds row {found} at {distance}")
        gone = sorted(dead.items())[:SEARCHES]
        for n, found, distance in nearest(gone):
            if distance <= 1e-4:
                differences.append(f"a search for the vector of deleted row {n} finds row {found} at {distance}")
        return len(some) + len(gone)

    def folded(self, row):
        """The client unfolds `$meta` into the row."""
        if not self.case.dynamic:
            return row
        declared = {field["name"] for field in self.case.schema()["fields"]}
        folded = {key: value for key, value in row.items() if key in declared}
        folded["$meta"] = {key: value for key, value in row.items() if key not in declared}
        return folded


def bits(field, value):
    """What must be equal of a value: numbers by their bits, documents by their content."""
    kind = field["dtype"]
    if kind == "ARRAY":
        return [bits({"dtype": field["element_type"]}, element) for element in value]
    if kind == "FLOAT":
        return struct.pack("<f", value)
    if kind == "DOUBLE":
        return struct.pack("<d", value)
    if kind == "FLOAT_VECTOR":
        return struct.pack(f"<{len(value)}f", *value)
    if kind == "BINARY_VECTOR":
        return bytes(value[0]) if isinstance(value, list) else bytes(value)
    if kind == "JSON":
        value = json.loads(value) if isinstance(value, (str, bytes)) else value
        return json.dumps(value, sort_keys=True)
    return (type(value), value)


def main():
    verb, *rest = sys.argv[1:]
    if verb == "make":
        make(rest[0])
    elif verb == "keys":
        keys(case_named(rest[0]), *rest[1:])
    else:
        name, port, exported, rows = rest
        exported = json.load(open(exported, encoding="utf-8"))
        given = pyarrow.parquet.read_table(rows, columns=["n", "id"]).to_pydict()
        judge = Judge(case_named(name), port)
        judge.bring_in(exported)
        judge.load()
        judge.compare(exported, dict(zip(given["n"], given["id"])))


main()
