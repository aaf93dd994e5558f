"""Zero-shot Sketchy: SigLIP 2 ViT-B/16, all of it, gently. Not yet run with published weights.

    python -m data_prep sketchy_ext --protocol=sketchy_ext_split2_yelamarthi --raw=SKETCHY
    python launch.py train --config=configs/siglip2_base.py --workdir=runs/siglip2_base
    python launch.py evaluate --workdir=runs/siglip2_base --metrics=clip-at,zse

One encoder for both sides, supervised contrastive loss on batches of 24 classes x 8, learning rate
falling from block to block towards the image, and a moving average of the parameters. 104 seen and
21 unseen classes (Yelamarthi). No published number of SigLIP on sketches was found. To beat,
mAP@200 / P@200: 69.1 / 75.5 by min(R, 200) (MARL, CLIP ViT-B/32, 2024); 76.4 / 77.3 as printed
(SpLIP, CLIP, 2024; what it divides by is not known).
"""

from sbir_jax.config import default_config


def get_config():
    config = default_config()
    config.data.name = "sketchy_ext_split2_yelamarthi"
    config.data.image_size = 224
    config.data.load_size = 256
    config.data.sampler = "classes"
    config.data.batch_size = 192
    config.data.per_class = 8
    config.model.backbone = "vit_base_patch16_siglip"
    config.model.weights = "hf:timm/vit_base_patch16_siglip_224.v2_webli"
    config.model.towers = "shared"
    config.model.head = "none"
    config.model.embed_dim = 768
    config.model.dtype = "bfloat16"
    config.loss.infonce.temperature = 0.07
    config.optim.lr = 3e-5
    config.optim.layer_decay = 0.75
    config.optim.ema = 0.999
    config.train.duration = "5 epochs"
    config.train.eval_every = "10%"
    config.eval.metric = "category/mAP@200/min"
    return config
