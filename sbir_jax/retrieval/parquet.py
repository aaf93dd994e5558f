"""An index as one Parquet file, which other vector engines and data tools read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from sbir_jax.retrieval import RetrievalError
from sbir_jax.retrieval.index import Index

_ROWS = 65_536  # of a row group: what is in memory at a time


def write_parquet(index: Index, path: str | Path) -> None:
    """Writes `id, root, path, size, modified, vector` (float32 lists of length D) of each photo.

    The manifest is in the file's metadata under `sbir_jax`. The file appears whole or not at all.

    Raises:
      RetrievalError: pyarrow is not installed, or the file cannot be written.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise RetrievalError("Parquet needs pyarrow: pip install 'sbir_jax[parquet]'") from None
    dim, path = index.manifest["dim"], Path(path)
    text, number = pa.string(), pa.int64()
    fields = [("id", text), ("root", text), ("path", text), ("size", number), ("modified", number)]
    fields.append(("vector", pa.list_(pa.float32(), dim)))
    about = {"sbir_jax": json.dumps(index.manifest)}
    scratch = path.with_name(f".{path.name}.partial")
    try:
        with parquet.ParquetWriter(scratch, pa.schema(fields, about)) as file:
            for start in range(0, len(index), _ROWS):
                items = index.items[start : start + _ROWS]
                values = zip(*items, strict=True)
                kinds = (kind for _, kind in fields[:-1])
                columns = [pa.array(own, kind) for own, kind in zip(values, kinds, strict=True)]
                rows = np.asarray(index.vectors[start : start + _ROWS], np.float32)
                vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), dim)
                file.write_table(pa.table([*columns, vectors], schema=file.schema))
        scratch.replace(path)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise RetrievalError(f"{path}: cannot be written: {error.strerror or error}") from error
