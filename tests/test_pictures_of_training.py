"""What a run sends beside its metric lines: pictures to TensorBoard, numbers to W&B."""

from __future__ import annotations

import dataclasses
import importlib.util
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_writer import events
from tiny import metric_lines, tiny_run

import launch
from sbir_jax import wandb_run
from sbir_jax.workdir import _FREE

ROOT = Path(__file__).resolve().parents[1]


def test_each_validation_shows_retrievals_and_the_start_a_batch(finished):
    """One small picture a validation, one of the first batch; they are pictures of something."""
    _, workdir = finished
    found = {
        (value.tag, event.step): value.image
        for event in events(workdir)
        for value in event.summary.value
        if value.HasField("image")
    }
    validated = [line["step"] for line in metric_lines(workdir) if line["kind"] == "val"]
    assert set(found) == {("train/batch", 1)} | {("val/retrievals", s) for s in validated}
    for image in found.values():
        assert max(image.width, image.height) < 1700 and len(image.encoded_image_string) < 300_000
        assert np.asarray(Image.open(io.BytesIO(image.encoded_image_string))).std() > 10


def test_wandb_that_is_not_there_is_one_line(tmp_path, monkeypatch):
    """The extra is named, and so is the setting; nothing is written."""
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(
        wandb_run.WandbError, match=r"^config.train.wandb='p': .*'sbir_jax\[wandb\]'$"
    ):
        wandb_run.WandbRun("p", tmp_path, {})
    assert list(tmp_path.iterdir()) == []


def test_wandb_is_off_and_may_be_switched_on_later(tiny_data):
    """It changes no number of the training, so a continued run may ask for it."""
    assert tiny_run(tiny_data).train.wandb == "" and "train.wandb" in _FREE
    assert launch.main(["help", "train"]) == 0


def log_records(data: bytes) -> list[bytes]:
    """Of a LevelDB log: blocks of 32 KiB of chunks (checksum 4, length 2, kind 1, data); a record
    is one chunk (kind 1) or a first, middle ones and a last (2, 3, 4). W&B's begins with 7 bytes
    of its own."""
    found, parts, at, block = [], b"", 7, 1 << 15
    while at + 7 <= len(data):
        if block - at % block < 7:  # too little is left of this block for a chunk
            at += block - at % block
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            found.append(parts)
            parts = b""
    return found


OFFLINE = """
import socket, sys
def refused(*arguments, **options):
    raise AssertionError("a network call")
connect = socket.socket.connect
def guarded(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1"):
        refused()
    return connect(self, address)
socket.socket.connect = guarded
socket.create_connection = refused
import launch, tiny
with tiny.small_backbone():
    sys.exit(launch.main(["train", "--workdir=" + sys.argv[1], "--wandb=trial"]))
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")
def test_wandb_offline_keeps_the_run_when_it_is_continued(tiny_data, tmp_path):
    """Two starts of one run share an id; the files hold every number under its name in JSONL."""
    from wandb.proto.wandb_internal_pb2 import Record

    run = tiny_run(tiny_data)
    ids = []
    for steps in ("4 steps", "6 steps"):
        workdir = tmp_path / steps.replace(" ", "")
        if ids:
            (workdir).mkdir()
            (workdir / "wandb.json").write_text(json.dumps({"project": "trial", "id": ids[0]}))
        workdir.mkdir(exist_ok=True)
        changed = dataclasses.replace(run.train, duration=steps)
        settings = dataclasses.asdict(dataclasses.replace(run, train=changed))
        (workdir / "config.json").write_text(json.dumps(settings))
        done = subprocess.run(
            [sys.executable, "-c", OFFLINE, str(workdir)],
            env=os.environ
            | {
                "WANDB_MODE": "offline",
                "PYTHONPATH": os.pathsep.join(
                    [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
                ),
            },
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        ids.append(json.loads((workdir / "wandb.json").read_text())["id"])
        [file] = (workdir / "wandb").glob("offline-run-*/*.wandb")
        assert ids[0] in file.name
        sent: dict[int, dict[str, float]] = {}
        for data in log_records(file.read_bytes()):
            record = Record.FromString(data)
            if record.HasField("history"):
                row = {
                    item.key or ".".join(item.nested_key): json.loads(item.value_json)
                    for item in record.history.item
                }
                sent.setdefault(row["step"], {}).update(row)
        for line in metric_lines(workdir):
            for name in line.keys() - {"step", "kind", "nonfinite"}:
                if line[name] is not None and not name.startswith("perf/"):
                    assert sent[line["step"]][name] == pytest.approx(line[name])
    assert ids[0] == ids[1]
