"""Eight simulated devices for every test, so that sharding is real wherever the suite runs."""

import os
import shutil
from pathlib import Path

import jax
import pytest
from absl import flags
from threadpoolctl import threadpool_limits
from tiny import TINY, small_backbone, tiny_run, tiny_tree

# Tests compile much and compute little: of two files that compile most, the CPU time falls from
# 99 s to 71 s. Newer versions of JAX do not know the second flag, and end if they are given it.
_QUICK = "--xla_backend_optimization_level=1"
if jax.__version_info__ < (0, 11):
    _QUICK += " --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_QUICK}"
jax.config.update("jax_num_cpu_devices", 8)
flags.FLAGS.mark_as_parsed()  # Grain's worker processes read absl flags

if (worker := os.environ.get("PYTEST_XDIST_WORKER")) and hasattr(os, "sched_setaffinity"):
    # Each worker keeps to cores of its own: two that share two take 8 % longer.
    _cores = sorted(os.sched_getaffinity(0))
    if own := _cores[int(worker[2:]) :: int(os.environ["PYTEST_XDIST_WORKER_COUNT"])]:
        os.sched_setaffinity(0, own)
        # BLAS has counted the cores before, and its threads would wait for each other on one.
        threadpool_limits(len(own), user_api="blas")


@pytest.fixture(scope="session", autouse=True)
def compile_cache(tmp_path_factory):
    """What one test has compiled, the others and their subprocesses load: half the suite's time."""
    folder = str(tmp_path_factory.mktemp("compiled"))
    settings = {
        "jax_compilation_cache_dir": folder,
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            jax.config.update(name, value)
            patch.setitem(os.environ, name.upper(), str(value))
        yield


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """Directory with the prepared dataset `tiny`: 5 classes, 40 sketches of 20 photos to train."""
    from data_prep.prepare import prepare  # here: most test files do without

    raw, folder = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("data")
    prepare(
        "folders", raw=tiny_tree(raw), data_dir=folder, name=TINY, val=0.25, test=0.25, quiet=True
    )
    return folder


@pytest.fixture
def small_model():
    """Makes the backbone of every run a small one, for compile time."""
    with small_backbone():
        yield


@pytest.fixture(scope="session")
def finished(tiny_data, tmp_path_factory, mesh):
    """(run, workdir) of an uninterrupted small-backbone run on one device; only read it."""
    from sbir_jax.train import train

    run, workdir = tiny_run(tiny_data), tmp_path_factory.mktemp("finished")
    with small_backbone():
        train(run, workdir, mesh=mesh)
    return run, workdir


@pytest.fixture(scope="session")
def mesh():
    """The mesh of one device: what compiles fastest."""
    from sbir_jax import sharding

    return sharding.make_mesh(jax.devices()[:1])


@pytest.fixture
def copy(finished, tmp_path):
    """(run, workdir) of a finished run, to play with."""
    run, workdir = finished
    return run, Path(shutil.copytree(workdir, tmp_path / "copy"))
