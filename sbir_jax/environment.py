"""What a run ran on: enough to run it again, and to say what differs where it does not repeat.

`environment.json` in a workdir is a list with one entry a start, since a run may be continued
elsewhere: the command, the code, package versions, devices, seed.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from sbir_jax.workdir import write_json

_MOST_DIFF = 64 << 10  # bytes; a larger one is left out, and said to be
_PREFIXES = ("XLA_", "JAX_", "LIBTPU_", "NVIDIA_TF32", "TF_CPP")


def remember_start(
    workdir: Path, *, seed: int, step: int, mesh: Mesh, source: Path | None = None
) -> list[str]:
    """Adds this start to `environment.json`.

    Returns:
      What has changed since the last start, if this one continues a run, or since the start of
      the run in `source` that it repeats: "jax 0.10.1 -> 0.10.2".
    """
    path = Path(workdir) / "environment.json"
    before = starts(workdir)
    entry = {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "step": step,
        "seed": seed,
        "command": shlex.join(sys.orig_argv),
        "directory": os.getcwd(),
        **_surroundings(mesh),
    }
    write_json(path, [*before, entry])
    then = before[-1:] if step else starts(source)[:1] if source else []
    return changes(then[0], entry) if then else []


def starts(workdir: Path) -> list[dict[str, Any]]:
    """The entries of `environment.json`, oldest first; none where it is missing or damaged."""
    try:
        found = json.loads((Path(workdir) / "environment.json").read_text())
    except (OSError, ValueError):
        return []
    return found if isinstance(found, list) and all(isinstance(e, dict) for e in found) else []


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What differs of Python, packages, code and devices: a few words each."""
    pairs: dict[str, tuple] = {"Python": (before.get("python"), after.get("python"))}
    old, new = before.get("packages") or {}, after["packages"]
    pairs |= {name: (old.get(name), new.get(name)) for name in sorted({*old, *new})}
    codes = [(entry.get("git") or {}).get("commit") for entry in (before, after)]
    pairs["commit"] = tuple(code and code[:12] for code in codes)
    pairs["devices"] = tuple(_devices(entry.get("devices")) for entry in (before, after))
    return [f"{name} {was} -> {now}" for name, (was, now) in pairs.items() if was != now]


def _devices(entry: Any) -> str:
    return f"{entry['count']} x {entry['kind']}" if isinstance(entry, dict) else "unknown"


def _surroundings(mesh: Mesh) -> dict[str, Any]:
    devices = {
        "kind": mesh.devices.flat[0].device_kind,
        "count": mesh.size,
        "processes": jax.process_count(),
    }
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": devices,
        "packages": _packages(),
        "git": _git(Path(__file__).resolve().parent),
        "variables": {k: v for k, v in sorted(os.environ.items()) if k.startswith(_PREFIXES)},
    }


def _packages() -> dict[str, str]:
    """Versions of this package and all that it requires, where they are installed."""
    try:
        required = metadata.requires("sbir_jax") or []
    except metadata.PackageNotFoundError:  # run from a checkout
        required = []
    core = [text for text in required if "extra ==" not in text]
    names = {"jaxlib", *(_name(text) for text in core)}
    found = {}
    for name in sorted(names | {"jax"}):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _name(requirement: str) -> str:
    for number, letter in enumerate(requirement):
        if not (letter.isalnum() or letter in "-_."):
            return requirement[:number]
    return requirement


def _git(folder: Path) -> dict[str, Any] | None:
    """Commit and changes of the code, if it is in a repository of its own."""

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *words], capture_output=True, timeout=10, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.decode("utf-8", "replace")

    # An installed package may lie in somebody else's repository, which does not track it.
    if ask("ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    commit = ask("rev-parse", "HEAD")
    if commit is None:
        return None
    changed = (ask("status", "--porcelain") or "").splitlines()
    found: dict[str, Any] = {"commit": commit.strip(), "dirty": bool(changed)}
    if changed:
        diff = ask("diff", "HEAD") or ""
        small = len(diff.encode()) <= _MOST_DIFF
        found |= {"changed": changed[:100], "diff": diff if small else None}
    return found
