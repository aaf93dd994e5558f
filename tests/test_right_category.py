"""A model trained on the demo finds what is meant: on the command line, and drawn on the page."""

from __future__ import annotations

import asyncio
import json
import math
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from front_door import ROOT, launch
from served import listening

from data_prep.demo import draw
from data_prep.prepare import prepare
from sbir_jax import Index, load_encoders
from sbir_jax.retrieval.engine import BATCHES, one_device

pytestmark = pytest.mark.slow
CATEGORIES = ("bicycle", "bottle", "fish", "house", "umbrella")


def arc(x: float, y: float, wide: float, high: float, start: float, stop: float) -> list:
    turns = np.linspace(math.radians(start), math.radians(stop), 20)
    return [(x + wide * math.cos(t), y + high * math.sin(t)) for t in turns]


# What a person might draw: strokes of points, x to the right and y down, of the canvas's side.
DRAWINGS = {
    "house": [
        [(0.2, 0.45), (0.2, 0.85), (0.8, 0.85), (0.8, 0.45)],
        [(0.12, 0.48), (0.5, 0.15), (0.88, 0.48), (0.12, 0.48)],
        [(0.44, 0.85), (0.44, 0.62), (0.57, 0.62), (0.57, 0.85)],
    ],
    "umbrella": [
        arc(0.5, 0.5, 0.38, 0.35, 180, 360),
        arc(0.25, 0.5, 0.13, 0.07, 180, 360)
        + arc(0.5, 0.5, 0.12, 0.07, 180, 360)
        + arc(0.75, 0.5, 0.13, 0.07, 180, 360),
        [(0.5, 0.15), (0.5, 0.8), *arc(0.56, 0.82, 0.06, 0.06, 180, 0)],
    ],
    "bicycle": [
        arc(0.25, 0.65, 0.17, 0.17, 0, 360),
        arc(0.75, 0.65, 0.17, 0.17, 0, 360),
        [(0.25, 0.65), (0.4, 0.4), (0.66, 0.4), (0.5, 0.65), (0.25, 0.65)],
        [(0.5, 0.65), (0.38, 0.34)],
        [(0.75, 0.65), (0.64, 0.32), (0.72, 0.3)],
    ],
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(index of the test photos, encoders, folder of test sketches) after 400 steps."""
    folder = tmp_path_factory.mktemp("right")
    draw(folder / "raw", instances=72, sketches=2, categories=CATEGORIES)
    for number, side in enumerate(("photo", "sketch")):  # instances 60 to 71 are not trained on
        for file in sorted((folder / "raw" / side).glob("*/*")):
            if int(file.stem.partition("_")[2].partition("-")[0]) >= 60:
                target = folder / ("photos", "sketches")[number] / file.parent.name
                target.mkdir(parents=True, exist_ok=True)
                file.rename(target / file.name)
    prepare("pacs", raw=folder / "raw", data_dir=folder, name="demo", test=0.1, quiet=True)
    changes = {
        "data.dir": folder, "data.batch_size": 40, "model.width": 16,
        "train.duration": "400 steps", "train.eval_every": "400 steps",
        # For a short run, and for lines of another hand than the demo's. The three drawings,
        # turned, stretched and shaken 40 times for each of ten runs (those at the end of this
        # file), found 9 right photos of 15 or fewer 2 times in 400; with quickstart.py's own
        # values, 500 steps and half the pictures 23 times in 320 (eight runs).
        "loss.name": "infonce + 0.5*category", "optim.lr": 8e-3,
        "augment.thickness": 0.5, "augment.rotate": 15.0,
        "augment.color": 0.5, "augment.gray": 0.3,
    }  # fmt: skip
    optimised = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    subprocess.run(
        [sys.executable, ROOT / "launch.py", "train", "--no_report", f"--workdir={folder}/run"]
        + [f"--config={ROOT}/configs/quickstart.py"]
        + [f"--config.{name}={value}" for name, value in changes.items()],
        env=optimised,  # 400 steps compute more than they compile
        check=True,
        capture_output=True,
    )
    encoders = load_encoders(folder / "run", mesh=one_device(), batches=BATCHES)
    return Index.build(folder / "photos", encoders, folder / "index"), encoders, folder / "sketches"


def label(file: str) -> str:
    return file.split("/")[-2]


def test_search_finds_the_category_of_sketches_never_seen(trained, capsys):
    """120 test sketches on the command line: the first photo is right for most; chance is a
    fifth."""
    index, _, sketches = trained
    files = sorted(map(str, sketches.glob("*/*.png")))
    assert len(files) == 120
    assert launch.main(["search", f"--index={index.folder}", "--json", "--top=5", *files]) == 0
    rows = json.loads(capsys.readouterr().out)
    right = [label(row["results"][0]["file"]) == label(row["query"]) for row in rows]
    assert np.mean(right) > 0.6  # 0.85 to 0.975 in ten runs, those at the end of this file


def test_what_is_drawn_with_the_mouse_comes_first(trained):
    """A house, an umbrella and a bicycle, drawn in a browser: of their first five photos, fifteen
    together, most are of what was drawn."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next(filter(None, map(shutil.which, names)), "")
    if not chromium:
        pytest.skip("no Chromium: apt-get install chromium")
    index, encoders, _ = trained
    category = {item.id: item.path.split("/")[0] for item in index.items}
    right = {}
    with listening(index, encoders) as address, playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 800})
        for name, strokes in DRAWINGS.items():
            page.goto(address)
            page.get_by_text(f"among {len(index)} photos").wait_for()
            box = page.locator("#canvas").bounding_box()
            for stroke in strokes:
                points = [
                    (box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke
                ]
                page.mouse.move(*points[0])
                page.mouse.down()
                for point in points[1:]:
                    page.mouse.move(*point)
                page.mouse.up()
            page.wait_for_timeout(500)  # longer than the page waits before it asks
            page.wait_for_selector("body[data-state=done]")
            shown = page.locator("#results button")
            ids = shown.evaluate_all("all => all.slice(0, 5).map((one) => one.dataset.id)")
            assert len(ids) == 5
            right[name] = sum(category[id] == name for id in ids)
        browser.close()
    asyncio.set_event_loop(None)
    # Together, since one drawing varies too much from run to run: seeds 0 to 4 with JAX 0.10 and
    # 0.12 find 2 to 5 of 5 for the umbrella, 10 to 15 of the fifteen (mean 13.8). Chance finds 3,
    # the untrained encoders of five seeds 2 to 4.
    assert sum(right.values()) >= 8, right
