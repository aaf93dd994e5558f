"""`prepare_report.json`: what went in, what was left out, and what looks suspicious."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Sequence

from data_prep.checking import Checked
from data_prep.items import SPLITS
from sbir_jax.data.images import MODALITIES

# Raise it when the same raw files would be stored differently: prepared datasets then rebuild.
TOOL_VERSION = "1"


def fingerprint(dataset: str, options: dict, checked: Sequence[Checked]) -> str:
    """sha256 over everything that decides the stored records: version, options, files, names."""
    digest = hashlib.sha256()
    digest.update(json.dumps([TOOL_VERSION, dataset, options], sort_keys=True).encode())
    for c in sorted(checked, key=lambda c: c.item.file):
        item = c.item
        row = [item.file, c.sha256, item.modality, item.label, item.instance_id, item.split]
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()


def make_report(
    *,
    dataset: str,
    name: str,
    options: dict,
    fingerprint: str,
    good: Sequence[Checked],
    bad: Sequence[Checked],
    notes: Sequence[str],
    details: dict,
) -> dict:
    """Everything a user may ask about a prepared dataset later, JSON-ready.

    Args:
      good: items with their final splits.
      bad: rejected items.
    """
    sketches = [c for c in good if c.item.modality == "sketch"]
    photo_ids = {c.item.instance_id for c in good if c.item.modality == "photo"} - {""}
    by_hash = defaultdict(list)
    for c in good:
        by_hash[c.sha256].append(c.item)
    duplicates = [items for items in by_hash.values() if len(items) > 1]
    counts = class_counts(good)
    return {
        "dataset": dataset,
        "name": name,
        "tool_version": TOOL_VERSION,
        "fingerprint": fingerprint,
        "seed": options["seed"],
        "options": options,
        "notes": list(notes),
        "queries": sketches[0].item.kind,
        "classes": sorted(counts),
        "totals": totals(good),
        "counts": counts,
        "linked_sketches": sum(c.item.instance_id in photo_ids for c in sketches),
        "sketches_of_absent_photos": sorted(
            c.item.file
            for c in sketches
            if c.item.instance_id and c.item.instance_id not in photo_ids
        ),
        "rejected": {c.item.file: c.problem for c in bad},
        "duplicates": [sorted(item.file for item in items) for items in duplicates],
        "split_leakage": [
            {item.file: item.split for item in sorted(items, key=lambda item: item.file)}
            for items in duplicates
            if len({item.split for item in items}) > 1
        ],
        "one_modality_classes": {
            label: present[0]
            for label, by_modality in counts.items()
            if len(present := [m for m in MODALITIES if sum(by_modality[m].values())]) == 1
        },
        "classes_missing_from_a_split": {
            label: missing
            for label, by_modality in counts.items()
            if (missing := [s for s in SPLITS if not all(by_modality[m][s] for m in MODALITIES)])
        },
        "blank_sketches": sorted(c.item.file for c in sketches if c.blank),
        "inverted_sketches": sorted(c.item.file for c in sketches if c.inverted),
        **details,
    }


def totals(checked: Sequence[Checked]) -> dict[str, dict[str, int]]:
    """Images per modality and split."""
    seen = Counter((c.item.modality, c.item.split) for c in checked)
    return {m: {s: seen[m, s] for s in SPLITS} for m in MODALITIES}


def class_counts(checked: Sequence[Checked]) -> dict[str, dict[str, dict[str, int]]]:
    """Images per class, modality and split."""
    labels = sorted({c.item.label for c in checked})
    seen = Counter((c.item.label, c.item.modality, c.item.split) for c in checked)
    return {
        label: {m: {s: seen[label, m, s] for s in SPLITS} for m in MODALITIES} for label in labels
    }


def summary(report: dict) -> str:
    """The report's numbers and warnings for the terminal, a few lines."""
    queries = {"sketch": "sketches", "photo": "queries"}[report["queries"]]
    lines = [f"{'':12}{'photos':>9}{queries:>10}"]
    for split in SPLITS:
        photos, sketches = (report["totals"][m][split] for m in MODALITIES)
        lines.append(f"  {split:10}{photos:9,}{sketches:10,}")
    lines.append(
        f"  {len(report['classes'])} classes; {report['linked_sketches']:,} {queries} linked to "
        f"their photo; splits drawn with seed {report['seed']}"
    )
    warnings = {
        "rejected": "files rejected",
        "blank_sketches": "blank sketches",
        "inverted_sketches": "sketches mostly dark (white on black?)",
        "sketches_of_absent_photos": f"{queries} whose photo is absent",
        "duplicates": "groups of identical files",
        "split_leakage": "identical files in two splits",
        "one_modality_classes": f"classes with photos or {queries} only",
        "classes_missing_from_a_split": f"classes without photos or {queries} in some split",
    }
    seen = [f"{len(report[key]):,} {text}" for key, text in warnings.items() if report[key]]
    if seen:
        lines.append(f"  noted: {'; '.join(seen)}")
    return "\n".join([*lines, *(f"  {note}" for note in report["notes"])])
