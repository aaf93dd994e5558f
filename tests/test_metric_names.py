"""Exact metric names: what is read, what is refused and how, presets and the command line."""

from __future__ import annotations

import pytest

from sbir_jax.ranking import names

LEVELS = ("category", "instance")


def offered() -> list[str]:
    """The metric names that the message about an unknown one lists, with K as cut-off."""
    with pytest.raises(names.MetricError) as error:
        names.parse("?")
    return str(error.value).partition("metrics: ")[2].partition("; presets")[0].split(", ")


@pytest.mark.parametrize(
    ("name", "kind", "k", "over"),
    [
        ("mAP@all", "AP", None, "R"),
        ("mAP-voc@all", "AP-voc", None, "R"),
        ("mAP@200/hits", "AP", 200, "hits"),
        ("mAP@200/min", "AP", 200, "min"),
        ("mAP@200/K", "AP", 200, "K"),
        ("mAP@200/R", "AP", 200, "R"),
        ("mAP-voc@7/min", "AP-voc", 7, "min"),
        ("mAP-first@3", "AP-first", 3, "min"),
        ("mAP-lecture@1073741823", "AP-lecture", 2**30 - 1, "R"),
        ("MRR", "RR", None, ""),
        ("P@100", "P", 100, "K"),
        ("P@100/cut-R", "P", 100, "cut-R"),
        ("recall@5", "recall", 5, "R"),
        ("acc@1", "acc", 1, ""),
        ("R-precision", "R-precision", None, "R"),
        ("MAP@R", "MAP@R", None, "R"),
        ("nDCG@10", "nDCG", 10, ""),
        ("nDCG@all", "nDCG", None, ""),
        ("11-point", "11-point", None, ""),
    ],
)
def test_names_are_read(name, kind, k, over):
    """A name gives its kind, its cut-off and what divides."""
    assert names.parse(name) == names.Metric(name, kind, k, over)


def test_every_offered_name_has_a_definition_of_its_own():
    """No two metrics share a definition, and none forgets its cut-off."""
    assert len(offered()) == len(set(offered())) > 20
    seen = set()
    for shape in offered():
        name = shape.replace("@K", "@137")
        text = names.define(name)
        assert ("137" in text) == ("@K" in shape), name
        assert "\n" not in text and "{" not in text
        seen.add(text.partition("; used by")[0])
    assert len(seen) == len(offered())


@pytest.mark.parametrize("name", ["mAP@200", "map@200", "MAP@200", "mAP-voc@200"])
def test_a_name_papers_use_for_several_numbers_is_refused_with_them(name):
    """mAP@200 alone is refused; the message has the exact names and what each divides by."""
    with pytest.raises(names.MetricError) as error:
        names.parse(name)
    message = str(error.value)
    assert message.startswith(name) and "\n" not in message
    for exact, divisor in {
        "mAP@200/hits": "relevant items found",
        "mAP@200/min": "min(R, 200)",
        "mAP@200/K": "200",
        "mAP@200/R": "R",
        "mAP-voc@200/min": "min(R, 200), the precisions made monotone",
        "mAP-lecture@200": "R, with 1/200 for each relevant item not found",
    }.items():
        assert f"{exact} ({divisor})" in message
        names.parse(exact)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mrr", "'mrr' is not a metric or preset; did you mean MRR?"),
        ("ndcg@10", "did you mean nDCG@K?"),
        ("mAP@R", "did you mean MAP@R?"),
        ("mAP@200/mn", "did you mean mAP@K/min?"),
        ("sakee", "did you mean sake?"),
        ("zzzz", "'zzzz' is not a metric or preset; metrics: mAP@all, mAP-voc@all, mAP@K/hits"),
        ("", "'' is not a metric or preset; metrics: mAP@all"),
        ("P@{}", "'P@{}' is not a metric or preset"),
        ("P@10/min-N/x", "'P@10/min-N/x' is not a metric or preset"),
        ("P@0", "P@0: cut-off '0' is not valid; an integer from 1 to 1073741823, no leading"),
        ("P@010", "cut-off '010' is not valid"),
        ("P@-1", "cut-off '-1' is not valid"),
        ("P@1.5", "cut-off '1.5' is not valid"),
        ("P@ten", "cut-off 'ten' is not valid"),
        ("P@", "cut-off '' is not valid"),
        ("P@1073741824", "cut-off '1073741824' is not valid"),
        ("P@\u0661", "cut-off '\u0661' is not valid"),  # a digit to `int`, in Arabic
        ("mAP@all/min", "mAP@all/min: cut-off 'all' is not valid; .* as in mAP@10/min"),
    ],
)
def test_names_that_are_not_exact_are_refused_in_one_line(name, message):
    """Wrong case, wrong spelling and bad cut-offs are refused, with the nearest name."""
    with pytest.raises(names.MetricError, match=message.replace("?", r"\?")) as error:
        names.parse(name)
    assert "\n" not in str(error.value)


def test_presets_are_exact_and_name_their_source():
    """Every preset is made of exact names, at a known level, and says where it comes from."""
    for name, preset in names.PRESETS.items():
        assert preset.level in (None, *LEVELS)
        assert len(preset.source) > 20 and "\n" not in preset.source
        assert len(set(preset.metrics)) == len(preset.metrics) > 0, name
        for metric in preset.metrics:
            names.parse(metric)
    for chosen in names.STANDARD.values():
        for metric in chosen:
            names.parse(metric)


@pytest.mark.parametrize(
    ("text", "category", "instance"),
    [
        ("P@5", "P@5", "P@5"),
        ("instance/acc@1, category/mAP@200/min", "mAP@200/min", "acc@1"),
        ("P@5,mAP@all,P@5", "P@5 mAP@all", "P@5 mAP@all"),
        ("yelamarthi,instance/acc@1,P@5", "mAP@200/K P@200 P@5", "acc@1 P@5"),
        ("sketchy", "", "acc@1 acc@5 acc@10"),
        ("category/sketchy", "acc@1 acc@5 acc@10", ""),
        ("pml", "P@1 R-precision MAP@R", "P@1 R-precision MAP@R"),
        ("instance/standard,MRR", "MRR", "acc@1 acc@5 acc@10 MRR"),
    ],
)
def test_the_command_line_selects(text, category, instance):
    """Items go to the level before their slash, to their preset's, or to all; each name once."""
    assert names.select(text, LEVELS) == {
        "category": tuple(category.split()),
        "instance": tuple(instance.split()),
    }


def test_nothing_asked_is_the_standard():
    """An empty selection is the standard; a level of the user's own has that of categories."""
    assert names.select("", LEVELS) == names.select("standard", LEVELS) == dict(names.STANDARD)
    assert names.select("", ("qrels",)) == {"qrels": names.STANDARD["category"]}


@pytest.mark.parametrize(
    ("text", "levels", "message"),
    [
        ("instace/acc@1", LEVELS, "level 'instace' is not evaluated; valid: category, instance"),
        ("instance/acc@1", ("category",), "level 'instance' is not evaluated; valid: category"),
        (
            "sake",
            ("qrels", "instance"),
            "sake is for the level 'category', which is not evaluated; valid: qrels/sake, "
            "instance/sake",
        ),
        ("P@1,mAP@200", LEVELS, "mAP@200 has no one meaning"),
        ("P@1,", LEVELS, "'' is not a metric or preset"),
        ("category/sake2", LEVELS, "'sake2' is not a metric or preset; did you mean sake"),
    ],
)
def test_a_selection_that_cannot_be_met_is_refused(text, levels, message):
    """Unknown and missing levels and unknown names are refused in one line."""
    with pytest.raises(names.MetricError, match=message) as error:
        names.select(text, levels)
    assert "\n" not in str(error.value)
