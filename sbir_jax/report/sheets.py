"""The directory of a report: its page, and each of its pictures as a file of its own."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from sbir_jax.report import page
from sbir_jax.report.record import ReportError


class Sheets:
    """Writes a report into a directory, which is made, and takes the pictures of an older one out.

    Raises:
      ReportError: the directory cannot be written to; so do all methods.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for old in self.folder.glob("*.png"):
                old.unlink()
        except OSError as error:
            raise ReportError(f"{self.folder}: cannot be written to: {error.strerror}") from error

    def picture(
        self,
        name: str,
        image: Image.Image,
        *,
        alt: str,
        caption: str = "",
        wide: bool = False,
        photos: bool = False,
    ) -> str:
        """Saves `NAME.png`, and returns the picture as a part of the page (`page.picture`)."""
        try:
            image.save(self.folder / f"{name}.png")
        except OSError as error:
            raise ReportError(f"{self.folder}: cannot be written to: {error.strerror}") from error
        return page.picture(image, alt=alt, caption=caption, wide=wide, photos=photos)

    def write(self, whole: str) -> Path:
        """Writes `index.html`, whole or not at all."""
        path = self.folder / "index.html"
        scratch = path.with_suffix(".html.partial")
        try:
            scratch.write_text(whole, encoding="utf-8")
            scratch.replace(path)
        except OSError as error:
            raise ReportError(f"{path}: cannot be written: {error.strerror}") from error
        return path
