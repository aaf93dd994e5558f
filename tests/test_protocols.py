"""The protocols are what the literature says, and a wrong protocol file is refused."""

from __future__ import annotations

import json

import pytest

from data_prep.arguments import BUILDERS, completed
from data_prep.items import BadArgument, class_key
from data_prep.protocol import FOLDER, load_protocol, protocol_names
from sbir_jax.eval_config import LEVELS
from sbir_jax.ranking.names import select

# Printed numbers, typed from the sources' tables and not from the files under test: classes seen
# and unseen, query sketches, photos listed and distinct, and pairs of a sketch and a photo.
TABLE = {
    "sketchy_ext_split1_shen": (100, 25, 15_229, 17_101, 14_602, 260.4e6),
    "sketchy_ext_split2_yelamarthi": (104, 21, 12_694, 12_553, 10_453, 159.3e6),
    "tu_berlin_ext_sake": (220, 30, 2_400, 27_989, None, 67.2e6),
    "quickdraw_ext": (80, 30, 92_291, 54_151, None, 5.0e9),
    "sketchy_original": (125, 0, 6_312, 1_250, None, 7.9e6),
    "sketchy_fg_zero_shot": (104, 21, 12_694, 2_100, None, None),
    "sketchy_sem_pcyc": (100, 25, None, None, None, None),
    "tu_berlin_sem_pcyc": (220, 30, None, 25_708, None, None),
    "tu_berlin_kd_sbir": (220, 30, None, None, None, None),
    "quickdraw_kd_sbir": (80, 30, None, None, None, None),
    "qmul_shoe_v2": (1, 0, 666, 200, None, None),
    "qmul_shoe_v2_paper": (1, 0, 679, 200, None, None),
    "qmul_chair_v2": (1, 0, 311, 100, None, None),
    "qmul_chair_v2_paper": (1, 0, 324, 100, None, None),
    "flickr15k": (0, 33, 329, 14_501, None, 4.8e6),
    "fs_coco": (1, 0, None, None, None, None),
    "clothes_v1": (1, 0, 275, None, None, None),
}
# Class, test sketches, photos listed, photos distinct.
ROWS = {
    "sketchy_ext_split1_shen": [("cup", 697, 700, 600), ("wheelchair", 542, 378, 278),
                                ("camel", 690, 700, 601), ("ray", 518, 700, 600)],
    "sketchy_ext_split2_yelamarthi": [("skyscraper", 545, 261, 161), ("helicopter", 746, 850, 750)],
    "tu_berlin_ext_sake": [("windmill", 80, 2922, None), ("trombone", 80, 401, None)],
    "quickdraw_ext": [("cake", 5262, 1709, None), ("campfire", 3001, 1304, None)],
}  # fmt: skip


@pytest.mark.parametrize("name", protocol_names())
def test_every_protocol_names_a_builder_its_options_and_metrics(name):
    """Each file is valid, its builder takes its options, and its metrics are defined."""
    protocol = load_protocol(name)
    assert protocol.title and protocol.source
    assert any(select(protocol.metrics, LEVELS).values())
    if protocol.dataset:
        own = completed(BUILDERS[protocol.dataset], {}, protocol.options)
        assert protocol.options.items() <= own.items()
    else:
        assert protocol.obstacle


@pytest.mark.parametrize("name", TABLE)
def test_counts_are_those_of_the_published_table(name):
    """Classes, queries and galleries as printed; pairs to score agree with the printed sizes."""
    protocol = load_protocol(name)
    seen, unseen, queries, listed, distinct, pairs = TABLE[name]
    assert (len(protocol.seen or ()), len(protocol.unseen or ())) == (seen, unseen)
    counts = protocol.counts
    assert (counts.queries, counts.gallery["listed"], counts.gallery["distinct"]) == (
        queries,
        listed,
        distinct,
    )
    if pairs:
        assert queries * listed == pytest.approx(pairs, rel=0.01)


@pytest.mark.parametrize("name", ROWS)
def test_class_counts_are_the_printed_ones(name):
    """Some rows as printed; that all rows sum to the printed totals is checked while loading."""
    per_class = load_protocol(name).counts.per_class
    assert len(per_class) == len(load_protocol(name).unseen)
    for label, queries, listed, distinct in ROWS[name]:
        row = per_class[label]
        assert (row["queries"], row["listed"], row.get("distinct")) == (queries, listed, distinct)


def test_the_splits_of_sketchy_extended_share_all_images():
    """Both splits cut one dataset: 75,481 sketches, and 12,500 + 73,002 photos as listed."""
    for name in ("sketchy_ext_split1_shen", "sketchy_ext_split2_yelamarthi"):
        counts = load_protocol(name).counts
        assert counts.queries + counts.seen_sketches + counts.held_back_sketches == 75_481
        assert counts.gallery["listed"] + counts.seen_photos["listed"] == 12_500 + 73_002
        assert counts.gallery["extended"] + counts.seen_photos["extended"] == 73_002
        # Each class lists its 100 originals; one original of all is not in EXTEND.
        classes = len(load_protocol(name).unseen)
        assert counts.gallery["listed"] - counts.gallery["extended"] == 100 * classes
        assert counts.gallery["distinct"] + counts.seen_photos["distinct"] == 73_003


def test_splits_of_one_dataset_hold_the_same_classes():
    """Seen and unseen classes together are the dataset's, however they are cut."""
    whole: dict[str, set[str]] = {}
    for name in protocol_names():
        protocol = load_protocol(name)
        if protocol.zero_shot:
            found = {class_key(label) for label in (*protocol.seen, *protocol.unseen)}
            dataset = protocol.dataset.removesuffix("_ext")
            assert whole.setdefault(dataset, found) == found, name
    assert {dataset: len(of) for dataset, of in whole.items()} == {
        "sketchy": 125,
        "tu_berlin": 250,
        "quickdraw": 110,
    }


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("sketchy_ext_split1_shen", "sketchy_ext_split2_yelamarthi",
         {"scissors", "tree", "wheelchair", "windmill"}),
        ("sketchy_ext_split1_shen", "sketchy_sem_pcyc", {"bell", "squirrel", "tank", "wheelchair"}),
        ("tu_berlin_ext_sake", "tu_berlin_kd_sbir", {"bus", "horse", "hot air balloon"}),
        ("quickdraw_ext", "quickdraw_kd_sbir", 14),
        ("quickdraw_ext", "sketchy_ext_split2_yelamarthi", 14),
    ],
)  # fmt: skip
def test_rival_lists_differ_as_reported(one, other, shared):
    """Lists under one name share only the classes that were reported."""
    found = set(load_protocol(one).unseen) & set(load_protocol(other).unseen)
    assert found == shared if isinstance(shared, set) else len(found) == shared


def test_published_rows_are_consistent_with_their_normaliser():
    """Under min(R, 200) mAP@200 is at most P@200 (all R are at least 200): rows said to be so are,
    rows said to divide by the hits exceed it."""
    rows = load_protocol("sketchy_ext_split2_yelamarthi").published
    by_method = {row["method"].split(" (")[0]: row for row in rows if "gallery" not in row}
    assert (by_method["SAKE"]["mAP@200"], by_method["SAKE"]["P@200"]) == (49.7, 59.8)
    assert (by_method["SpLIP"]["mAP@200"], by_method["SpLIP"]["P@200"]) == (76.4, 77.3)
    kinds = [row.get("normaliser", "").split()[0] for row in rows if row.get("normaliser")]
    assert kinds.count("hits") >= 4 and kinds.count("min") >= 8
    for row in rows:
        if row.get("normaliser", "").startswith("hits"):
            assert row["mAP@200"] > row["P@200"]
        if row.get("normaliser", "").startswith("min"):
            assert row["mAP@200"] <= row["P@200"]


def test_the_fingerprint_follows_what_decides_numbers():
    """Another gallery or metric changes it; notes and published rows do not."""
    protocol = load_protocol("sketchy_ext_split2_yelamarthi")
    options = dict(protocol.options)
    mark = protocol.fingerprint(options)
    assert protocol.fingerprint({**options, "gallery": "extended"}) != mark
    assert load_protocol("sketchy_ext_split1_shen").fingerprint(options) != mark
    assert protocol.fingerprint({**options, "other": "of the builder"}) == mark


@pytest.fixture
def changed(tmp_path):
    """Writes split 2 with some fields changed, and returns the file."""

    def write(**changes) -> str:
        values = json.loads((FOLDER / "sketchy_ext_split2_yelamarthi.json").read_text())
        for path, value in changes.items():
            group, _, field = path.rpartition("__")
            (values[group] if group else values)[field] = value
        path = tmp_path / "mine.json"
        path.write_text(json.dumps(values))
        return str(path)

    return write


def test_a_protocol_of_ones_own_is_a_file(changed):
    """A path to a valid file is read like a shipped protocol."""
    assert load_protocol(changed(name="mine")).unseen[0] == "bat"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "other"}, "name='other': expected 'mine'"),
        ({"level": "both"}, 'level="both": expected category or instance'),
        ({"extra": 1}, "extra: no such field"),
        ({"counts__queries": 12_693}, "queries=12693, but its classes sum to 12694"),
        ({"counts__queries": "many"}, 'counts.queries="many": expected a whole number'),
        ({"counts__gallery": {"listed": 1}}, "counts.gallery=.*listed, distinct, extended"),
        ({"unseen": ["bat", "Bat"]}, "class 'bat' is listed twice"),
        ({"unseen": ["zebra"]}, "class 'zebra' is listed twice"),
        ({"unseen": ["bat", "cabin"]}, "counts.per_class: 'cow' is no test class"),
        ({"counts__per_class": {"bat": {"queries": 635}}}, "queries of 1 of 21 classes"),
        ({"metrics": "mAP@200"}, "metrics='mAP@200'"),
        ({"dataset": ""}, "dataset is empty: obstacle has to say why"),
        ({"unseen": None, "seen": None}, "neither unseen nor seen names a class"),
        ({"published": [{"mAP@200": 50}]}, 'expected rows with "method"'),
    ],
)
def test_a_wrong_protocol_is_refused_in_one_line(changed, changes, message):
    """The line names the file, the field, its value and what is valid."""
    path = changed(**{"name": "mine", **changes})
    with pytest.raises(BadArgument, match=message) as caught:
        load_protocol(path)
    assert path in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_field_and_an_unknown_name_are_one_line(tmp_path):
    """The field is named; a mistyped protocol gets its nearest."""
    (tmp_path / "empty.json").write_text("{}")
    with pytest.raises(BadArgument, match="empty.json: name is missing"):
        load_protocol(str(tmp_path / "empty.json"))
    with pytest.raises(BadArgument, match="did you mean 'quickdraw_ext'"):
        load_protocol("quickdraw_ex")
