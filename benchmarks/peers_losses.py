"""What other libraries do for the same losses, and the same written by hand in plain torch.

Each function takes unit-length embeddings float32 [B, D], a torch tensor that wants a gradient, and
labels int64 [B], and returns the loss. All distances are Euclidean, the margin is `MARGIN`, the
temperature of softmaxes `TEMPERATURE` and of smooth AP `SMOOTHNESS`.

They do not all average alike. `batch hard` and `semi-hard` here are means over all mined triplets,
`all triplets` means over those above 0, where a library lets one choose; what differs is said.
"""

from __future__ import annotations

MARGIN, TEMPERATURE, SMOOTHNESS = 0.2, 0.1, 0.01


# pytorch-metric-learning


def pml_batch_hard(z, labels):
    from pytorch_metric_learning import distances, losses, miners, reducers

    apart = distances.LpDistance(normalize_embeddings=False)
    picked = miners.BatchHardMiner(distance=apart)(z, labels)
    loss = losses.TripletMarginLoss(MARGIN, distance=apart, reducer=reducers.MeanReducer())
    return loss(z, labels, picked)


def pml_semi_hard(z, labels):
    """Every triplet in the semi-hard band, not one a positive: another loss than ours."""
    from pytorch_metric_learning import distances, losses, miners

    apart = distances.LpDistance(normalize_embeddings=False)
    picked = miners.TripletMarginMiner(MARGIN, "semihard", distance=apart)(z, labels)
    return losses.TripletMarginLoss(MARGIN, distance=apart)(z, labels, picked)


def pml_all(z, labels):
    from pytorch_metric_learning import distances, losses

    apart = distances.LpDistance(normalize_embeddings=False)
    return losses.TripletMarginLoss(MARGIN, distance=apart)(z, labels)


def pml_contrastive(z, labels):
    from pytorch_metric_learning import losses

    return losses.SupConLoss(TEMPERATURE)(z, labels)


def pml_smooth_ap(z, labels):
    """Wrong where a batch has not as many classes as images of each (2.9.0)."""
    from pytorch_metric_learning import losses

    return losses.SmoothAPLoss(SMOOTHNESS)(z, labels)


# open-metric-learning


def oml_batch_hard(z, labels):
    from oml.losses.triplet import TripletLossWithMiner
    from oml.miners.inbatch_hard_tri import HardTripletsMiner

    return TripletLossWithMiner(MARGIN, HardTripletsMiner())(z, labels)


def oml_all(z, labels):
    """A mean over all triplets: another loss than ours."""
    from oml.losses.triplet import TripletLossWithMiner
    from oml.miners.inbatch_all_tri import AllTripletsMiner

    return TripletLossWithMiner(MARGIN, AllTripletsMiner())(z, labels)


# sentence-transformers


def st_batch_hard(z, labels):
    from sentence_transformers.sentence_transformer import losses

    loss = losses.BatchHardTripletLoss(None, margin=MARGIN)
    return loss.compute_loss_from_embeddings([z], labels)


def st_semi_hard(z, labels):
    from sentence_transformers.sentence_transformer import losses

    loss = losses.BatchSemiHardTripletLoss(None, margin=MARGIN)
    return loss.compute_loss_from_embeddings([z], labels)


def st_all(z, labels):
    from sentence_transformers.sentence_transformer import losses

    loss = losses.BatchAllTripletLoss(None, margin=MARGIN)
    return loss.compute_loss_from_embeddings([z], labels)


# Plain torch, with the ideas that the fastest known versions share: mine without gradient, then
# compare the picked rows again; walk over the few positives of each anchor, never over B^3


def torch_batch_hard(z, labels):
    import torch

    with torch.no_grad():
        apart, same, eye = _distances(z), labels[:, None] == labels, _eye(z)
        far = apart.masked_fill(~same | eye, -1).argmax(1)
        near = apart.masked_fill(same, torch.inf).argmin(1)
    return torch.relu(_to(z, far) - _to(z, near) + MARGIN).mean()


def torch_semi_hard(z, labels):
    import torch

    with torch.no_grad():
        apart, same = _distances(z), labels[:, None] == labels
        slots = _positives(labels)  # [B, K - 1]
        farthest = apart.masked_fill(same, -1).argmax(1)
        picked = []
        for positive in slots.T:
            limit = apart.gather(1, positive[:, None])
            outside = apart.masked_fill(same | (apart <= limit), torch.inf)
            least, nearest = outside.min(1)
            picked.append(torch.where(least.isinf(), farthest, nearest))
    parts = zip(slots.T, picked, strict=True)
    return torch.stack([torch.relu(_to(z, p) - _to(z, n) + MARGIN) for p, n in parts]).mean()


def torch_all(z, labels):
    import torch

    apart, opposed = _distances(z), labels[:, None] != labels
    total, count = 0.0, 0
    for positive in _positives(labels).T:
        hinge = torch.relu(apart.gather(1, positive[:, None]) - apart + MARGIN) * opposed
        total, count = total + hinge.sum(), count + (hinge > 0).sum()
    return total / count.clamp(min=1)


def torch_contrastive(z, labels):
    same, eye = labels[:, None] == labels, _eye(z)
    logits = (z @ z.T / TEMPERATURE).masked_fill(eye, -1e9)
    share = logits - logits.logsumexp(1, keepdim=True)
    positive = same & ~eye
    return -((share * positive).sum(1) / positive.sum(1)).mean()


def torch_smooth_ap(z, labels):
    import torch

    cosine, eye = z @ z.T, _eye(z)
    positive = (labels[:, None] == labels) & ~eye
    slots, precisions = _positives(labels).T, []
    for p in slots:
        above = torch.sigmoid((cosine - cosine.gather(1, p[:, None])) / SMOOTHNESS)
        above = above.masked_fill(eye, 0).scatter(1, p[:, None], 0)  # it is not above itself
        precisions.append((1 + (above * positive).sum(1)) / (1 + above.sum(1)))
    return 1 - torch.stack(precisions).mean()


def _eye(z):
    import torch

    return torch.eye(len(z), dtype=torch.bool, device=z.device)


def _distances(z):
    square = (z * z).sum(1)
    product = square[:, None] + square - 2 * z @ z.T
    return product.clamp(min=1e-12).sqrt()


def _to(z, rows):
    return ((z - z[rows]) ** 2).sum(1).clamp(min=1e-12).sqrt()


def _positives(labels):
    """Rows of the other members of each one's class: int64 [B, K - 1]; classes are of one size."""
    same = labels[:, None] == labels
    same = same & ~_eye(labels)
    return same.nonzero()[:, 1].reshape(len(labels), -1)
