"""A hash of the data of a search, the same in every process and for every layout in memory."""

import hashlib
from collections.abc import Mapping
from numbers import Number
from typing import Any

import joblib
import numpy as np
import pandas as pd
from scipy import sparse

_BLOCK = 1 << 22
"""Numbers that are copied at once if an array is not contiguous."""


def data_fingerprint(*data: Any) -> str:
    """Hash arrays, sparse matrices, tables, lists and their items, as cross-validation sees them.

    Lists of numbers count as arrays. The index of a table and the order in memory do not count. Of an object
    that cannot be pickled, only the type counts.
    """
    state = hashlib.blake2b(digest_size=16)
    for value in data:
        _add(state, value)
    return state.hexdigest()


def _add(state: Any, value: Any) -> None:
    if isinstance(value, pd.DataFrame | pd.Series):
        _add_table(state, value)
    elif sparse.issparse(value):
        _add_sparse(state, value)
    elif isinstance(value, np.ndarray):
        _add_array(state, value)
    elif isinstance(value, list | tuple):
        if value and {type(item) for item in value} <= {bool, int, float}:
            _add_array(state, np.asarray(value))
        else:
            _add_each(state, list(value), (len(value),))
    elif isinstance(value, Mapping):
        pairs = sorted(value.items(), key=str)
        _add_each(state, [item for pair in pairs for item in pair], (len(pairs), 2))
    elif value is None or isinstance(value, Number | np.generic):
        state.update(f"{type(value).__name__} {value!r}:".encode())
    elif isinstance(value, str | bytes):
        content = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        state.update(b"%s %d:" % (type(value).__name__.encode(), len(content)))
        state.update(content)
    elif hasattr(value, "__array__"):  # tensors and tables of other libraries
        _add(state, list(getattr(value, "columns", ())))
        _add_array(state, np.asarray(value))
    else:
        state.update(b"object " + _object_hash(value).encode())


def _add_each(state: Any, items: list[Any], shape: tuple[int, ...]) -> None:
    state.update(f"items {shape}:".encode())
    for item in items:
        _add(state, item)


def _add_array(state: Any, array: np.ndarray) -> None:
    if array.dtype.hasobject or array.dtype.kind == "T":
        _add_each(state, array.ravel().tolist(), array.shape)
        return
    state.update(f"array {array.dtype.str} {array.dtype.names} {array.shape}:".encode())
    if array.flags.c_contiguous:
        state.update(array.reshape(-1).view(np.uint8).data if array.size else b"")
        return
    rows = max(1, _BLOCK * len(array) // max(1, array.size))
    for first in range(0, len(array), rows):
        state.update(np.ascontiguousarray(array[first : first + rows]).tobytes())


def _add_sparse(state: Any, matrix: Any) -> None:
    rows = sparse.csr_matrix(matrix, copy=True) if matrix.ndim == 2 else sparse.csr_array(matrix, copy=True)
    rows.sum_duplicates()
    state.update(f"sparse {rows.shape}:".encode())
    for array in (rows.indptr.astype(np.int64), rows.indices.astype(np.int64), rows.data):
        _add_array(state, array)


def _add_table(state: Any, table: Any) -> None:
    names = list(table.columns) if isinstance(table, pd.DataFrame) else [table.name]
    state.update(f"table {table.shape} {names}:".encode())
    columns = [table.iloc[:, index] for index in range(len(names))] if table.ndim == 2 else [table]
    for column in columns:
        state.update(str(column.dtype).encode())
        try:
            state.update(pd.util.hash_pandas_object(column, index=False).to_numpy().tobytes())
        except TypeError:  # objects that cannot be hashed, such as lists
            _add_each(state, column.tolist(), column.shape)


def _object_hash(value: Any) -> str:
    try:
        return str(joblib.hash(value))
    except Exception:  # pickling an object of a user may raise anything
        return type(value).__qualname__
