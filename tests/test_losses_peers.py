"""Losses against pytorch-metric-learning, where it has them: value and gradient of one batch.

(Not smooth AP: its version reshapes the batch by the samples of a class, and is another number
unless there are as many classes.)
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from loss_cases import CLASSES, DIM, config, ids, measured, parameters, unit_rows

torch = pytest.importorskip("torch")
theirs = pytest.importorskip("pytorch_metric_learning")
from pytorch_metric_learning import distances, miners  # noqa: E402
from pytorch_metric_learning import losses as peers  # noqa: E402

torch.set_num_threads(1)
LABELS = ids(np.repeat(range(4), 4))  # of each side: every image has the same number of positives
PLAIN = distances.LpDistance(normalize_embeddings=False)


def classes(loss, peer):
    """`peer` with our class vectors."""
    peer.W.data = torch.tensor(np.asarray(parameters(loss)["category"]["weights"]).T.copy())
    return peer


COSFACE = config("category", margin_form="cosface", margin=0.3, scale=9.0)
ARCFACE = config("category", margin_form="arcface", margin=0.4, scale=9.0)
SOFTMAX = config("category", scale=9.0)
HARD = config("triplet", miner="batch_hard", average="active", pairs="joint")
EVERY_ONE = config("triplet", miner="all", average="active", pairs="joint")
# Ours; theirs; and the miner that goes with it.
CASES = {
    "batch_hard": (
        HARD,
        peers.TripletMarginLoss(0.2, distance=PLAIN),
        miners.BatchHardMiner(distance=PLAIN),
    ),
    "all": (EVERY_ONE, peers.TripletMarginLoss(0.2, distance=PLAIN), None),
    "infonce": (config("infonce", pairs="joint"), peers.SupConLoss(0.1), None),
    "n_pairs": (config("n_pairs", pairs="joint"), peers.NTXentLoss(0.1), None),
    "multi_similarity": (
        config("multi_similarity", pairs="joint"),
        peers.MultiSimilarityLoss(2, 50, 0.5),
        miners.MultiSimilarityMiner(0.1),
    ),
    "circle": (config("circle", pairs="joint"), peers.CircleLoss(0.4, 80), None),
    "cosface": (
        COSFACE,
        classes(COSFACE, peers.CosFaceLoss(CLASSES, DIM, margin=0.3, scale=9)),
        None,
    ),
    "arcface": (
        ARCFACE,
        classes(ARCFACE, peers.ArcFaceLoss(CLASSES, DIM, margin=math.degrees(0.4), scale=9)),
        None,
    ),
    "softmax": (SOFTMAX, classes(SOFTMAX, peers.NormalizedSoftmaxLoss(CLASSES, DIM, 1 / 9)), None),
}


@pytest.mark.parametrize("name", CASES)
def test_a_loss_is_that_of_pytorch_metric_learning(name):
    """All images of both sides as one batch, of unit length: equal value and gradients."""
    loss, peer, miner = CASES[name]
    sides = unit_rows(0), unit_rows(1)
    found = measured(loss, *sides, LABELS, LABELS)
    z = torch.tensor(np.concatenate(sides), requires_grad=True)
    labels = torch.tensor(np.tile(LABELS.label, 2).astype(np.int64))
    picks = () if miner is None else (miner(z, labels),)
    value = peer(z, labels, *picks)
    value.backward()
    assert found.value == pytest.approx(value.item(), rel=1e-5)
    gradient = np.concatenate(found.gradients)
    np.testing.assert_allclose(gradient, z.grad.numpy(), atol=1e-5 * np.abs(gradient).max())
