"""Where raw archives are published, and fetching those that have a plain address."""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import json
import urllib.error
import urllib.request
import zipfile
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from data_prep.items import PrepareError

_CHUNK = 1 << 20
_TIMEOUT = 30


@dataclasses.dataclass(frozen=True)
class Source:
    """One published archive.

    file: how it is called on disk.
    url: its plain address; "" if there is none.
    drive: its id on Google Drive, which asks for a browser.
    page: where else it is offered, or asked for.
    need: when it is needed; "" for always.
    sha256: of the file; "" where none was published or seen by us.
    """

    file: str
    url: str = ""
    drive: str = ""
    page: str = ""
    need: str = ""
    sha256: str = ""

    @property
    def address(self) -> str:
        drive = f"https://drive.google.com/file/d/{self.drive}" if self.drive else ""
        return self.url or drive or self.page


def instructions(dataset: str, raw: str, sources: Sequence[Source]) -> str:
    """Where to get a dataset, for a person."""
    lines = [f"{dataset} needs --raw=DIR: a {raw}.", "Its archives:"]
    for source in sources:
        needed = f"   (only for {source.need})" if source.need else ""
        lines.append(f"  {source.file:28}{source.address}{needed}")
    lines.append("Unpack each (.7z with `7z x`) in DIR and leave its folders as they come.")
    if any(source.url for source in sources):
        lines.append(
            "Those with a plain address can be fetched and unpacked by "
            f"python -m data_prep {dataset} --download=DIR"
        )
    lines.append("The addresses are as published; whether they still answer was not tested here.")
    return "\n".join(lines)


def download_all(
    dataset: str, sources: Sequence[Source], folder: Path, *, quiet: bool = False
) -> list[Source]:
    """Fetches and unpacks every source with a plain address into `folder`.

    Returns:
      the sources that a person has to fetch.

    Raises:
      PrepareError: an address that does not answer, a file that is not what it should be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for source in (source for source in sources if source.url):
        path = fetch(source, folder, quiet=quiet)
        done = folder / f".{source.file}.unpacked"
        if path.suffix == ".zip" and not done.exists():
            try:
                with zipfile.ZipFile(path) as archive:
                    archive.extractall(folder)
            except (zipfile.BadZipFile, OSError) as error:
                raise PrepareError(f"{path}: cannot be unpacked ({error}); delete it") from error
            done.touch()
    return [source for source in sources if not source.url]


def fetch(source: Source, folder: Path, *, quiet: bool = False) -> Path:
    """One file into `folder`: what is there already stays, what was interrupted is continued.

    Raises:
      PrepareError: no answer, cut short, or another checksum than expected.
    """
    path = folder / source.file
    if path.exists():
        return path
    partial, note = folder / f"{source.file}.partial", folder / f"{source.file}.partial.json"
    try:
        _receive(source, partial, note, quiet)
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        reason = getattr(error, "reason", error)
        raise PrepareError(
            f"{source.url}: no answer ({reason}); offline, or the address is gone: run again to "
            f"continue, or get {source.file} elsewhere and put it into {folder}"
        ) from error
    note.unlink(missing_ok=True)
    found = _sha256(partial)
    if source.sha256 and found != source.sha256:
        partial.unlink()
        raise PrepareError(
            f"{source.url}: sha256 is {found}, expected {source.sha256}: deleted, run again"
        )
    partial.rename(path)
    if not quiet:
        known = "as expected" if source.sha256 else "none was published to compare it with"
        print(f"{path}: sha256 {found} ({known})")
    return path


def _receive(source: Source, partial: Path, note: Path, quiet: bool) -> None:
    """Appends what is missing; starts anew if the file on the server is another one."""
    have = partial.stat().st_size if partial.exists() else 0
    headers = {"User-Agent": "sbir_jax data_prep"}
    tag = json.loads(note.read_text())["etag"] if have and note.exists() else ""
    if have and tag:
        headers |= {"Range": f"bytes={have}-", "If-Range": tag}
    request = urllib.request.Request(source.url, headers=headers)
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
        continued = answer.status == 206
        have = have if continued else 0
        size = int(answer.headers.get("Content-Length") or 0)
        note.write_text(json.dumps({"etag": answer.headers.get("ETag") or ""}))
        bar = tqdm(
            total=have + size or None,
            initial=have,
            desc=source.file,
            unit="B",
            unit_scale=True,
            mininterval=1,
            disable=quiet,
        )
        with bar, partial.open("ab" if continued else "wb") as file:
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    if size and partial.stat().st_size != have + size:
        raise OSError(f"cut short at {partial.stat().st_size:,} of {have + size:,} bytes")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
