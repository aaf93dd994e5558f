"""The catalogue of metrics: exact names, their definitions, and how the command line asks.

A name says everything: papers print four numbers as "mAP@200", so that name is refused. Names are
case-sensitive.

Of a query with R relevant items in a gallery of N, "the precisions" are those at the ranks of the
relevant items: for the i-th of them, i over its rank.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence

from sbir_jax.ranking.presets import PRESETS, STANDARD

LARGEST_CUT = 2**30 - 1  # ranks are int32, with room for one that means "not found"


class MetricError(ValueError):
    """A metric, preset or level that is not valid; the message is one line."""


@dataclasses.dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
      name: as typed, for example "mAP@200/min".
      kind: what is computed, for example "AP".
      k: the cut-off K; None without one.
      over: what divides, for example "min"; "" where the kind leaves no choice.
    """

    name: str
    kind: str
    k: int | None
    over: str

    @property
    def cut(self) -> int:
        """The cut-off of a kind that has one."""
        if self.k is None:
            raise MetricError(f"{self.name} has no cut-off")
        return self.k


@dataclasses.dataclass(frozen=True)
class _Entry:
    kind: str
    over: str
    text: str  # the definition; {k} is the cut-off
    users: str = ""


_CUT = "sum of the precisions in the top {k}, over "
_VOC = (
    "sum of the precisions in the top {k}, each raised to the largest at or after it there, over "
)
_FIELD = "SAKE, TCN, ACNet, DRCPL, ZSE-SBIR, MARL"
_HITS = "relevant items in the top {k}, over "
_GAIN = "sum of 1/log2(1 + rank) of the relevant items{where}, over the largest it can be"

_CATALOGUE: Mapping[str, _Entry] = {  # {} is the cut-off
    "mAP@all": _Entry(
        "AP",
        "R",
        "mean of the precisions over the whole ranking",
        "scikit-learn, torchmetrics, trec_eval (map), doodle2search, sem-pcyc, CLIP-AT",
    ),
    "mAP-voc@all": _Entry(
        "AP-voc", "R", "mean of the precisions, each raised to the largest at or after it", _FIELD
    ),
    "mAP@{}/hits": _Entry(
        "AP",
        "hits",
        _CUT + "the number of relevant items there",
        "sem-pcyc, ClipPrompt, KD-SBIR, torchmetrics (top_k), OML 4.0",
    ),
    "mAP@{}/min": _Entry("AP", "min", _CUT + "min(R, {k})", "sentence-transformers"),
    "mAP@{}/K": _Entry("AP", "K", _CUT + "{k}", "Yelamarthi et al."),
    "mAP@{}/R": _Entry("AP", "R", _CUT + "R", "trec_eval (map_cut), ranx"),
    "mAP-voc@{}/min": _Entry("AP-voc", "min", _VOC + "min(R, {k})", _FIELD),
    "mAP-voc@{}/hits": _Entry("AP-voc", "hits", _VOC + "the number of relevant items there"),
    "mAP-voc@{}/K": _Entry("AP-voc", "K", _VOC + "{k}"),
    "mAP-voc@{}/R": _Entry("AP-voc", "R", _VOC + "R"),
    "mAP-first@{}": _Entry(
        "AP-first",
        "min",
        "mean of the first {k} precisions, or of all R where R is less",
        "the lecture, variant 1",
    ),
    "mAP-lecture@{}": _Entry(
        "AP-lecture",
        "R",
        "sum of the precisions in the top {k} and 1/{k} for each relevant item not there, over R",
        "the lecture, variant 3",
    ),
    "MRR": _Entry(
        "RR",
        "",
        "1 over the rank of the first relevant item",
        "trec_eval (recip_rank); the lecture, variant 2",
    ),
    "P@{}": _Entry(
        "P", "K", _HITS + "{k}", "trec_eval, torchmetrics, ClipPrompt, Yelamarthi et al."
    ),
    "P@{}/min-N": _Entry("P", "min-N", _HITS + "min({k}, N)", "SAKE, TCN, ACNet, DRCPL, sem-pcyc"),
    "P@{}/min-R": _Entry("P", "min-R", _HITS + "min({k}, R)", "doodle2search, OML"),
    "P@{}/cut-R": _Entry(
        "P", "cut-R", "relevant items in the top min({k}, R), over min({k}, R)", "ZSE-SBIR, MARL"
    ),
    "recall@{}": _Entry("recall", "R", _HITS + "R", "trec_eval"),
    "acc@{}": _Entry(
        "acc",
        "",
        "1 if a relevant item is in the top {k}, else 0",
        "Sketchy (as recall@K), QMUL (acc.@K), OML (cmc)",
    ),
    "R-precision": _Entry(
        "R-precision",
        "R",
        "relevant items in the top R, over R",
        "trec_eval (Rprec), pytorch-metric-learning",
    ),
    "MAP@R": _Entry(
        "MAP@R", "R", "sum of the precisions in the top R, over R", "pytorch-metric-learning"
    ),
    "nDCG@{}": _Entry(
        "nDCG",
        "",
        _GAIN.replace("{where}", " in the top {k}"),
        "trec_eval (ndcg_cut), scikit-learn",
    ),
    "nDCG@all": _Entry("nDCG", "", _GAIN.replace("{where}", ""), "trec_eval (ndcg), scikit-learn"),
    "11-point": _Entry(
        "11-point",
        "",
        "mean over recall 0, .1, ..., 1 of the largest precision at that recall or more",
        "the lecture, jmsaavedrar/metrics",
    ),
}


def parse(name: str) -> Metric:
    """Reads one metric name.

    Raises:
      MetricError: a name without exact meaning (mAP@200), an unknown name, or a cut-off that is
        not a positive integer.
    """
    key, k = _read(name)
    return Metric(name, _CATALOGUE[key].kind, k, _CATALOGUE[key].over)


def define(name: str) -> str:
    """One line that defines a metric and says who uses it.

    Raises:
      MetricError: as `parse`.
    """
    key, k = _read(name)
    entry = _CATALOGUE[key]
    return entry.text.format(k=k) + (f"; used by {entry.users}" if entry.users else "")


def select(text: str, levels: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Reads what the command line asks for.

    Args:
      text: names, presets and "standard", separated by commas: "sake,instance/acc@1,P@5". With a
        level and a slash before it an item is for that level only; without, a preset is for its
        own level and everything else for all. "" is "standard", and a level that has no standard
        metrics of its own gets those of "category".
      levels: the relevances that are evaluated, such as ("category", "instance").

    Returns:
      names by level, each once, in the order asked; () for a level of which nothing is asked.

    Raises:
      MetricError: as `parse`; an unknown level or preset; or a preset of a level that is not
        evaluated.
    """
    chosen: dict[str, list[str]] = {level: [] for level in levels}
    for item in (text or "standard").split(","):
        asked, name = _split(item.strip(), levels)
        for level in asked:
            if name == "standard":
                names = STANDARD.get(level, STANDARD["category"])
            else:
                names = PRESETS[name].metrics if name in PRESETS else (parse(name).name,)
            chosen[level] += names
    return {level: tuple(dict.fromkeys(names)) for level, names in chosen.items()}


def _split(item: str, levels: Sequence[str]) -> tuple[Sequence[str], str]:
    """The levels that an item is for, and the item without its level."""
    for level in levels:
        if item.startswith(f"{level}/"):
            return (level,), item.removeprefix(f"{level}/")
    head, slash, _ = item.partition("/")
    if slash and "@" not in head:  # in a metric's name the cut-off is before the slash
        raise MetricError(f"{item}: level {head!r} is not evaluated; valid: {', '.join(levels)}")
    own = PRESETS[item].level if item in PRESETS else None
    if own is not None and own not in levels:
        raise MetricError(
            f"{item} is for the level {own!r}, which is not evaluated; valid: "
            f"{', '.join(f'{level}/{item}' for level in levels)}"
        )
    return levels if own is None else (own,), item


def _read(name: str) -> tuple[str, int | None]:
    """The key in the catalogue and the cut-off."""
    if name in _CATALOGUE and "{}" not in name:
        return name, None
    parts = re.fullmatch(r"([^@/{}]+@)([^@/{}]*)(/[^@/{}]+)?", name)
    if not parts:
        raise _unknown(name)
    start, k, end = parts.groups(default="")
    key = start + "{}" + end
    number = re.fullmatch("[1-9][0-9]{0,9}", k) is not None and int(k) <= LARGEST_CUT
    if key.lower() in ("map@{}", "map-voc@{}") and number:
        raise MetricError(
            f"{name} has no one meaning; say what divides: mAP@{k}/hits (relevant items found), "
            f"mAP@{k}/min (min(R, {k})), mAP@{k}/K ({k}), mAP@{k}/R (R), mAP-voc@{k}/min "
            f"(min(R, {k}), the precisions made monotone), mAP-lecture@{k} (R, with 1/{k} for "
            "each relevant item not found)"
        )
    if key not in _CATALOGUE:
        raise _unknown(name)
    if not number:
        raise MetricError(
            f"{name}: cut-off {k!r} is not valid; an integer from 1 to {LARGEST_CUT}, no leading "
            f"zeros, as in {key.format(10)}"
        )
    return key, int(k)


def _unknown(name: str) -> MetricError:
    names = [key.format("K") for key in _CATALOGUE]
    given = re.sub("@[0-9]+", "@k", name.lower())
    by_lower = {known.lower(): known for known in [*names, *PRESETS, "standard"]}
    by_lower = {k: v for k, v in by_lower.items() if ("@k" in k) == ("@k" in given)}
    near = difflib.get_close_matches(given, by_lower, n=1)
    return MetricError(
        f"{name!r} is not a metric or preset"
        + (f"; did you mean {by_lower[near[0]]}?" if near else ";")
        + f" metrics: {', '.join(names)}; presets: {', '.join(PRESETS)}, standard"
    )
