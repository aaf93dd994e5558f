"""An index in PostgreSQL with pgvector, for photos that several machines search.

Schema `sbir_jax`: `indices` has a row for each index (name, manifest, its table), and each index a
table of its own with a row for each photo: `row, id, root, path, label, size, modified`,
`vector halfvec(D)` with an HNSW index by cosine, and `thumbnail`. A push writes a new table and
exchanges it for the old one in one transaction: readers see the one or the other, whole.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import uuid
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from sbir_jax.retrieval import RetrievalError
from sbir_jax.retrieval.connection import Jsonb, connect, explained, psycopg, shown, sql
from sbir_jax.retrieval.index import TABLE_METHODS, Index, Match, check_encoders, one_method
from sbir_jax.retrieval.items import Item
from sbir_jax.retrieval.search import checked, similarities

if TYPE_CHECKING:
    from sbir_jax.retrieval.encoders import Encoders

_SCHEMA = "sbir_jax"
_MOST_DIMENSIONS = 4000  # that an HNSW index of halfvec takes
# Candidates by float16 products for each photo asked for, and at least; float32 ranks them again.
_CANDIDATES, _LEAST = 4, 100
_MOST_SEARCHED = 1000  # pgvector's limit of hnsw.ef_search

_TABLES = """
CREATE EXTENSION IF NOT EXISTS vector;
CREATE SCHEMA IF NOT EXISTS sbir_jax;
CREATE TABLE IF NOT EXISTS sbir_jax.indices (
  name text PRIMARY KEY, items text NOT NULL, content text NOT NULL, manifest jsonb NOT NULL,
  pushed timestamptz NOT NULL DEFAULT now());
"""
_ITEMS = """
CREATE TABLE {table} (
  row integer PRIMARY KEY, id text NOT NULL, root text NOT NULL, path text NOT NULL,
  label text NOT NULL, size bigint NOT NULL, modified bigint NOT NULL,
  vector halfvec({dim}) NOT NULL, thumbnail bytea);
"""
_COLUMNS = "row, id, root, path, label, size, modified, vector, thumbnail"


class Table:
    """An index in a database, from `Table.open`; threads may share it. See `store.Store`."""

    methods = TABLE_METHODS

    def __init__(self, address: str, name: str, connection: Any, row: tuple[str, dict]):
        self.name = f"{shown(address)} ({name})"
        self.manifest = row[1]
        self._items = sql.Identifier(_SCHEMA, row[0])
        self._address, self._name, self._connection = address, name, connection
        self._lock = threading.Lock()
        weakref.finalize(self, connection.close)

    @classmethod
    def open(cls, address: str, name: str = "photos") -> Table:
        """Opens the index `name` of the database at a `postgresql://` address.

        Raises:
          RetrievalError: no server, no such database or index; in one line, without the password.
        """
        with explained(address):
            connection = connect(address)
            pushed = _pushed(connection)
            if name in pushed:
                return cls(address, name, connection, pushed[name])
            connection.close()
        has = f"it has {', '.join(sorted(pushed))}" if pushed else "it has none"
        raise RetrievalError(
            f"{shown(address)}: no index of the name {name!r} ({has}); make one: python launch.py "
            f"index push --index=DIR --to=ADDRESS --name={name}"
        )

    def __len__(self) -> int:
        return self.manifest["photos"]

    def check(self, encoders: Encoders) -> None:
        """Raises RetrievalError if the vectors are of other encoders; names both."""
        check_encoders(self.name, self.manifest, encoders)

    def search(
        self, queries: np.ndarray, top: int = 20, *, method: str = "exact", label: str = ""
    ) -> list[list[Match]]:
        """As `Index.search`, with the methods exact and hnsw (approximate).

        `label`: only photos below that folder; empty for all.
        """
        one_method(method, self.methods)
        queries, top = checked(queries, (len(self), self.manifest["dim"]), top)
        return [self._nearest(query, top, method, label) for query in queries]

    def item(self, id: str) -> Item | None:
        """The photo of that content, the first of equal ones."""
        row = self._first("id, root, path, size, modified", id)
        return Item(*row) if row else None

    def vector(self, id: str) -> np.ndarray | None:
        """Its vector, float32 [D]."""
        row = self._first("vector::vector::real[]", id)
        return np.asarray(row[0], np.float32) if row else None

    def thumbnail(self, id: str) -> bytes | None:
        """Its small JPEG."""
        row = self._first("thumbnail", id)
        return row[0] if row else None

    def _nearest(self, query: np.ndarray, top: int, method: str, label: str) -> list[Match]:
        exact, depth = method == "exact", min(max(_CANDIDATES * top, _LEAST), len(self))
        # Exact is by the query as it is and in float32; the index holds float16 only.
        order = "vector::vector <#> %s::vector, row" if exact else "vector <=> %s::halfvec"
        settings = []
        if not exact:
            searched = min(max(depth, 40), _MOST_SEARCHED)
            # A filter may leave too few of the first candidates: then pgvector goes on.
            settings = [f"hnsw.ef_search = {searched}", "hnsw.iterative_scan = strict_order"]
            # Of few photos the database would rather look at all.
            settings += [] if label else ["enable_seqscan = off"]
        rows = self._fetch(
            "SELECT row, id, root, path, size, modified, vector::vector::real[] FROM {} "
            # Not a condition that is always true: the plan of the index would not see through it.
            f"{'WHERE label = %s' if label else ''} ORDER BY {order} LIMIT %s",
            (*([label] if label else []), _text(query), top if exact else depth),
            settings,
        )
        vectors = np.asarray([row[-1] for row in rows], np.float32).reshape(-1, len(query))
        scores = similarities(vectors, query)
        best = sorted(range(len(rows)), key=lambda i: (-scores[i], rows[i][0]))[:top]
        return [Match(float(scores[i]), Item(*rows[i][1:6]), rows[i][0]) for i in best]

    def _first(self, columns: str, id: str) -> tuple | None:
        if "\0" in id:  # text of PostgreSQL has none; a client may
            return None
        rows = self._fetch(f"SELECT {columns} FROM {{}} WHERE id = %s ORDER BY row LIMIT 1", (id,))
        return rows[0] if rows else None

    def _fetch(self, statement: str, values: tuple, settings: Sequence[str] = ()) -> list[tuple]:
        """All rows of a statement on the table, `{}`; connects again after the connection broke."""
        with self._lock, explained(self._address):
            if self._connection.closed or self._connection.broken:
                self._connection = connect(self._address)
                weakref.finalize(self, self._connection.close)
            try:
                return self._executed(statement, values, settings)
            except psycopg.errors.UndefinedTable:  # pushed again since: another table is there now
                self._follow()
                return self._executed(statement, values, settings)

    def _executed(self, statement: str, values: tuple, settings: Sequence[str]) -> list[tuple]:
        with self._connection.transaction():
            for setting in settings:
                self._connection.execute(f"SET LOCAL {setting}")
            query = sql.SQL(statement).format(self._items)
            return self._connection.execute(query, values, binary=True).fetchall()

    def _follow(self) -> None:
        """Goes over to what was pushed in place of this index, if it is of the same encoders."""
        found = _pushed(self._connection).get(self._name)
        if found is None:
            raise RetrievalError(f"{self.name}: is not there any more")
        if found[1]["encoders"] != self.manifest["encoders"]:
            raise RetrievalError(f"{self.name}: is of other encoders now; open it again")
        self._items, self.manifest = sql.Identifier(_SCHEMA, found[0]), found[1]


def _pushed(connection: Any) -> dict[str, tuple[str, dict]]:
    """The table and the manifest of each index of a database, by name."""
    if connection.execute("SELECT to_regclass('sbir_jax.indices')").fetchone()[0] is None:
        return {}
    found = connection.execute("SELECT name, items, manifest FROM sbir_jax.indices")
    return {name: (items, manifest) for name, items, manifest in found}


def push(index: Index, address: str, name: str = "photos", *, quiet: bool = False) -> bool:
    """Copies an index into a database, in place of the one of that name if there is one.

    Args:
      index: the directory's.
      address: `postgresql://user:password@host:port/database`.
      name: of the index there: letters, digits, - and _.
      quiet: without progress bar.

    Returns:
      Whether anything was written; False if the same index is there already.

    Raises:
      RetrievalError: a bad name, no server, no pgvector, or vectors too long for its HNSW index;
        the database is as it was.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,60}", name):
        raise RetrievalError(f"--name={name}: expected 1 to 60 letters, digits, - and _")
    dim = index.manifest["dim"]
    if dim > _MOST_DIMENSIONS:
        raise RetrievalError(
            f"{index.folder}: {dim} dimensions; pgvector's HNSW takes {_MOST_DIMENSIONS} at most"
        )
    content = hashlib.sha256(json.dumps(index.manifest, sort_keys=True).encode()).hexdigest()
    with explained(address), connect(address) as connection, connection.transaction():
        # Two pushes at once: the second waits here for the first.
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('sbir_jax'))")
        connection.execute(_TABLES)
        old = connection.execute(
            "SELECT items, content FROM sbir_jax.indices WHERE name = %s", (name,)
        ).fetchone()
        if old and old[1] == content:
            return False
        made = f"items_{uuid.uuid4().hex[:16]}"
        table = sql.Identifier(_SCHEMA, made)
        connection.execute(sql.SQL(_ITEMS).format(table=table, dim=sql.Literal(dim)))
        _copy(connection, index, table, quiet)
        for on in ("hnsw (vector halfvec_cosine_ops)", "btree (id)", "btree (label)"):
            connection.execute(sql.SQL("CREATE INDEX ON {} USING " + on).format(table))
        connection.execute(sql.SQL("ANALYZE {}").format(table))
        connection.execute(
            "INSERT INTO sbir_jax.indices (name, items, content, manifest) VALUES (%s, %s, %s, %s) "
            "ON CONFLICT (name) DO UPDATE SET items = excluded.items, content = excluded.content, "
            "manifest = excluded.manifest, pushed = now()",
            (name, made, content, Jsonb(index.manifest)),
        )
        if old:
            connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(_SCHEMA, old[0])))
    return True


def label_of(item: Item) -> str:
    """The folder of a photo below the indexed directory, its first part; "" for none."""
    folder, slash, _ = item.path.partition("/")
    return folder if slash else ""


def _copy(connection: Any, index: Index, table: Any, quiet: bool) -> None:
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(table, sql.SQL(_COLUMNS))
    bar = tqdm(
        index.items, desc="pushing", unit="photo", delay=2, leave=False, disable=quiet or None
    )
    with connection.cursor().copy(statement) as copy:
        for row, item in enumerate(bar):
            own = (item.id, item.root, item.path, label_of(item), item.size, item.modified)
            copy.write_row((row, *own, _text(index.vectors[row]), index.thumbnail(item.id)))


def _text(vector: np.ndarray) -> str:
    return "[" + ",".join(map(str, np.asarray(vector, np.float32).tolist())) + "]"
