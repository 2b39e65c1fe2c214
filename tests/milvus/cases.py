"""Collections that a real Milvus judges: a schema, the rows by their number, and what happens to them. All of it is a function of numbers.

Each collection has an INT64 field "n", the number of the row, by which rows are told apart also where the server's key is another's.
"""

import json
import math
import random
from dataclasses import dataclass, field
from typing import Callable, Optional, Union

INT64_MAX = 2**63 - 1


@dataclass
class Case:
    """One collection. `key` gives the primary key of a row's number, or is None where Tidegate gives keys. With a `partition_key`, rows go
    where its hash says, in Tidegate as in Milvus, and nobody names the partitions."""

    name: str
    fields: list
    values: Callable  # (random numbers, n) -> {field: value}, without "n", the key and the vector
    key: Optional[Callable] = int
    key_type: str = "INT64"
    vector: tuple = ("FLOAT_VECTOR", 8)
    shards: int = 2
    partitions: Union[list, int] = field(default_factory=lambda: ["_default"])  # their number, with a partition key
    partition_key: Optional[str] = None
    dynamic: bool = False

    def schema(self):
        """As Tidegate's schema files have it."""
        key = {"name": "id", "dtype": self.key_type, "is_primary": True, "auto_id": self.key is None}
        if self.key_type == "VARCHAR":
            key["params"] = {"max_length": 64}
        vector = {"name": "v", "dtype": self.vector[0], "params": {"dim": self.vector[1]}}
        fields = [key, {"name": "n", "dtype": "INT64"}, *self.fields, vector]
        return {"name": self.name, "enable_dynamic_field": self.dynamic, "fields": fields}

    def row(self, n, version):
        """The values of a row, `version` telling a row from an earlier one of the same key."""
        numbers = random.Random(f"{self.name}/{n}/{version}")
        kind, dim = self.vector
        vector = numbers.randbytes(dim // 8) if kind == "BINARY_VECTOR" else [numbers.uniform(-1, 1) for _ in range(dim)]
        row = {"n": n, **self.values(numbers, n), "v": vector}
        return row if self.key is None else {"id": self.key(n), **row}

    def steps(self):
        """What happens: ("ingest", partition, [(n, version), …]), ("delete", [n, …]) and ("flush",)."""
        yield from self.ingest(range(200), 1)
        yield "delete", list(range(0, 200, 7))
        # Re-inserted between a delete and the flush; some of them deleted once more.
        yield from self.ingest(range(0, 200, 21), 2)
        yield "delete", [0, 105]
        yield ("flush",)
        yield from self.ingest(range(200, 300), 1)
        yield "delete", list(range(0, 260, 11))
        yield ("flush",)
        # Deleted in one flush, re-inserted in the next.
        yield from self.ingest(range(0, 260, 22), 3)
        yield ("flush",)
        yield "delete", list(range(280, 290))
        yield ("flush",)

    def ingest(self, numbers, version):
        """A batch for each partition that is named; a later version of a row goes into another partition."""
        if self.partition_key:
            yield "ingest", None, [(n, version) for n in numbers]
            return
        of_partition = {name: [] for name in self.partitions}
        for n in numbers:
            of_partition[self.partition(n, version)].append((n, version))
        for name, rows in of_partition.items():
            if rows:
                yield "ingest", name, rows

    def partition(self, n, version):
        return self.partitions[(n + version) % len(self.partitions)]

    def expected(self):
        """The rows that must be there in the end, by number, as (version, partition or None), and the rows that were deleted."""
        alive, dead = {}, {}
        for step in self.steps():
            if step[0] == "ingest":
                alive.update({n: (version, step[1]) for n, version in step[2]})
            elif step[0] == "delete":
                dead.update({n: alive.pop(n) for n in step[1] if n in alive})
        return alive, dead


def scalars(numbers, n):
    ends = n % 4 == 0
    return {
        "flag": n % 3 == 0,
        "i8": numbers.choice([-128, 127]) if ends else numbers.randint(-128, 127),
        "i16": numbers.choice([-(2**15), 2**15 - 1]) if ends else numbers.randint(-(2**15), 2**15 - 1),
        "i32": numbers.choice([-(2**31), 2**31 - 1]) if ends else numbers.randint(-(2**31), 2**31 - 1),
        "i64": numbers.choice([-INT64_MAX - 1, INT64_MAX]) if ends else numbers.randint(-INT64_MAX, INT64_MAX),
        "f32": numbers.choice([0.0, -0.0, math.inf, 2.0**-149]) if ends else numbers.uniform(-1e6, 1e6),
        "f64": numbers.choice([0.0, -0.0, -math.inf, 5e-324]) if ends else numbers.gauss(0, 1e100),
        "text": text(numbers),
        "doc": json.dumps(document(numbers), ensure_ascii=n % 2 == 0),
    }


def text(numbers):
    letters = "abc äöü ключ 鍵 \U0001f511 \"quoted\" 'single' \\ \n\t"
    return "".join(numbers.choices(letters, k=numbers.choice([0, 1, 7, 30])))


def document(numbers, depth=0):
    leaves = [None, True, False, numbers.randint(-(2**53), 2**53), numbers.uniform(-1, 1), text(numbers)]
    if depth == 2:
        return numbers.choice(leaves)
    inner = {name: document(numbers, depth + 1) for name in numbers.sample(["a", "b", "ключ", "d e"], numbers.randint(0, 3))}
    return inner if depth == 0 or numbers.random() < 0.5 else [*inner.values(), numbers.choice(leaves)]


def texts(numbers, n):
    return {"text": text(numbers)}


def shops(numbers, n):
    # Hashed are the first 100 bytes, which may end inside a character.
    return {"shop": f"{n % 25} " + "鍵" * (50 if n % 2 else 1)}


def regions(numbers, n):
    return {"region": (n % 30 - 15) * 123_456_789_123}


def undeclared(numbers, n):
    return {"text": text(numbers), "$meta": json.dumps({f"k{k}": document(numbers, 1) for k in range(n % 4)})}


def arrays(numbers, n):
    def of(element):
        return [element() for _ in range(numbers.choice([0, 1, 3, 8]))]

    return {
        "bools": of(lambda: numbers.random() < 0.5),
        "i8s": of(lambda: numbers.randint(-128, 127)),
        "i16s": of(lambda: numbers.randint(-(2**15), 2**15 - 1)),
        "i32s": of(lambda: numbers.choice([-(2**31), 2**31 - 1, 0])),
        "i64s": of(lambda: numbers.choice([-INT64_MAX - 1, INT64_MAX, numbers.randint(-9, 9)])),
        "f32s": of(lambda: numbers.choice([-0.0, math.inf, numbers.uniform(-1, 1)])),
        "f64s": of(lambda: numbers.choice([-0.0, 5e-324, numbers.gauss(0, 1e100)])),
        "texts": of(lambda: text(numbers)),
    }


TEXT = {"name": "text", "dtype": "VARCHAR", "params": {"max_length": 512}}
SCALARS = [
    {"name": "flag", "dtype": "BOOL"},
    {"name": "i8", "dtype": "INT8"},
    {"name": "i16", "dtype": "INT16"},
    {"name": "i32", "dtype": "INT32"},
    {"name": "i64", "dtype": "INT64"},
    {"name": "f32", "dtype": "FLOAT"},
    {"name": "f64", "dtype": "DOUBLE"},
    TEXT,
    {"name": "doc", "dtype": "JSON"},
]

SHOP = {"name": "shop", "dtype": "VARCHAR", "is_partition_key": True, "params": {"max_length": 512}}
REGION = {"name": "region", "dtype": "INT64", "is_partition_key": True}
ARRAYS = [
    {"name": name, "dtype": "ARRAY", "element_type": element, "params": {"max_capacity": 8}}
    for name, element in [
        ("bools", "BOOL"),
        ("i8s", "INT8"),
        ("i16s", "INT16"),
        ("i32s", "INT32"),
        ("i64s", "INT64"),
        ("f32s", "FLOAT"),
        ("f64s", "DOUBLE"),
    ]
] + [{"name": "texts", "dtype": "ARRAY", "element_type": "VARCHAR", "params": {"max_capacity": 8, "max_length": 512}}]

CASES = [
    Case("scalars", SCALARS, scalars, key=lambda n: (n - 150) * 61_489_146_912_365_171),
    Case("texts", [TEXT], texts, key=lambda n: f"ключ \"{n}\" 鍵", key_type="VARCHAR", shards=1, partitions=["a", "b"]),
    Case("undeclared", [TEXT], undeclared, key=None, dynamic=True),
    Case("arrays", ARRAYS, arrays, key=lambda n: -n),
    Case("shops", [SHOP], shops, partitions=3, partition_key="shop"),
    Case("regions", [REGION], regions, partitions=2, partition_key="region"),
    Case("bits", [TEXT], texts, key=None, key_type="VARCHAR", vector=("BINARY_VECTOR", 64)),
]
