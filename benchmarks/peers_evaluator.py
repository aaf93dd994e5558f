"""What other libraries do for the same three numbers of every query: mAP@all, P@100, AP@200.

Each function takes unit-length float32 embeddings and integer labels, all NumPy,

    queries [q, D], gallery [G, D], query_labels [q], gallery_labels [G],

and returns {"mAP@all", "P@100", "AP@200"}: float64 [q], or a single number where the library
gives only means. AP@200 divides by what the library divides by; `OVER` says what that is. Products
are made in blocks of 256 queries where the library leaves them to the caller.

Three traps are avoided: torchmetrics counts items with a score of 0 or less as not relevant (so
scores here are cosine + 1), open-metric-learning's mean of P@K divides by min(K, R) (the same here,
where R > 100), and pytorch-metric-learning's labels are float32 (exact for these few classes).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

Values = dict[str, np.ndarray]

OVER = {
    "scikit-learn": "hits",
    "torchmetrics": "hits",
    "pytorch-metric-learning": "R",
    "open-metric-learning": "hits",
}

_BLOCK = 256


def scikit_learn(queries, gallery, query_labels, gallery_labels) -> Values:
    """The loop of doodle2search and sem-pcyc: `average_precision_score` of every query, and of
    its 200 nearest for AP@200."""
    from sklearn.metrics import average_precision_score

    def one(scores: np.ndarray, relevant: np.ndarray) -> tuple[float, float, float]:
        nearest = np.argsort(-scores)[:200]
        hits = relevant[nearest]
        at_200 = average_precision_score(hits, scores[nearest]) if hits.any() else 0.0
        return average_precision_score(relevant, scores), hits[:100].mean(), at_200

    rows = []
    for block in _blocks(len(queries)):
        cosine = queries[block] @ gallery.T
        for scores, label in zip(cosine, query_labels[block], strict=True):
            rows.append(one(scores, gallery_labels == label))
    return _columns(rows)


def torchmetrics(queries, gallery, query_labels, gallery_labels) -> Values:
    """Its functional metrics, query by query (its classes keep [Q, G] and are slower)."""
    import torch
    from torchmetrics.functional.retrieval import (
        retrieval_average_precision,
        retrieval_precision,
    )

    queries, gallery = torch.from_numpy(queries), torch.from_numpy(gallery)
    query_labels, gallery_labels = torch.from_numpy(query_labels), torch.from_numpy(gallery_labels)
    rows = []
    for block in _blocks(len(queries)):
        positive = queries[block] @ gallery.T + 1.0
        for scores, label in zip(positive, query_labels[block], strict=True):
            relevant = gallery_labels == label
            rows.append(
                (
                    float(retrieval_average_precision(scores, relevant)),
                    float(retrieval_precision(scores, relevant, top_k=100)),
                    float(retrieval_average_precision(scores, relevant, top_k=200)),
                )
            )
    return _columns(rows)


def pytorch_metric_learning(queries, gallery, query_labels, gallery_labels) -> Values:
    """`AccuracyCalculator` over its own exact k-NN, with P@100 and AP@200 added in the way that
    its documentation gives. Means only."""
    import torch
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.utils import accuracy_calculator as pml
    from pytorch_metric_learning.utils.inference import CustomKNN

    class Calculator(pml.AccuracyCalculator):
        def calculate_precision_at_100(self, knn_labels, query_labels, **_):
            return pml.precision_at_k(
                knn_labels, query_labels[:, None], 100, False, False, self.label_comparison_fn
            )

        def calculate_map_at_200(self, knn_labels, query_labels, label_counts, **_):
            return pml.mean_average_precision(
                knn_labels[:, :200],
                query_labels[:, None],
                False,
                label_counts,
                False,
                False,
                self.label_comparison_fn,
            )

    names = {
        "mean_average_precision": "mAP@all",
        "precision_at_100": "P@100",
        "map_at_200": "AP@200",
    }
    calculator = Calculator(
        include=tuple(names),
        k=len(gallery),
        device=torch.device("cpu"),
        knn_func=CustomKNN(CosineSimilarity()),
        kmeans_func=lambda *_: None,  # the default asks for faiss, which nothing here needs
    )
    given = (queries, query_labels, gallery, gallery_labels)
    means = calculator.get_accuracy(*(torch.from_numpy(x) for x in given))
    return {name: np.float64(means[theirs]) for theirs, name in names.items()}


def open_metric_learning(queries, gallery, query_labels, gallery_labels) -> Values:
    """`batched_knn_qg` over the whole gallery, then `calc_retrieval_metrics`, as shipped."""
    import torch
    from oml.functional.knn import batched_knn_qg
    from oml.functional.metrics import calc_retrieval_metrics

    size = len(gallery)
    queries, gallery = torch.from_numpy(queries), torch.from_numpy(gallery)
    query_labels, gallery_labels = torch.from_numpy(query_labels), torch.from_numpy(gallery_labels)
    _, retrieved, relevant = batched_knn_qg(queries, gallery, size, query_labels, gallery_labels)
    metrics = calc_retrieval_metrics(
        retrieved,
        relevant,
        cmc_top_k=(),
        precision_top_k=(100,),
        map_top_k=(size, 200),
        reduce=False,
        verbose=False,
    )
    found = (metrics["map"][size], metrics["precision"][100], metrics["map"][200])
    return _columns(list(zip(*(values.tolist() for values in found), strict=True)))


def _blocks(rows: int) -> Iterator[slice]:
    for start in range(0, rows, _BLOCK):
        yield slice(start, start + _BLOCK)


def _columns(rows: list[tuple[float, float, float]]) -> Values:
    names = ("mAP@all", "P@100", "AP@200")
    return dict(zip(names, np.array(rows, np.float64).T, strict=True))
