"""The report: whole HTML that needs nothing else, with the numbers that the evaluation stored."""

from __future__ import annotations

import asyncio
import csv
import dataclasses
import datetime
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import jax
import numpy as np
import pytest
from front_door import error_line, launch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import small_backbone

from sbir_jax import sharding
from sbir_jax.config import default_config, resolve
from sbir_jax.embeddings import Embeddings
from sbir_jax.evaluate import evaluate_workdir
from sbir_jax.report import classes, maps, one, page, retrievals
from sbir_jax.report.one import write_report
from sbir_jax.report.record import ReportError, differing, read_record
from sbir_jax.report.several import write_comparison
from sbir_jax.results import ResultsError
from sbir_jax.retrieved import read_retrieved, retrieved, write_retrieved
from sbir_jax.verbs import report as verb

NOW = datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC)
VOID = {"meta", "img", "br"}


class Parsed(HTMLParser):
    """A page taken apart; fails on tags that do not close in order."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.rows: list[list[str]] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words += data
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data

    def named(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


def mesh():
    return sharding.make_mesh(jax.devices()[:1])


@pytest.fixture(scope="module")
def evaluated(finished, tmp_path_factory):
    """(run, workdir) of the finished run, evaluated on its test split; only read it."""
    run, workdir = finished[0], tmp_path_factory.mktemp("reported") / "a"
    shutil.copytree(finished[1], workdir)
    with small_backbone():
        evaluate_workdir(workdir, checkpoint="best", split="test", run=run, mesh=mesh())
    return run, workdir


@pytest.fixture
def copied(evaluated, tmp_path):
    """The evaluated workdir, to change."""
    return shutil.copytree(evaluated[1], tmp_path / "a")


@pytest.fixture(scope="module")
def whole(evaluated):
    """(workdir, its report as text)."""
    return evaluated[1], write_report(evaluated[1], now=NOW).read_text()


def entry_of(workdir: Path) -> dict:
    return json.loads((workdir / "results.json").read_text())["test/best"]


# The page


def test_the_page_is_whole_and_needs_nothing_else(whole):
    """Tags close in order; no script, and no address but those of data and of its own parts."""
    parsed = Parsed(whole[1])
    assert whole[1].startswith("<!DOCTYPE html>")
    assert not {"script", "link", "iframe", "object", "form"} & {tag for tag, _ in parsed.tags}
    for _, attributes in parsed.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert attributes.get("src", "data:image/").startswith("data:image/")
        assert attributes.get("href", "#").startswith("#")
    assert not re.search(r"@import|url\(", page.STYLE)


def test_the_page_can_be_read_without_seeing_it(whole):
    """Language, title, alt texts, headings without a gap, table headers with scope, anchors."""
    parsed = Parsed(whole[1])
    assert parsed.named("html") == [{"lang": "en"}]
    images = parsed.named("img")
    assert len(images) >= 10
    assert all(len(image["alt"]) > 20 and image["width"] for image in images)
    levels = [int(tag[1]) for tag, _ in parsed.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    assert {of.get("scope") for of in parsed.named("th")} == {"col", "row"}
    assert len(parsed.named("caption")) == len(parsed.named("table"))
    ids = [of["id"] for _, of in parsed.tags if "id" in of]
    assert len(ids) == len(set(ids))
    assert {of["href"][1:] for of in parsed.named("a")} <= set(ids)


def test_numbers_are_those_of_the_results(whole):
    """Every metric of results.json: value, interval, chance, class mean, to four digits."""
    workdir, text = whole
    rows, entry = Parsed(text).rows, entry_of(workdir)
    wanted = []
    for level in entry["levels"]:
        for name, of in entry[level].items():
            if isinstance(of, dict):
                low, high = of["interval"]
                cells = [f"{of['value']:.4f}", f"[{low:.4f}, {high:.4f}]", f"{of['chance']:.4f}"]
                wanted.append([name, *cells, f"{of['class_mean']:.4f}"])
    assert len(wanted) >= 9
    assert [row for row in wanted if row not in [found[:5] for found in rows]] == []


def test_classes_are_those_of_the_evaluation(whole):
    """The table by class holds each number of per_class.csv."""
    workdir, text = whole
    rows = Parsed(text).rows
    with (workdir / "evaluation/test_best/per_class.csv").open() as file:
        stored = list(csv.DictReader(file))
    for row in stored:
        own = [cells for cells in rows if cells[0] == row["class"] and len(cells) > 4]
        shown = {cell for cells in own for cell in cells}
        assert f"{float(row['category/mAP@all']):.4f}" in shown
        assert f"{float(row['category/P@1']):.4f}" in shown


def test_the_confusion_and_precision_at_1_agree(evaluated):
    """Queries on the diagonal are those whose first photo is right: P@1 of the ranking."""
    workdir = evaluated[1]
    record = read_record(workdir)
    found, category = classes.confusion(record.retrieved), entry_of(workdir)["category"]
    counts = found.among(np.arange(len(record.retrieved.classes)))
    assert counts.sum() == category["queries"]
    assert np.trace(counts) / counts.sum() == pytest.approx(category["P@1"]["value"])
    errors = classes.most_confused(found, 1000)
    assert sum(n for _, _, n, _ in errors) == counts.sum() - np.trace(counts)
    assert [n for _, _, n, _ in errors] == sorted((n for _, _, n, _ in errors), reverse=True)


def test_every_section_and_picture_is_there(whole):
    """The parts of a report, and each picture as a file too."""
    workdir, text = whole
    heads = re.findall(r"<h2[^>]*>([^<]+)</h2>", text)
    assert heads == [
        "Scores", "Training", "Recall and precision", "Classes", "Retrievals",
        "Map of the embeddings", "Dimensions", "Dataset", "How it was made",
    ]  # fmt: skip
    files = {path.stem for path in (workdir / "report").glob("*.png")}
    assert files == {
        "loss", "validation", "learning_rate", "throughput", "precision_at_recall",
        "precision_and_recall", "classes", "confusion", "retrievals_best", "retrievals_worst",
        "retrievals_random", "map", "contact_sheet",
    }  # fmt: skip
    assert len(Parsed(text).named("img")) == len(files)


def test_settings_that_are_not_the_defaults_are_listed(whole):
    """Those and no others, with both values."""
    run = resolve(json.loads((whole[0] / "config.json").read_text()))
    rows = Parsed(whole[1]).rows
    listed = {row[0] for row in rows if row[0].startswith("config.")}
    assert ["config.model.width", "64", "8"] in rows
    flat = {}

    def flatten(tree, path):
        for name, value in tree.items():
            if isinstance(value, dict):
                flatten(value, f"{path}{name}.")
            else:
                flat[path + name] = value

    flatten(default_config().to_dict(), "config.")
    defaults, flat = dict(flat), flat
    flat.clear()
    flatten(dataclasses.asdict(run), "config.")
    assert listed == {name for name in flat if flat[name] != defaults[name]}


def test_equal_input_gives_equal_bytes(whole, copied):
    """All but the date, and the path; a picture of an older report does not stay behind."""
    (copied / "report/old.png").write_bytes(b"")
    later = write_report(copied, now=NOW + datetime.timedelta(days=1)).read_text()
    assert not (copied / "report/old.png").exists()
    assert later.replace("2026-01-03", "2026-01-02").replace(str(copied), str(whole[0])) == whole[1]


# What is missing is said


def without_evaluation(workdir: Path) -> list[str]:
    (workdir / "results.json").unlink()
    (workdir / "metrics.jsonl").unlink()
    shutil.rmtree(workdir / "tensorboard")
    return ["Not evaluated yet:", "metrics.jsonl is missing or empty"]


def with_damaged_files(workdir: Path) -> list[str]:
    (workdir / "results.json").write_text('{"test/best": 3}')
    (workdir / "environment.json").write_text("[3]")
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "kind": "tr')
    return ["results.json: damaged (TypeError", "environment.json: damaged", "6 steps trained"]


def with_a_damaged_evaluation(workdir: Path) -> list[str]:
    folder = workdir / "evaluation/test_best"
    (folder / "retrieved.npz").write_bytes((folder / "retrieved.npz").read_bytes()[:200])
    for name in ("curves.csv", "per_class.csv", "scores.npz"):
        (folder / name).unlink()
    (workdir / "dimensions_test_best.json").write_text("{}")
    names = ("curves.csv", "per_class.csv", "retrieved.npz")
    said = [f"{name} of this evaluation is missing or damaged; evaluate again:" for name in names]
    return [*said, "dimensions_test_best.json: damaged (KeyError: 'title')"]


def without_images(workdir: Path) -> list[str]:
    config = json.loads((workdir / "config.json").read_text())
    config["data"]["dir"] = "gone"
    (workdir / "config.json").write_text(json.dumps(config))
    return ["The images are not at hand: config.data.name='tiny': no prepared dataset"]


def of_other_images_and_collapsed(workdir: Path) -> list[str]:
    results = json.loads((workdir / "results.json").read_text())
    results["test/best"]["dataset_fingerprint"] = "0"
    (workdir / "results.json").write_text(json.dumps(results))
    found = read_retrieved(workdir / "evaluation/test_best/retrieved.npz")
    sides = ("query_vectors", "gallery_vectors")
    changed(workdir, **{side: np.ones_like(getattr(found, side)) for side in sides})
    return ["prepared again from other images since this evaluation", "No map:"]


def changed(workdir: Path, **fields) -> None:
    path = workdir / "evaluation/test_best/retrieved.npz"
    write_retrieved(path, dataclasses.replace(read_retrieved(path), **fields))


def without_instances(workdir: Path) -> list[str]:
    results = json.loads((workdir / "results.json").read_text())
    results["test/best"]["levels"].remove("instance")
    del results["test/best"]["instance"]
    (workdir / "results.json").write_text(json.dumps(results))
    found = read_retrieved(workdir / "evaluation/test_best/retrieved.npz")
    changed(workdir, query_instances=np.full_like(found.query_instances, -1))
    return ["no photo is marked as the instance", "no instance retrieval"]


@pytest.mark.parametrize(
    "change",
    [
        without_evaluation, with_damaged_files, with_a_damaged_evaluation, without_images,
        of_other_images_and_collapsed, without_instances,
    ],
)  # fmt: skip
def test_what_is_missing_is_said(copied, change):
    """The report comes out all the same, whole, and says what is not there."""
    said = change(copied)
    parsed = Parsed(write_report(copied, now=NOW).read_text())
    assert [words for words in said if words not in parsed.words] == []
    assert len(parsed.named("section")) == 9


def test_a_recorded_start_is_shown(copied):
    """Command, commit, devices, packages, as environment.json has them."""
    start = {
        "command": "python launch.py train --config=<b>&.py",
        "seed": 3,
        "devices": {"kind": "TPU v9", "count": 4, "processes": 1},
        "packages": {"jax": "9.8.7"},
        "git": {"commit": "0123abc", "dirty": True},
    }
    (copied / "environment.json").write_text(json.dumps([start]))
    parsed = Parsed(write_report(copied, now=NOW).read_text())
    assert start["command"] in parsed.words
    for row in (["devices", "4 x TPU v9"], ["jax", "9.8.7"], ["seed", "3"]):
        assert row in parsed.rows
    assert ["git commit", "0123abc, with changes that were not committed"] in parsed.rows


def test_photos_that_search_photos_are_called_queries(evaluated, copied, monkeypatch):
    """Where the query side holds photos, the counts and the retrievals do not say sketch."""
    opened = one.open_dataset

    def photos_both(name, folder):
        return dataclasses.replace(opened(name, folder), channels={"sketch": 3, "photo": 3})

    monkeypatch.setattr(one, "open_dataset", photos_both)
    parsed = Parsed(write_report(copied, now=NOW).read_text())
    header = next(row for row in parsed.rows if row[0] == "split")
    assert header[1] == "photo queries"
    assert "the photo that the query is linked to" in parsed.words


def test_mistakes_are_one_line(capsys, tmp_path, copied):
    """A workdir without a run, an evaluation that is not there, a map that does not exist."""
    line = error_line(capsys, "report", f"--workdir={tmp_path}/no", code=1)
    assert "no run there (no config.json)" in line
    line = error_line(capsys, "report", f"--workdir={copied}", "--evaluation=test/bets", code=1)
    assert "did you mean 'test/best'?" in line
    line = error_line(capsys, "report", f"--workdir={copied}", "--map=tsnee")
    assert "did you mean 'tsne'?" in line
    line = error_line(capsys, "report", f"--workdirs={copied}", code=1)
    assert "compare 2 to 8" in line
    assert "there twice" in error_line(capsys, "report", f"--workdirs={copied},{copied}", code=1)
    assert "missing --workdir or --workdirs" in error_line(capsys, "report")
    shutil.rmtree(copied / "report", ignore_errors=True)
    (copied / "report").write_text("a file")
    assert "cannot be written to" in error_line(capsys, "report", f"--workdir={copied}", code=1)
    (copied / "config.json").write_text("{")
    assert "not the config" in error_line(capsys, "report", f"--workdir={copied}")


def test_a_map_without_its_package_is_one_line(copied, monkeypatch):
    """The extra is named before anything is read."""
    monkeypatch.setattr(maps.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ReportError, match=r"umap: needs umap-learn: pip install 'sbir_jax\[maps\]"):
        write_report(copied, method="umap")


# Names are the user's


@given(st.text(max_size=30))
@settings(max_examples=200, deadline=None)
def test_no_name_becomes_markup(name):
    """A name comes back out of a parsed table as it went in, whatever it is made of."""
    parsed = Parsed(page.table(name, ["class", name], [[name, name]]) + page.missing(name, name))
    assert {tag for tag, _ in parsed.tags} <= {
        "div", "table", "caption", "thead", "tbody", "tr", "th", "td", "p", "code",
    }  # fmt: skip
    clean = "".join(
        c if c in "\n\t" or not (ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000)
        else "\ufffd"
        for c in name
    )  # fmt: skip
    assert parsed.rows[1] == [clean, clean]
    assert parsed.named("div")[0]["aria-label"] == clean


@given(st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=4, unique=True))
@settings(max_examples=6, deadline=None)
def test_figures_take_any_class_name(names):
    """Dollars, backslashes, letters the font lacks, line ends: a figure comes out, no warning."""
    count = len(names)
    classes.bars("x", names, np.linspace(0, 1, count), mean=0.5, x="x")
    classes.confusion_figure(np.eye(count, dtype=int), names)


def test_one_class_and_classes_without_queries():
    """One class has a confusion of one square; a class without queries has a bar of none."""
    found = made([0, 0], [0, 0, 0], ["only"])
    counts = classes.confusion(found)
    assert counts.among(np.arange(1)).tolist() == [[2]] and classes.most_confused(counts, 5) == []
    assert classes.squares_of(counts).tolist() == [0]
    classes.bars("x", ["only", "none"], np.array([0.5, np.nan]), mean=0.5, x="x")


def test_of_many_classes_the_worst_touched_are_shown():
    """Of 30 classes, 20: those with errors come before those without."""
    counts = np.diag(np.full(30, 9))
    counts[7, 21] = counts[22, 3] = 5
    found = classes.Confusion(*np.nonzero(counts), counts[np.nonzero(counts)])
    chosen = classes.squares_of(found)
    np.testing.assert_array_equal(found.among(chosen), counts[np.ix_(chosen, chosen)])
    assert classes.most_confused(found, 9) == [(7, 21, 5, 5 / 14), (22, 3, 5, 5 / 14)]
    assert len(chosen) == 20 and {3, 7, 21, 22} <= set(chosen.tolist())
    shown = classes.shown(np.arange(100.0))
    assert shown[0] == 99 and shown[-1] == 0 and len(shown) == 40


# What is shown of an evaluation


def made(query_labels, gallery_labels, names, **options):
    rng = np.random.default_rng(0)
    sides = [
        Embeddings(rng.normal(size=(len(of), 4)).astype(np.float32), of, np.full(len(of), -1), None)
        for of in (np.array(query_labels), np.array(gallery_labels))
    ]
    nearest = np.tile(np.arange(len(gallery_labels)), (len(query_labels), 1))
    return retrieved(*sides, nearest, tuple(names))


def test_best_and_worst_are_of_the_counted_queries():
    """By hand: six queries of two classes, at most two of a class, one that does not count."""
    scores = np.array([0.9, 0.8, 0.7, 0.1, 0.2, 1.0])
    labels = np.array([0, 0, 0, 1, 1, 1])
    counted = np.array([True, True, True, True, True, False])
    assert retrievals.best(scores, counted, labels, 3).tolist() == [0, 1, 4]
    assert retrievals.worst(scores, counted, labels, 3).tolist() == [3, 4, 2]
    drawn = retrievals.drawn(counted, 3)
    assert len(set(drawn.tolist())) == 3 and 5 not in drawn
    assert drawn.tolist() == retrievals.drawn(counted, 3).tolist()


def test_retrieved_comes_back_and_marks_what_is_right(tmp_path):
    """Labels and instances are compared query by query; the file holds no more than it needs."""
    found = made([0, 1], [1, 0, 1], ["a", "b"])
    found = dataclasses.replace(
        found, query_instances=np.array([4, -1]), gallery_instances=np.array([-1, 4, -1])
    )
    write_retrieved(tmp_path / "retrieved.npz", found)
    again = read_retrieved(tmp_path / "retrieved.npz")
    for name, value in vars(found).items():
        np.testing.assert_array_equal(getattr(again, name), value)
    assert again.right.tolist() == [[False, True, False], [True, False, True]]
    assert again.instance.tolist() == [[False, True, False], [False, False, False]]
    many = made(np.arange(4000) % 7, [0], list("abcdefg"))
    assert len(many.query_vectors) == len(many.query_rows) == 1500
    per_class = np.bincount(many.query_labels[many.query_rows])
    assert per_class.max() - per_class.min() <= 2
    (tmp_path / "retrieved.npz").write_bytes(b"PK")
    with pytest.raises(ResultsError, match="damaged"):
        read_retrieved(tmp_path / "retrieved.npz")


def test_the_map_keeps_the_two_widest_directions():
    """PCA of points on a plane in 5 dimensions: distances between them stay, all is shown."""
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(40, 2)) * [3, 1]
    turned = flat @ np.linalg.qr(rng.normal(size=(5, 5)))[0][:2]
    places, words = maps.plane(turned.astype(np.float32), "pca")
    gaps = [np.linalg.norm(of[:, None] - of[None], axis=-1) for of in (places, flat)]
    np.testing.assert_allclose(*gaps, atol=1e-5)
    assert words == "100% of the variance"
    line = np.outer(np.arange(5.0), np.ones(3))  # of one direction only
    assert maps.plane(line, "pca")[0].shape == (5, 2)


def test_tsne_keeps_far_groups_apart():
    """Two groups in opposite directions: every point's nearest neighbour is of its own group."""
    pytest.importorskip("sklearn", reason="the extra `maps` is not installed")
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(30, 8)) + 9, rng.normal(size=(30, 8)) - 9])
    places, _ = maps.plane(x.astype(np.float32), "tsne")
    gaps = np.linalg.norm(places[:, None] - places[None], axis=-1) + np.diag(np.full(60, np.inf))
    assert ((gaps.argmin(axis=1) < 30) == (np.arange(60) < 30)).all()


# Several runs


def test_runs_are_compared_as_the_verb_does(evaluated, copied, tmp_path, capsys):
    """Values, paired differences and p-values are those of `evaluate --compare`."""
    from sbir_jax.compare import compare_evaluations

    run, first = evaluated
    other = copied.rename(tmp_path / "b")
    config = json.loads((other / "config.json").read_text())
    config["eval"]["distance"] = "linf"
    (other / "config.json").write_text(json.dumps(config))
    with small_backbone():
        evaluate_workdir(other, checkpoint="best", split="test", run=resolve(config), mesh=mesh())
    wanted = compare_evaluations(first, other)
    parsed = Parsed(write_comparison([first, other], tmp_path / "out", now=NOW).read_text())
    for level in wanted["levels"]:
        for name, of in wanted[level].items():
            if isinstance(of, dict):
                row = [name, f"{of['a']:.4f}", f"{of['b']:.4f}", f"{of['difference']:+.4f}"]
                found = [cells for cells in parsed.rows if cells[:4] == row]
                assert len(found) == 1 and found[0][-1] == f"{of['p_value']:.4f}"
    assert wanted["category"]["mAP@all"]["difference"] != 0
    listed = [row for row in parsed.rows if row[0].startswith("config.")]
    assert listed == [["config.eval.distance", "'cosine'", "'linf'"]]
    files = {path.stem for path in (tmp_path / "out").glob("*.png")}
    assert files >= {"loss", "validation", "precision_category"}


def test_runs_without_a_common_evaluation_are_told(finished, copied, tmp_path):
    """Curves and settings are shown; scores are said to be missing."""
    out = write_comparison([finished[1], copied], tmp_path / "out", now=NOW)
    parsed = Parsed(out.read_text())
    assert "The runs have no evaluation in common" in parsed.words
    assert "None: the runs have the same settings." in parsed.words
    assert differing(finished[0], finished[0]) == {}


# At the end of a run


def test_the_end_of_a_run_is_measured_on_validation_alone(finished, tmp_path, monkeypatch):
    """The test split is not opened; the report is of val/best."""
    from sbir_jax.data.source import Dataset

    asked, images = set(), Dataset.images

    def watched(self, split, modality):
        asked.add(split)
        return images(self, split, modality)

    monkeypatch.setattr(Dataset, "images", watched)
    workdir = shutil.copytree(finished[1], tmp_path / "a")
    with small_backbone():
        verb.at_the_end(finished[0], workdir)
    assert list(json.loads((workdir / "results.json").read_text())) == ["val/best"]
    assert asked == {"val"}
    words = Parsed((workdir / "report/index.html").read_text()).words
    assert "Scores of val/best, not of the test split." in words


def test_a_report_that_fails_does_not_fail_its_run(finished, tmp_path, capsys):
    """One line of warning on stderr."""
    data = dataclasses.replace(finished[0].data, dir=str(tmp_path / "gone"))
    verb.at_the_end(dataclasses.replace(finished[0], data=data), tmp_path / "a")
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("warning: no report: DatasetError: ")


@pytest.mark.parametrize(
    ("words", "summary", "made_one"),
    [((), {"train_seconds": 1.0}, 1), (("--no_report",), {"train_seconds": 1.0}, 0), ((), {}, 0)],
)
def test_training_ends_with_a_report_unless_told(monkeypatch, tmp_path, words, summary, made_one):
    """A run that had nothing left to do makes none either."""
    import sbir_jax.train

    calls = []
    monkeypatch.setattr(sbir_jax.train, "train", lambda run, workdir, **_: summary)
    monkeypatch.setattr(verb, "at_the_end", lambda run, workdir: calls.append(workdir))
    monkeypatch.setattr("sbir_jax.verbs.runs.draw_demo_once", lambda run: None)
    argv = ["train", "--config=configs/quickstart.py", f"--workdir={tmp_path / 'a'}", *words]
    assert launch.main(argv) == 0
    assert len(calls) == made_one


# In a browser


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(whole, width):
    """On a phone and at a desk; and the browser asks for the file alone."""
    browser_of = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not (chromium := shutil.which("chromium") or shutil.which("google-chrome")):
        pytest.skip("no Chromium: apt-get install chromium")
    address = (whole[0] / "report/index.html").as_uri()
    with browser_of.sync_playwright() as driver:
        # Root, as in a container, has no sandbox of its own.
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": width, "height": 800})
        asked = []
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(address)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        shown = tab.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
        assert shown
        browser.close()
    asyncio.set_event_loop(None)
    assert [url for url in asked if not url.startswith("data:")] == [address]
