"""Whatever is read, only the reader's own one-line error comes out: hypothesis changes real files.

Bodies that the web server is sent are in test_app.py.
"""

from __future__ import annotations

import copy
import dataclasses
import io
import json

import hypothesis
import numpy as np
import pytest
import safetensors.numpy
from absl import flags
from data_prep_trees import encoded, photo, sketch
from hypothesis import strategies as st

from data_prep.items import BadArgument, PrepareError
from data_prep.manifest import scan_manifest
from data_prep.protocol import FOLDER, load_protocol
from sbir_jax import embeddings, overrides
from sbir_jax.config import ConfigError, RunConfig, default_config, resolve, settings
from sbir_jax.data.images import BadImage, read_image, to_square
from sbir_jax.data.strokes import read_quickdraw
from sbir_jax.data.svg import read_svg
from sbir_jax.models import weight_files
from sbir_jax.models.weight_files import WeightsError
from sbir_jax.ranking import names
from sbir_jax.ranking.trec import TrecError, read_qrels
from sbir_jax.results import ResultsError, read_scores
from sbir_jax.retrieval import RetrievalError
from sbir_jax.retrieval.index import Index
from sbir_jax.retrieval.items import Item, content_of, item_lines

NUMBER = st.one_of(st.integers(-(10**6), 10**6), st.floats(), st.just(10**400), st.just(True))
JUNK = st.recursive(
    st.none() | NUMBER | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)


def repeated(examples: int):
    """The same examples every time, without hypothesis's files."""
    return hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )


@st.composite
def damaged(draw, whole: bytes) -> bytes:
    """`whole`, cut, with bytes changed, put in or left out, or something else altogether."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        change = draw(st.sampled_from(("flip", "cut", "insert", "drop", "zero")))
        if change == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif change == "cut":
            del data[at:]
        elif change == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=8))
        elif change == "drop":
            del data[at : at + draw(st.integers(1, 8))]
        else:
            data[at : at + 8] = bytes(len(data[at : at + 8]))
    return draw(st.just(bytes(data)) | st.binary(max_size=40))


def only(error: type[Exception], read, *arguments) -> object:
    """What `read` returns; where it raises `error` in one line, None."""
    try:
        return read(*arguments)
    except error as raised:
        assert str(raised) and "\n" not in str(raised)
        return None


@repeated(300)
@hypothesis.given(st.sampled_from([path for path, _ in settings()]), JUNK)
def test_any_value_of_any_setting_is_taken_or_refused_by_its_path(path, value):
    """A config with one setting of any type resolves to a run, or names that setting."""
    tree = dataclasses.asdict(RunConfig())
    *groups, name = path.split(".")
    group = tree
    for key in groups:
        group = group[key]
    group[name] = value
    try:
        resolve(tree)
    except ConfigError as error:
        assert "\n" not in str(error)
        assert name in str(error)


@repeated(150)
@hypothesis.given(JUNK, st.lists(st.sampled_from(["data", "loss", "triplet", "seed", ""])))
def test_any_tree_is_a_config_or_one_line(value, keys):
    """Groups replaced by anything, keys added anywhere: a ConfigError at most."""
    tree = copy.deepcopy(dataclasses.asdict(RunConfig()))
    group = tree
    for key in keys:
        if isinstance(group.get(key), dict):
            group = group[key]
    group[keys[-1] if keys else "x"] = value
    only(ConfigError, resolve, tree)


@repeated(100)
@hypothesis.given(
    st.sampled_from(["model.width", "optim.lr", "loss.name", "loss.matryoshka", "seed", "nothing"]),
    st.text(max_size=12),
)
def test_any_override_is_one_line(path, text):
    """`--config.path=text`, whatever the text: absl's or our own error, or a config."""
    try:
        config = overrides.override(default_config(), [f"--config.{path}={text}"])
        resolve(config)
    except (ConfigError, flags.Error) as error:
        assert str(error)


@repeated(200)
@hypothesis.given(st.text(max_size=20) | st.from_regex(r"[A-Za-z@/_]{1,9}(@[0-9a-zKR]{1,4})?"))
def test_any_metric_name_is_parsed_or_one_line(text):
    """Names and lists of names."""
    only(names.MetricError, names.parse, text)
    only(names.MetricError, names.select, text, ("category", "instance"))


KINDS = [("JPEG", photo), ("PNG", sketch), ("WEBP", photo), ("GIF", sketch), ("TIFF", photo)]
KINDS += [("BMP", photo)]


@pytest.mark.parametrize(("kind", "draw"), KINDS, ids=[kind for kind, _ in KINDS])
def test_any_damage_of_an_image_gives_pixels_or_one_line(kind, draw):
    """Bytes changed anywhere in the file: pixels of the right type, or BadImage."""
    whole = encoded(draw(3, size=(24, 20)), kind)

    @repeated(120)
    @hypothesis.given(damaged(whole), st.sampled_from(("photo", "sketch")))
    def check(data, modality):
        pixels = only(BadImage, read_image, data, modality)
        if pixels is not None:
            assert pixels.dtype == np.uint8 and pixels.ndim == (3 if modality == "photo" else 2)
            assert to_square(pixels, 16, "pad").shape[:2] == (16, 16)

    check()


STROKES = json.dumps({"word": "cat", "drawing": [[[0, 9, 20], [3, 4, 5]], [[7], [8]]]}).encode()
SVG = (
    b'<svg width="100" height="80"><g transform="translate(3 4) rotate(20)">'
    b'<path d="M 1 2 C 3 4 5 6 7 8 l 2 2 h 4 v-3 s 1 2 3 4 Q 1 2 9 9 t 3 3 z"/>'
    b'<polyline points="1,2 3,4 5,6"/></g></svg>'
)


@pytest.mark.parametrize(("read", "whole"), [(read_quickdraw, STROKES), (read_svg, SVG)])
def test_any_damage_of_a_drawing_gives_a_picture_or_one_line(read, whole):
    """Stroke files and SVG alike: a 256 px drawing, or BadImage."""

    @repeated(200)
    @hypothesis.given(damaged(whole))
    def check(data):
        picture = only(BadImage, read, data)
        assert picture is None or picture.shape == (256, 256)

    check()


@repeated(200)
@hypothesis.given(st.fixed_dictionaries({"drawing": JUNK | st.lists(st.lists(JUNK))}))
def test_any_strokes_are_a_picture_or_one_line(line):
    """JSON that is well-formed and means nothing."""
    picture = only(BadImage, read_quickdraw, json.dumps(line).encode())
    assert picture is None or picture.dtype == np.uint8


def test_any_damage_of_an_index_is_one_line(tmp_path):
    """Every file of an index, damaged: RetrievalError, or an index whose parts agree."""
    items = [Item(f"{row:020}", "/photos", f"{row}.jpg", size=9, modified=1) for row in range(3)]
    manifest = {"format": 1, "photos": 3, "dim": 4, "content": content_of(items), "encoders": {}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "items.jsonl").write_text("".join(item_lines(items)))
    np.save(tmp_path / "vectors.npy", np.eye(3, 4, dtype=np.float16))
    assert len(Index.open(tmp_path)) == 3

    def check(path, whole):
        @repeated(120)
        @hypothesis.given(damaged(whole))
        def once(data):
            path.write_bytes(data)
            index = only(RetrievalError, Index.open, tmp_path)
            if index is not None:
                assert index.vectors.shape == (len(index), index.manifest["dim"])

        once()
        path.write_bytes(whole)

    for path in list(tmp_path.iterdir()):
        check(path, path.read_bytes())


def npz(**arrays) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


EMBEDDINGS = npz(embeddings=np.eye(3, 4, dtype=np.float32), labels=np.array(["a", "b", "c"]))
WEIGHTS = safetensors.numpy.save({"conv1.weight": np.ones((2, 3), np.float32)})
SCORES = npz(**{"values/category/P@1": np.ones(3), "relevant/category": np.ones(3)})


@pytest.mark.parametrize(
    ("name", "whole", "read", "error"),
    [
        ("e.npz", EMBEDDINGS, embeddings.load, embeddings.EmbeddingsError),
        ("scores.npz", SCORES, read_scores, ResultsError),
        ("w.safetensors", WEIGHTS, lambda path: weight_files.read(str(path)), WeightsError),
        ("w.npz", npz(kernel=np.ones(4)), lambda p: weight_files.read(str(p)), WeightsError),
        (
            "qrels.txt",
            b"q1 0 g1 1\nq2 0 g2 0\n",
            lambda path: read_qrels(path, ["q1", "q2"], ["g1", "g2"]),
            TrecError,
        ),
    ],
    ids=["embeddings", "scores", "safetensors", "weights npz", "qrels"],
)
def test_any_damage_of_a_file_of_numbers_is_one_line(tmp_path, name, whole, read, error):
    """Archives, tensors and text: read as before, or refused by their own reader in one line."""
    path = tmp_path / name
    path.write_bytes(whole)
    assert read(path) is not None

    @repeated(150)
    @hypothesis.given(damaged(whole))
    def check(data):
        path.write_bytes(data)
        only(error, read, path)

    check()


def test_any_damage_of_a_manifest_or_protocol_is_said(tmp_path):
    """A CSV of images, a protocol and a stored config: their own errors, which name the file."""
    save_to = tmp_path / "images.csv"
    rows = "path,modality,label,instance_id,split\na.png,photo,cat,1,train\nb.png,sketch,cat,1,\n"
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(encoded(sketch(1), "PNG"))
    protocol = next(iter(sorted(FOLDER.glob("*.json")))).read_bytes()
    config = json.dumps(dataclasses.asdict(RunConfig())).encode()
    save_to.write_text(rows)
    assert len(scan_manifest(save_to).items) == 2

    @repeated(150)
    @hypothesis.given(damaged(rows.encode()))
    def manifest(data):
        save_to.write_bytes(data)
        try:
            scan_manifest(save_to)
        except PrepareError as error:
            assert "images.csv" in str(error)

    @repeated(100)
    @hypothesis.given(damaged(protocol))
    def protocols(data):
        path = tmp_path / "p.json"
        path.write_bytes(data)
        only(BadArgument, load_protocol, str(path))

    @repeated(100)
    @hypothesis.given(damaged(config) | JUNK.map(json.dumps).map(str.encode))
    def stored(data):
        (tmp_path / "config.json").write_bytes(data)
        only(ConfigError, overrides.stored_config, tmp_path)

    manifest()
    protocols()
    stored()
