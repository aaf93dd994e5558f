"""Pairs of photos that look alike, one encoder, triplet loss: the lecture's siamese network.

    python -m data_prep looks_like --raw=Totally-Looks-Like-Data --data_dir=data
    python launch.py train --config=configs/siamese_triplet.py --workdir=runs/siamese_triplet
    python launch.py evaluate --workdir=runs/siamese_triplet

Without the download, on generated pairs: `python -m data_prep looks_like_demo --data_dir=data` and
--config.data.name=looks_like_demo.

Measured on generated pairs (840 to train, 240 to test), on 2 cores (AMD EPYC), Python 3.11, JAX
0.10.2, chance in brackets: instance acc@1 0.079 (0.004), acc@10 0.275 (0.042), MRR 0.144 (0.025);
untrained: 0.017, 0.067, 0.050. On Totally-Looks-Like itself: not yet run by us.

From the lecture: one encoder for both sides, a head of dense-norm-relu-dense, unit embeddings,
margin 1, a random negative of the batch, SGD with momentum. For a CPU, and not the lecture's: a
small encoder at 64 pixels. Its own, on a GPU, would be
    --config.model.backbone=resnet34 --config.model.embed_dim=512 --config.data.batch_size=128
    --config.data.image_size=224 --config.data.load_size=256 --config.train.duration='100 epochs'
"""

from sbir_jax.config import default_config


def get_config():
    config = default_config()
    config.data.name = "looks_like"
    config.data.sampler = "instances"
    config.model.towers = "shared"
    config.model.head = "mlp"
    config.model.width = 32
    config.loss.name = "triplet"
    config.loss.match = "instance"
    config.loss.triplet.margin = 1.0
    config.loss.triplet.miner = "random"
    config.optim.name = "sgd"
    config.optim.lr = 0.05
    config.optim.weight_decay = 1e-4
    config.train.duration = "60 epochs"
    config.train.eval_every = "10%"
    config.eval.metric = "instance/MRR"
    return config
