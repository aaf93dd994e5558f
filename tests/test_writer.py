"""The record of a run: whole lines, resumable, told apart from the clock."""

from __future__ import annotations

import fcntl
import io
import json
import math
import os
import select
import struct
import termios
import time

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from sbir_jax.throughput import Throughput
from sbir_jax.writer import MetricWriter


class Clock:
    """A clock that moves only when told."""

    def __init__(self):
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def on_terminal(lines: int, columns: int, talk) -> str:
    """What `talk(console)` shows on a real pseudo-terminal of that size."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    try:
        with os.fdopen(slave, "w", encoding="utf-8") as console:
            talk(console)
            console.flush()
            shown = b""  # the kernel hands it over piece by piece
            while select.select([master], [], [], 0.2)[0]:
                shown += os.read(master, 1 << 16)
            return shown.decode().replace("\r\n", "\n")
    finally:
        os.close(master)


def records(workdir) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def events(workdir) -> list[Event]:
    """All TensorBoard events in order: length (8 bytes), its checksum (4), data, checksum (4)."""
    found = []
    for path in sorted((workdir / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            found.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return found


def run(workdir, start, stop, *, total=6, broken_at=None, now=None):
    """A loop whose loss depends on the step only, as a resumed run's does."""
    console = io.StringIO()
    with MetricWriter(
        workdir, total=total, start=start, images_per_step=2, console=console, now=now or Clock()
    ) as writer:
        for step in range(start + 1, stop + 1):
            writer.clock.tick()
            writer.write(step, {"loss": 1 / step})
            if step % 2 == 0:
                writer.write(step, {"category/mAP@all": step / 10}, kind="val")
    return console.getvalue()


def test_each_line_is_one_json_object(tmp_path):
    """A record holds step, kind and the values as given; the clock's values are under perf/."""
    run(tmp_path, 0, 2)
    first, second, third = records(tmp_path)
    assert {k: v for k, v in first.items() if not k.startswith("perf/")} == {
        "step": 1,
        "kind": "train",
        "loss": 1.0,
    }
    assert second["loss"] == 0.5
    assert third == {"step": 2, "kind": "val", "category/mAP@all": 0.2}


def test_lines_are_on_disk_at_once(tmp_path):
    """A reader sees every line as soon as it is written, and never half of one."""
    with MetricWriter(tmp_path, total=2, console=io.StringIO()) as writer:
        writer.write(1, {"loss": np.float32(0.1)})
        assert (tmp_path / "metrics.jsonl").read_text().endswith("}\n")
        assert records(tmp_path)[0]["loss"] == float(np.float32(0.1))


@pytest.mark.parametrize("torn", [b"", b'{"step": 5, "lo', b"\x00\xff\n", b"3\n", b"{}\n"])
def test_resumed_record_equals_the_uninterrupted_one(tmp_path, torn):
    """Killed after step 5 with a checkpoint at 4, and resumed: the same lines, perf/ aside."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(whole, 0, 6)
    run(broken, 0, 5)
    with (broken / "metrics.jsonl").open("ab") as file:
        file.write(torn)
    run(broken, 4, 6)

    def deterministic(workdir):
        return [
            {k: v for k, v in record.items() if not k.startswith("perf/")}
            for record in records(workdir)
        ]

    assert deterministic(broken) == deterministic(whole)
    assert [record["step"] for record in records(whole)] == [1, 2, 2, 3, 4, 4, 5, 6, 6]


def test_start_from_scratch_begins_a_new_record(tmp_path):
    """A run that died before its first checkpoint leaves no lines in the next one's record."""
    run(tmp_path, 0, 3)
    run(tmp_path, 0, 2)
    assert [record["step"] for record in records(tmp_path)] == [1, 2, 2]


def test_what_is_not_finite_stays_valid_json(tmp_path):
    """JSON has no NaN: the value is null, and which one it was is kept beside it."""
    with MetricWriter(tmp_path, total=1, console=io.StringIO()) as writer:
        writer.write(1, {"loss": math.nan, "a": math.inf, "b": -math.inf, "c": 2.0}, kind="val")

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    line = (tmp_path / "metrics.jsonl").read_text()
    record = json.loads(line, parse_constant=refuse)
    assert (record["loss"], record["a"], record["b"], record["c"]) == (None, None, None, 2.0)
    assert record["nonfinite"] == {"loss": "nan", "a": "inf", "b": "-inf"}


def test_tensorboard_holds_the_same_scalars(tmp_path):
    """Read back from the event file, each scalar has its kind, step and value."""
    run(tmp_path, 0, 2)
    scalars = {
        (value.tag, event.step): value.simple_value
        for event in events(tmp_path)
        for value in event.summary.value
        if "perf/" not in value.tag
    }
    assert scalars == {
        ("train/loss", 1): 1.0,
        ("train/loss", 2): 0.5,
        ("val/category/mAP_at_all", 2): pytest.approx(0.2),
    }


def test_resumed_tensorboard_hides_later_steps(tmp_path):
    """TensorBoard is told from which step on the earlier process's events are void."""
    run(tmp_path, 0, 5)
    run(tmp_path, 4, 6)
    starts = [event.step for event in events(tmp_path) if event.HasField("session_log")]
    assert starts == [5]


def test_tensorboard_reads_starts_in_order_though_the_clock_was_set_back(tmp_path, monkeypatch):
    """TensorBoard takes files by name; a later start has the later one, or could hide nothing."""
    run(tmp_path, 0, 5)
    for start, now in ((4, 1_000_000.0), (5, 2_000_000.0)):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        run(tmp_path, start, start + 1)
    told = [event.step for event in events(tmp_path) if event.step]
    assert told == sorted(told) and told[-1] == 6


@pytest.mark.parametrize("shape", [(6, 9), (6, 9, 3)])
def test_pictures_go_to_tensorboard(tmp_path, shape):
    """A grey or colour picture arrives with its height and width."""
    with MetricWriter(tmp_path, total=1, console=io.StringIO()) as writer:
        writer.image(1, "retrieval", np.zeros(shape, np.uint8))
    [value] = [value for event in events(tmp_path) for value in event.summary.value]
    assert (value.tag, value.image.height, value.image.width) == ("retrieval", 6, 9)


# The clock


def test_throughput_tells_training_waiting_and_pauses_apart():
    """Hand-worked: 4 steps of 10 images in 8 s, of which 2 s waiting; pauses count nowhere."""
    now = Clock()
    clock = Throughput(images_per_step=10, now=now)
    now.time += 50.0  # compiling, before the start
    clock.start()
    for _ in range(4):
        with clock.waiting():
            now.time += 0.5
        now.time += 1.5
        clock.tick()
        with clock.paused():
            now.time += 20.0
    assert clock.seconds == 8.0
    assert clock.images_per_s == 5.0
    assert clock.paused_seconds == 80.0
    assert clock.lap() == {
        "perf/images_per_s": 5.0,
        "perf/wait_share": 0.25,
        "perf/s_per_step": 2.0,
    }


def test_data_that_comes_while_the_devices_work_is_not_waited_for():
    """Hand-worked: of two blocks of a second, in 4 s, the devices were idle at the end of one."""
    now = Clock()
    clock = Throughput(images_per_step=10, now=now)
    clock.start()
    for idle in (False, True):
        with clock.waiting(lambda idle=idle: idle):
            now.time += 1.0
        now.time += 1.0
        clock.tick()
    assert clock.lap()["perf/wait_share"] == 0.25


def test_a_lap_covers_only_what_came_after_the_last():
    """The second lap, twice as slow and without waiting, is not mixed with the first."""
    now = Clock()
    clock = Throughput(images_per_step=10, now=now)
    with clock.waiting():
        now.time += 1.0
    clock.tick()
    clock.lap()
    now.time += 2.0
    clock.tick()
    lap = clock.lap()
    assert (lap["perf/images_per_s"], lap["perf/wait_share"]) == (5.0, 0.0)
    assert clock.lap() == {}


def test_utilisation_is_the_time_at_peak_over_the_time_taken():
    """Hand-worked: steps that the devices could do in 0.5 s take 2 s: 25 %, pauses aside."""
    now = Clock()
    clock = Throughput(images_per_step=10, now=now)
    clock.start(s_at_peak=0.5)
    for _ in range(3):
        now.time += 2.0
        clock.tick()
        with clock.paused():
            now.time += 7.0
    assert clock.lap()["perf/mfu"] == 0.25


def test_time_stands_still_inside_a_pause():
    """Read inside nested pauses, training seconds do not grow; the pauses count once."""
    now = Clock()
    clock = Throughput(images_per_step=1, now=now)
    clock.start()
    now.time += 3.0
    with clock.paused():
        now.time += 5.0
        with clock.paused():
            now.time += 1.0
            assert clock.seconds == 3.0
        now.time += 1.0
        assert clock.seconds == 3.0
    assert (clock.seconds, clock.paused_seconds) == (3.0, 7.0)


def test_a_pause_that_raises_still_ends():
    """An error inside a pause, as a failed validation, leaves the clock running."""
    now = Clock()
    clock = Throughput(images_per_step=1, now=now)
    clock.start()
    with pytest.raises(KeyError), clock.paused():
        now.time += 4.0
        raise KeyError
    now.time += 1.0
    assert clock.seconds == 1.0


def test_eta_counts_pauses_at_their_rate_so_far():
    """10 steps took 20 s and one validation 10 s: 30 more steps take 90 s."""
    now = Clock()
    clock = Throughput(images_per_step=1, now=now)
    clock.start()
    for _ in range(10):
        now.time += 2.0
        clock.tick()
    with clock.paused():
        now.time += 10.0
    assert clock.eta(30) == 90.0


# The console


def test_a_log_file_gets_one_plain_line_a_record(tmp_path):
    """Without a terminal: step, loss, images/s, data wait and ETA in one line, no bar."""
    now, console = Clock(), io.StringIO()
    with MetricWriter(tmp_path, total=100, images_per_step=64, console=console, now=now) as writer:
        writer.note("compiled in 12.3 s")
        for _ in range(20):
            with writer.clock.waiting():
                now.time += 0.125
            now.time += 0.375
            writer.clock.tick()
        writer.write(20, {"loss": 0.312345, "spread": 0.5})
        writer.write(20, {"category/mAP@all": 0.5}, kind="val", shown=["category/mAP@all"])
    assert console.getvalue().splitlines() == [
        "compiled in 12.3 s",
        "step  20/100  loss 0.3123  128 images/s  data wait 25%  ETA 00:40",
        "step  20/100  val: category/mAP@all 0.5000",
    ]


@pytest.mark.parametrize("mib, words", ((2355.2, "2.3 GiB"), (52.4, "52 MiB")))
def test_utilisation_and_memory_join_the_line_where_they_are_known(tmp_path, mib, words):
    """MFU after images/s, memory after the wait."""
    now, console = Clock(), io.StringIO()
    with MetricWriter(tmp_path, total=4, images_per_step=64, console=console, now=now) as writer:
        writer.clock.start(s_at_peak=0.2)
        now.time += 0.5
        writer.clock.tick()
        writer.write(1, {"loss": 0.25, "perf/memory_mib": mib, "perf/memory_peak_mib": 4096})
    (line,) = console.getvalue().splitlines()
    assert line == (
        f"step 1/4  loss 0.2500  128 images/s  MFU 40%  data wait 0%  {words}  ETA 00:01"
    )


def test_eta_of_a_resumed_run_is_of_the_steps_left(tmp_path):
    """Resumed at 80 of 100, ten steps of 2 s later, 20 s are left."""
    now, console = Clock(), io.StringIO()
    with MetricWriter(tmp_path, total=100, start=80, console=console, now=now) as writer:
        writer.clock.start()
        for _ in range(10):
            now.time += 2.0
            writer.clock.tick()
        writer.write(90, {"loss": 1.0})
    assert console.getvalue().strip().endswith("ETA 00:20")


def talk_of_a_run(workdir):
    def talk(console):
        with MetricWriter(
            workdir, total=4, start=1, images_per_step=2, console=console, now=Clock()
        ) as writer:
            for step in range(2, 5):
                writer.clock.tick()
                writer.write(step, {"loss": 0.25})
            writer.note("saved the best checkpoint")
            writer.write(4, {"category/P@1": 1.0}, kind="val", shown=["category/P@1"])

    return talk


def test_a_terminal_gets_a_bar_and_whole_notes(tmp_path):
    """On a terminal the bar shows progress and rates, and a note is a line of its own."""
    text = on_terminal(24, 100, talk_of_a_run(tmp_path))
    lines = [line.split("\r")[-1].strip() for line in text.split("\n")]
    assert "saved the best checkpoint" in lines
    assert "step 4/4  val: category/P@1 1.0000" in lines
    last = text.rstrip().split("\r")[-1]
    assert last.startswith("100%")
    for part in ("4/4", "loss 0.25", "images/s", "data wait", "ETA"):
        assert part in last


@pytest.mark.parametrize("size", [(0, 0), (24, 0), (0, 100)])
def test_a_terminal_without_size_gets_plain_lines(tmp_path, size):
    """Where a bar would have no room, as on some CI machines, the lines of a log file appear."""
    text = on_terminal(*size, talk_of_a_run(tmp_path))
    assert [line.split("  ")[0] for line in text.splitlines()] == [
        "step 2/4",
        "step 3/4",
        "step 4/4",
        "saved the best checkpoint",
        "step 4/4",
    ]


def test_closes_when_the_run_fails(tmp_path):
    """An error in the loop leaves a complete record behind."""
    with (
        pytest.raises(RuntimeError, match="diverged"),
        MetricWriter(tmp_path, total=2, console=io.StringIO()) as writer,
    ):
        writer.write(1, {"loss": 1.0})
        raise RuntimeError("diverged")
    assert len(records(tmp_path)) == 1
    assert any(event.step == 1 for event in events(tmp_path))
