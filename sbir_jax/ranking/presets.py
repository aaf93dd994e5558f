"""Which metrics a paper, a repository or a library prints, by their exact names."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Preset:
    """The metrics of one source.

    Attributes:
      metrics: names.
      level: the relevance they are defined for; None for any.
      source: repository or paper, and what no name can say about it.
    """

    metrics: tuple[str, ...]
    level: str | None
    source: str


_VOC = ("mAP-voc@all", "mAP-voc@200/min")
_ACC = ("acc@1", "acc@5", "acc@10")

PRESETS: Mapping[str, Preset] = {
    "sake": Preset(
        (*_VOC, "P@100/min-N", "P@200/min-N"),
        "category",
        "qliu24/SAKE (Liu et al., ICCV 2019); also TCN, ACNet and DRCPL. Its Sketchy gallery lists "
        "some photos twice.",
    ),
    "zse": Preset(
        (*_VOC, "P@100/cut-R", "P@200/cut-R"),
        "category",
        "buptLinfy/ZSE-SBIR (Lin et al., CVPR 2023); also MARL. Queries without a relevant item "
        "drop out of its means; its Sketchy gallery lists some photos twice.",
    ),
    "doodle2search": Preset(
        ("mAP@all", "mAP@200/hits", "P@200/min-R"),
        "category",
        "sounakdey/doodle2search (Dey et al., CVPR 2019), which calls scikit-learn. Its mAP@200 "
        "and P@200 are commented out, and that P@200 is the relevance of rank 201; its function "
        "for P@K divides by min(R, K).",
    ),
    "sem-pcyc": Preset(
        ("mAP@all", "mAP@200/hits", "P@100/min-N", "P@200/min-N"),
        "category",
        "AnjanDutta/sem-pcyc (Dutta and Akata, CVPR 2019), which calls scikit-learn. Its queries "
        "and gallery join the validation and test classes.",
    ),
    "clip-at": Preset(
        ("mAP@all", "mAP@200/hits", "mAP@200/min", "P@100", "P@200"),
        "category",
        "aneeshan95/Sketch_LVM (Sain et al., CVPR 2023), which calls torchmetrics. Its code has "
        "mAP@all only, on a gallery of one random photo a sketch. What divides its mAP@200 is not "
        "public: torchmetrics's top_k divides by the hits, so hits and min are both here.",
    ),
    "clipprompt": Preset(
        ("mAP@all", "mAP@200/hits", "P@100", "P@200"),
        "category",
        "leftthomas/ClipPrompt (2023) and HieuNM1804/KD-SBIR (2026), which call torchmetrics with "
        "top_k.",
    ),
    "yelamarthi": Preset(
        ("mAP@200/K", "P@200"),
        "category",
        "ShivaKrishnaM/ZS-SBIR (Yelamarthi et al., ECCV 2018).",
    ),
    "oml": Preset(
        ("acc@5", "P@5/min-R", "mAP@5/hits"),
        None,
        "OML-Team/open-metric-learning 4.0: cmc, precision and map at its default K of 5. Earlier "
        "versions print mAP@5/min.",
    ),
    "pml": Preset(
        ("P@1", "R-precision", "MAP@R"),
        None,
        "KevinMusgrave/pytorch-metric-learning (Musgrave et al., ECCV 2020).",
    ),
    "trec": Preset(
        ("mAP@all", "R-precision", "MRR", "P@10", "recall@100", "nDCG@all", "nDCG@10"),
        None,
        "usnistgov/trec_eval: map, Rprec, recip_rank, P_10, recall_100, ndcg, ndcg_cut_10. It "
        "orders equal scores by document name.",
    ),
    "lecture": Preset(
        ("mAP@all", "mAP-first@10", "MRR", "P@1", "mAP-lecture@100", "11-point"),
        None,
        "The lecture's mAP and its variants. It leaves the two cut-offs open; 10 and 100 here.",
    ),
    "sketchy": Preset(
        _ACC,
        "instance",
        "janesjanes/sketchy (Sangkloy et al., SIGGRAPH 2016), which writes recall@K: the photo "
        "that the sketch was drawn from is in the top K.",
    ),
    "qmul": Preset(
        _ACC,
        "instance",
        "QMUL ShoeV2 and ChairV2 (Yu et al., CVPR 2016), acc.@K. Public code counts equal "
        "distances against the sketch, as pessimistic ties do.",
    ),
}

STANDARD: Mapping[str, tuple[str, ...]] = {
    "category": ("mAP@all", "mAP@200/min", "P@1", "P@10", "P@100"),
    "instance": (*_ACC, "MRR"),
}
