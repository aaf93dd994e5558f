"""The splits of one dataset through one model: embedded whole, and validated while training."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from flax import nnx
from jax.sharding import Mesh

from sbir_jax import hosts, sharding
from sbir_jax.config import ConfigError, RunConfig
from sbir_jax.data.cache import CachedImages
from sbir_jax.data.decoding import decoded, kept
from sbir_jax.data.images import Modality
from sbir_jax.data.sampling import class_confusion
from sbir_jax.data.source import Dataset, Images
from sbir_jax.embed_step import make_embed_step
from sbir_jax.embeddings import Embeddings
from sbir_jax.measure import check_metric, rank_all
from sbir_jax.models import dual
from sbir_jax.ranking.presets import STANDARD
from sbir_jax.ranking.relevance import Relevance, by_ids
from sbir_jax.ranking.summary import summarise
from sbir_jax.retrieved import Retrieved, retrieved

# A sketch is confused if one of so many nearest photos is of another class.
_CONFUSED_AMONG = 10


class Validation(NamedTuple):
    """Of the validation split.

    Attributes:
      scores: {"category/mAP@all": 0.61, ...}.
      confusion: of `sampling.class_confusion`, int32 [C, C], if the sampler learns from it.
      found: the ten nearest photos of each sketch.
    """

    scores: dict[str, float]
    confusion: np.ndarray | None
    found: Retrieved


class Evaluator:
    """Embeds and ranks the splits of one dataset with one model, on one mesh."""

    def __init__(self, run: RunConfig, dataset: Dataset, graphdef: nnx.GraphDef, mesh: Mesh):
        self.run, self.dataset, self.mesh = run, dataset, mesh
        self._opened: dict[tuple[str, str], Images | CachedImages] = {}
        self._embed = make_embed_step(run, graphdef, mesh=mesh)
        # Whole multiples of the devices; the last batch is padded, never dropped.
        self._rows = -(-run.eval.batch_size // mesh.size) * mesh.size

    def check_metric(self) -> None:
        """Checks, before training, that the validation split can choose a best checkpoint.

        Raises:
          ConfigError: `config.eval.metric` cannot be measured on it.
        """
        check_metric(self.run.eval)
        metric = self.run.eval.metric
        level = metric.partition("/")[0]
        if level not in self.relevance("val"):
            raise ConfigError(
                f"config.eval.metric={metric!r}: no sketch of the val split of "
                f"{self.dataset.name!r} has a relevant photo by {level}"
            )

    def relevance(self, split: str) -> dict[str, Relevance]:
        """By category and by instance, each if any sketch has a relevant photo."""
        sketch, photo = (self.dataset.index(split, side) for side in dual.MODALITIES)
        levels = {
            "category": by_ids(sketch.label, photo.label),
            "instance": by_ids(sketch.instance, photo.instance),
        }
        return {level: of for level, of in levels.items() if of.counts.any()}

    def embed(self, split: str, modality: Modality, params: Any, model_state: Any) -> Embeddings:
        """Embeddings of one side of a split, in record order, with labels and instances."""
        images, doing = self._images(split, modality), f"embedding {modality} images"
        own = sharding.local_rows(self.mesh, self._rows)  # every process decodes its own
        parts = []
        for part in decoded(images, self.run.data, rows=self._rows, doing=doing, own=own):
            missing = own.stop - own.start - len(part)
            batch = np.pad(part, [(0, missing), (0, 0), (0, 0), (0, 0)])
            batch = sharding.put_rows(self.mesh, batch)
            parts.append(np.asarray(self._embed(params, model_state, batch, modality)))
        index = self.dataset.index(split, modality)
        vectors = np.concatenate(parts)[: len(images)]
        return Embeddings(vectors, index.label, index.instance, None)

    def validate(self, params: Any, model_state: Any) -> Validation:
        """Scores of the validation split, its confusion, and what was nearest.

        The standard metrics and the one that chooses the best checkpoint; no intervals, no curves.
        The confusion is that of `sampling.class_confusion`, if the sampler learns from it.
        """
        sketches, photos = (
            self.embed("val", side, params, model_state) for side in dual.MODALITIES
        )
        levels = self.relevance("val")
        level, _, name = self.run.eval.metric.partition("/")
        asked = {of: dict.fromkeys(STANDARD[of]) for of in levels}
        asked[level][name] = None
        names = {of: tuple(wanted) for of, wanted in asked.items()}
        learns = self.run.data.sampler == "confusable"
        ranked = rank_all(
            sketches,
            photos,
            levels,
            names,
            self.run.eval,
            top=_CONFUSED_AMONG,
            mesh=self.mesh,
        )
        rule = self.run.eval.no_relevant
        scores = {
            f"{level}/{name}": found["value"]
            for level, of in ranked.scores.items()
            for name, found in summarise(of, no_relevant=rule, resamples=0).items()
            if isinstance(found, dict)
        }
        values = hosts.as_first_has_it(np.array(list(scores.values()), np.float64))
        scores = dict(zip(scores, values.tolist(), strict=True))
        found = retrieved(sketches, photos, ranked.nearest, self.dataset.classes)
        if not learns:
            return Validation(scores, None, found)
        confusion = class_confusion(
            ranked.nearest,
            found.query_labels,
            found.gallery_labels,
            classes=len(self.dataset.classes),
        )
        return Validation(scores, hosts.as_first_has_it(confusion), found)

    def _images(self, split: str, modality: Modality) -> Images | CachedImages:
        if (split, modality) not in self._opened:  # a cache is checked once, not every validation
            images, _ = kept(self.dataset, split, modality, self.run.data)
            self._opened[split, modality] = images
        return self._opened[split, modality]
