"""An index as a Parquet file: read by pyarrow, it holds every row and the manifest."""

from __future__ import annotations

import json

import numpy as np
import pytest
from served import make_index

from sbir_jax.retrieval import RetrievalError
from sbir_jax.retrieval.parquet import write_parquet

pq = pytest.importorskip("pyarrow.parquet", reason="needs sbir_jax[parquet]")


def test_every_row_is_in_the_file(finished, tmp_path, monkeypatch):
    """Columns equal items and vectors, over several row groups; the metadata is the manifest."""
    from sbir_jax.retrieval import parquet

    monkeypatch.setattr(parquet, "_ROWS", 7)
    index, _ = make_index(finished[1], tmp_path)
    write_parquet(index, tmp_path / "index.parquet")
    table = pq.read_table(tmp_path / "index.parquet")
    rows = table.to_pylist()
    assert len(rows) == len(index) == 30
    for row, item, vector in zip(rows, index.items, index.vectors, strict=True):
        np.testing.assert_array_equal(np.asarray(row.pop("vector"), np.float16), vector)
        assert row == item._asdict()
    assert json.loads(table.schema.metadata[b"sbir_jax"]) == index.manifest
    with pytest.raises(RetrievalError, match="cannot be written"):
        write_parquet(index, tmp_path / "absent/index.parquet")
