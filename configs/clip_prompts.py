"""Zero-shot Sketchy: CLIP ViT-B/32, LayerNorms and prompts. Not yet run with published weights.

    python -m data_prep sketchy_ext --protocol=sketchy_ext_split2_yelamarthi --raw=SKETCHY
    python launch.py train --config=configs/clip_prompts.py --workdir=runs/clip_prompts
    python launch.py evaluate --workdir=runs/clip_prompts --metrics=clip-at,zse

The recipe of CLIP-AT (Sain et al., CVPR 2023): one frozen CLIP for both sides of which only the
LayerNorms learn, and three tokens for each side; cosine triplets with a random negative of another
class; 1e-6 for LayerNorms and 1e-4 for prompts, batches of 192. No class loss on text embeddings:
there is no text tower here, and the features are those before CLIP's projection. It is said to be
done after an epoch. 104 seen and 21 unseen classes (Yelamarthi). To beat, mAP@200 / P@200:
72.3 / 72.5 as printed (what it divides by is not known); 69.1 / 75.5 by min(R, 200) (MARL, 2024).
The same CLIP untrained is quoted at 25.0 / 26.1: --checkpoint=pretrained measures it.
"""

from sbir_jax.config import default_config


def get_config():
    config = default_config()
    config.data.name = "sketchy_ext_split2_yelamarthi"
    config.data.image_size = 224
    config.data.load_size = 256
    config.data.batch_size = 192
    config.model.backbone = "vit_base_patch32_clip_quickgelu"
    config.model.weights = "hf:timm/vit_base_patch32_clip_224.openai"
    config.model.towers = "shared"
    config.model.head = "none"
    config.model.embed_dim = 768
    config.model.prompts = 3
    config.model.dtype = "bfloat16"
    config.loss.name = "triplet"
    config.loss.triplet.margin = 0.2
    config.loss.triplet.distance = "cosine"
    config.loss.triplet.miner = "random"
    config.optim.lr = 1e-6
    config.optim.train = "*norm*, prompts"
    config.optim.lr_scale = "prompts: 100"
    config.optim.weight_decay = 0.0
    config.train.duration = "5 epochs"
    config.train.eval_every = "10%"
    config.eval.metric = "category/mAP@200/min"
    return config
