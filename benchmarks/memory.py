"""What remat, chunks, bfloat16 and FSDP do to the memory of a training step, by XLA's own plan.

    python benchmarks/memory.py --backbone=vit_small_patch16 --batch=32

Nothing is trained: the step is compiled for the devices at hand (`--devices=8` simulates eight on a
CPU) and asked what it needs on each of them. `state` is parameters, optimiser and statistics;
`scratch` activations, gradients and all else while a step runs.
"""

from __future__ import annotations

import argparse

import jax
import numpy as np

CHANGES = {
    "as it is": {},
    "model.remat=dots": {"model.remat": "dots"},
    "model.remat=blocks": {"model.remat": "blocks"},
    "train.chunk, a quarter of the batch": {"train.chunk": None},
    "both": {"model.remat": "blocks", "train.chunk": None},
    "model.dtype=bfloat16": {"model.dtype": "bfloat16"},
    "train.fsdp=True": {"train.fsdp": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="vit_small_patch16")
    parser.add_argument("--size", type=int, default=224, help="pixels")
    parser.add_argument("--batch", type=int, default=32, help="pairs")
    parser.add_argument("--devices", type=int, default=1, help="simulated, on a CPU")
    given = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", given.devices)
    print(f"{given.backbone}, {given.size} px, {given.batch} pairs, jax {jax.__version__}")
    print(f"{jax.device_count()} x {jax.devices()[0].device_kind}; MiB a device: state, scratch")
    for name, changes in CHANGES.items():
        changes = {path: given.batch // 4 if x is None else x for path, x in changes.items()}
        state, scratch = need(given, changes)
        print(f"{name:40}{state / 2**20:10,.0f}{scratch / 2**20:10,.0f}", flush=True)


def need(given: argparse.Namespace, changes: dict) -> tuple[int, int]:
    """Bytes of the state and of scratch that a step needs on each device."""
    from sbir_jax import optim, sharding
    from sbir_jax.config import default_config, resolve
    from sbir_jax.mining import Ids
    from sbir_jax.models import dual
    from sbir_jax.step import draw, make_init, make_train_step

    config = default_config()
    config.update_from_flattened_dict(
        {
            "data.image_size": given.size,
            "data.load_size": given.size,
            "data.batch_size": given.batch,
            "model.backbone": given.backbone,
            "model.towers": "shared",
        }
        | changes
    )
    run = resolve(config)
    mesh = sharding.make_mesh()
    params, _, loss_params = jax.eval_shape(lambda: draw(run, classes=10))
    whole = optim.everything(params, loss_params)
    optimizer = optim.make_optimizer(run.optim, lambda count: 1e-3, whole)
    like = sharding.shapes_of(mesh, make_init(run, optimizer, classes=10), fsdp=run.train.fsdp)

    def rows(*shape: int, dtype) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((given.batch, *shape), dtype, sharding=sharding.split(mesh))

    ids = Ids(*(rows(dtype=np.int32) for _ in range(2)))
    square = (given.size, given.size)
    batch = {
        "sketch": rows(*square, 1, dtype=np.uint8),
        "photo": rows(*square, 3, dtype=np.uint8),
        "sketch_ids": ids,
        "photo_ids": ids,
    }
    graphdef = dual.define(run.model, image_size=given.size)
    step = make_train_step(run, graphdef, optimizer, like)
    memory = step.lower(like, {}, batch).compile().memory_analysis()
    held = jax.tree.map(
        lambda x: x.dtype.itemsize * int(np.prod(x.sharding.shard_shape(x.shape))), like
    )
    return sum(jax.tree.leaves(held)), memory.temp_size_in_bytes


if __name__ == "__main__":
    main()
