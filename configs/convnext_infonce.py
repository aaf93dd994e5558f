"""FS-COCO scenes: a shared CLIP ConvNeXt-B, InfoNCE. Not yet run with published weights.

    python -m data_prep fs_coco --protocol=fs_coco --raw=FSCOCO --data_dir=data
    python launch.py train --config=configs/convnext_infonce.py --workdir=runs/convnext_infonce
    python launch.py evaluate --workdir=runs/convnext_infonce --metrics=instance/acc@10

The recipe of SketchScape (BMVC 2025): one encoder for both sides, InfoNCE from sketch to photo at
temperature 0.07 with label smoothing 0.2, Adam at 1e-4 with decay 1e-5, batches of 60, ten epochs.
Here both directions count, and the weights are CLIP's of LAION-2B where the paper's are of
LAION-400M. To beat, recall@1 / @10 with 7,000 training and 3,000 test pairs: 61.9 / 87.2; the best
before was 29.6 / 56.1.
"""

from sbir_jax.config import default_config


def get_config():
    config = default_config()
    config.data.name = "fs_coco"
    config.data.image_size = 224
    config.data.load_size = 256
    config.data.sampler = "instances"
    config.data.batch_size = 60
    config.augment.flip = "paired"
    config.model.backbone = "convnext_base"
    config.model.weights = "hf:timm/convnext_base.clip_laion2b_augreg"
    config.model.towers = "shared"
    config.model.head = "none"
    config.model.embed_dim = 1024
    config.model.dtype = "bfloat16"
    config.loss.match = "instance"
    config.loss.infonce.temperature = 0.07
    config.loss.infonce.label_smoothing = 0.2
    config.optim.lr = 1e-4
    config.optim.weight_decay = 1e-5
    config.train.duration = "10 epochs"
    config.train.eval_every = "10%"
    config.eval.metric = "instance/acc@1"
    return config
