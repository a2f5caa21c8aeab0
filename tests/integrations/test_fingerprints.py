"""A hash of data that is the same in every process and layout, and another for other data."""

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from bo_suite.integrations.fingerprints import data_fingerprint

X = np.random.default_rng(0).normal(size=(40, 3)).round(2)
Y = (X[:, 0] > 0).astype(int)
TABLE = pd.DataFrame(
    {
        "number": X[:, 0],
        "text": ["a", "b"] * 20,
        "kind": pd.Categorical(["u", "v"] * 20),
        "day": pd.date_range("2020", periods=40),
        "gap": [None, 1.5] * 20,
        "list": [[1], [2, 3]] * 20,
        "string": pd.Series(["x", None] * 20, dtype="string"),
        "whole": pd.Series([1, None] * 20, dtype="Int64"),
    }
)


class Graph:
    """A sample that is an object."""

    def __init__(self, size: int) -> None:
        self.size, self.names = size, {"b", "a", "c"}


@pytest.mark.parametrize(
    "alike",
    [
        (X, np.asfortranarray(X), np.repeat(X, 2, 0)[::2], X.copy()),
        (X[:, 0], X[:, 0].tolist(), np.ascontiguousarray(X[:, 0])),
        (TABLE, TABLE.copy(), TABLE.set_index(np.arange(40) + 7), pd.concat([TABLE, TABLE]).iloc[:40]),
        (pd.DataFrame(X, columns=list("abc")), pd.DataFrame(np.asfortranarray(X), columns=list("abc"))),
        (pd.Series(Y), pd.Series(Y, index=range(3, 43))),
        (sparse.csr_matrix(X), sparse.csc_matrix(X), sparse.coo_array(X), sparse.csr_array(X)),
        (["ab", "c"], ("ab", "c"), ["a" + "b", "c"]),
        ({"a": Y, "b": None}, {"b": None, "a": Y.copy()}),
        ([Graph(1), Graph(2)], [Graph(1), Graph(2)]),
        (np.array(["a", None, 1.5], dtype=object), np.array(["a", None, 1.5], dtype=object)),
    ],
    ids=lambda alike: type(alike[0]).__name__,
)
def test_the_same_data_have_one_fingerprint(alike: tuple[Any, ...]) -> None:
    assert len({data_fingerprint(data) for data in alike}) == 1


def changed(table: pd.DataFrame, column: str, value: Any) -> pd.DataFrame:
    found = table.copy()
    found.at[3, column] = value
    return found


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (X, X + np.eye(40, 3) * 1e-9),
        (X, X[::-1]),
        (X, X[:39]),
        (X, X.reshape(3, 40)),
        (X, X.astype(np.float32)),
        (Y, 1 - Y),
        (["ab", "c"], ["a", "bc"]),
        (["a"], [b"a"]),
        (["1"], [1]),
        ([None], ["None"]),
        (sparse.csr_matrix(X), sparse.csr_matrix(2 * X)),
        (sparse.csr_matrix(X), sparse.csr_matrix(X[::-1])),
        (pd.DataFrame(X, columns=list("abc")), pd.DataFrame(X, columns=list("abd"))),
        *(
            (TABLE, changed(TABLE, name, value))
            for name, value in (("text", "z"), ("gap", 2.5), ("number", 9))
        ),
        (TABLE, changed(TABLE, "list", [9])),
        (TABLE, TABLE.iloc[:, :7]),
        (np.array(["a", None], dtype=object), np.array(["a", 1], dtype=object)),
        ([Graph(1)], [Graph(2)]),
        ({"a": Y}, {"b": Y}),
        (None, ()),
    ],
    ids=lambda data: type(data).__name__,
)
def test_other_data_have_another(one: Any, other: Any) -> None:
    assert data_fingerprint(one) != data_fingerprint(other)


def test_where_a_part_ends_counts() -> None:
    assert data_fingerprint([1.0], [2.0, 3.0]) != data_fingerprint([1.0, 2.0], [3.0])
    assert data_fingerprint(X, None) != data_fingerprint(X)


def test_what_cannot_be_pickled_counts_by_its_type() -> None:
    assert data_fingerprint([lambda: 1]) == data_fingerprint([lambda: 2])


def test_a_fingerprint_is_the_same_in_another_process() -> None:
    code = "from tests.integrations.test_fingerprints import *; "
    code += "print(data_fingerprint(TABLE, X, Y, [Graph(1)], ['a']))"
    found = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
        )
        found.add(done.stdout.strip())
    assert len(found) == 1
