"""Pairs of photos that look alike, one encoder, contrastive pair loss.

    python -m data_prep looks_like --raw=Totally-Looks-Like-Data --data_dir=data
    python launch.py train --config=configs/siamese_contrastive.py --workdir=runs/contrastive
    python launch.py evaluate --workdir=runs/contrastive

Without the download, on generated pairs: `python -m data_prep looks_like_demo --data_dir=data` and
--config.data.name=looks_like_demo. Everything but the loss is as in siamese_triplet.py.

Measured on generated pairs (840 to train, 240 to test), on 2 cores (AMD EPYC), Python 3.11, JAX
0.10.2, chance in brackets: instance acc@1 0.033 (0.004), acc@10 0.150 (0.042), MRR 0.076 (0.025).
On Totally-Looks-Like itself: not yet run by us.
"""

from sbir_jax.config import default_config


def get_config():
    config = default_config()
    config.data.name = "looks_like"
    config.data.sampler = "instances"
    config.model.towers = "shared"
    config.model.head = "mlp"
    config.model.width = 32
    config.loss.name = "contrastive"
    config.loss.match = "instance"
    config.loss.contrastive.margin = 1.0
    config.optim.name = "sgd"
    config.optim.lr = 0.05
    config.optim.weight_decay = 1e-4
    config.train.duration = "60 epochs"
    config.train.eval_every = "10%"
    config.eval.metric = "instance/MRR"
    return config
