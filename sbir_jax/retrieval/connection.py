"""Connections to PostgreSQL: addresses read, and what the database says in one line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sbir_jax.retrieval import RetrievalError

try:
    import psycopg
    from psycopg import sql  # noqa: F401, for postgres.py, so that one place says what is missing
    from psycopg.conninfo import conninfo_to_dict
    from psycopg.types.json import Jsonb  # noqa: F401
except ImportError as error:
    raise RetrievalError(
        "an index in PostgreSQL needs psycopg: pip install 'sbir_jax[postgres]'"
    ) from error

_SECONDS = 10  # until a server that does not answer is given up


def connect(address: str) -> Any:
    """A connection to the database at a `postgresql://` address, which commits each statement.

    Raises:
      RetrievalError: the address cannot be read.
      psycopg.Error: no server, or it refuses; see `explained`.
    """
    _check_address(address)
    return psycopg.connect(address, autocommit=True, connect_timeout=_SECONDS)


def _check_address(address: str) -> None:
    """Refuses what libpq would take apart in the wrong place, and then repeat.

    Of `user:pass@word@host` it says that the host word@host is not known.
    """
    try:
        of = {name: str(value) for name, value in conninfo_to_dict(address).items()}
        good = "@" not in of.get("host", "") + of.get("dbname", "")
        good = good and re.fullmatch(r"[\d,]*", of.get("port", ""))
    except psycopg.Error:
        good = False
    if not good:
        raise RetrievalError(
            "the database's address cannot be read; expected "
            "postgresql://USER:PASSWORD@HOST:PORT/DATABASE, and in the password %40 for @, "
            "%2F for / and %25 for %"
        )


def shown(address: str) -> str:
    """An address that was checked, without user and password."""
    of = conninfo_to_dict(address)
    host = str(of.get("host", "localhost")).rpartition("/")[2]
    return f"postgresql://{host}/{of.get('dbname', '')}"


@contextmanager
def explained(address: str) -> Iterator[None]:
    """What the database says, as one line that names the database; libpq says no password."""
    try:
        yield
    except psycopg.Error as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if "vector" in reason and "is not available" in reason:
            reason = "this server has no pgvector extension (0.8 or newer is needed)"
        raise RetrievalError(f"{shown(address)}: {reason}") from None
