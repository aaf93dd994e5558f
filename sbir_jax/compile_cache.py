"""Where compiled programs are kept from one process to the next.

JAX's own cache: an entry is found by the program, the compiler's version, its flags and the
device, CPUs by their instruction sets. An entry is code that will be run, so the directory must
be one that only its owner can write to.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

_KEPT_S = 30 * 24 * 3600  # entries older than this are deleted from our own directory


def default_folder() -> Path:
    """The user's own, `$XDG_CACHE_HOME/sbir_jax/compiled/<cores>-cores`.

    Programs for CPUs are cut into as many pieces as the machine has cores, which JAX does not
    look at, and home directories are shared between machines.
    """
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "sbir_jax/compiled" / f"{os.cpu_count()}-cores"


def use_compile_cache(where: str = "") -> str:
    """Turns JAX's compilation cache on, before anything is compiled.

    Args:
      where: a directory that can be written to; "off"; or empty for what JAX's own environment
        variables say (`JAX_COMPILATION_CACHE_DIR`, `JAX_ENABLE_COMPILATION_CACHE`), else the
        user's own directory.

    Returns:
      Why there is none, in a few words; empty if there is one or none was wanted.
    """
    import jax

    if where == "off":
        jax.config.update("jax_enable_compilation_cache", False)
        return ""
    now: Any = jax.config
    if not where and (now.jax_compilation_cache_dir or not now.jax_enable_compilation_cache):
        return ""
    folder = Path(where) if where else default_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not os.access(folder, os.W_OK | os.X_OK):
            return f"{folder} cannot be written to"
        if not where:
            _drop_old(folder)
    except OSError as error:
        return f"{folder}: {error.strerror}"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return ""


def _drop_old(folder: Path) -> None:
    for entry in folder.glob("*-cache"):
        if time.time() - entry.stat().st_mtime > _KEPT_S:
            entry.unlink(missing_ok=True)  # another process may be at it too
