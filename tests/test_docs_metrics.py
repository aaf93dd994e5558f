"""The page about metrics says what the code does."""

import importlib.util
import pathlib

import pytest

from sbir_jax.ranking import names, presets

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "metrics.md"


@pytest.fixture(scope="module")
def maker():
    spec = importlib.util.spec_from_file_location("make_metrics", PAGE.with_name("make_metrics.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(page: str, name: str, table: str) -> list[str]:
    """The cells after the name, in one table of the page."""
    body = page.split(f"<!-- table {table} -->")[1].split("<!-- end -->")[0]
    (line,) = [line for line in body.splitlines() if line.startswith(f"| `{name}` |")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_tables_are_up_to_date(maker):
    """Running docs/make_metrics.py would not change the page."""
    page = PAGE.read_text()
    assert maker.render(page) == page, "run python docs/make_metrics.py"


def test_every_name_and_preset_is_on_the_page():
    """Whatever the command line accepts has a formula, values and users on the page."""
    page = PAGE.read_text()
    for key in names._CATALOGUE:
        name = key.format("K")
        formula, users = row(page, name, "definitions")
        assert formula
        assert users == names.define(key.format(7)).partition("; used by ")[2]
        assert len(row(page, name, "side by side")) == 4
    for name, preset in presets.PRESETS.items():
        metrics, _ = row(page, name, "presets")
        assert metrics.replace("`", "").split(", ") == list(preset.metrics)


def test_the_page_has_the_hand_worked_values():
    """Ranking 1 is relevant at ranks 1, 3, 9, 10 and ranking 2 at 2, 5, 6, 7."""
    page = PAGE.read_text()
    wanted = {
        "mAP@all": [(1 + 2 / 3 + 3 / 9 + 4 / 10) / 4, (1 / 2 + 2 / 5 + 3 / 6 + 4 / 7) / 4],
        "mAP@K/hits": [(1 + 2 / 3) / 2, (1 / 2 + 2 / 5) / 2],
        "mAP@K/min": [(1 + 2 / 3) / 4, (1 / 2 + 2 / 5) / 4],
        "mAP@K/K": [(1 + 2 / 3) / 5, (1 / 2 + 2 / 5) / 5],
        "mAP-lecture@K": [(1 + 2 / 3 + 2 / 5) / 4, (1 / 2 + 2 / 5 + 2 / 5) / 4],
        "mAP-voc@all": [(1 + 2 / 3 + 2 * 4 / 10) / 4, 4 / 7],
        "MRR": [1, 1 / 2],
    }
    for name, values in wanted.items():
        assert row(page, name, "side by side")[:2] == [f"{value:.3f}" for value in values]


def test_the_bare_name_is_refused_with_the_names_of_the_first_table():
    """`mAP@200` alone raises an error that lists every meaning that the page opens with."""
    with pytest.raises(names.MetricError) as refused:
        names.parse("mAP@200")
    table = PAGE.read_text().split("<!-- table at 200 -->")[1].split("<!-- end -->")[0]
    meanings = [
        line.split("`")[1] for line in table.splitlines() if "mAP" in line and "200" in line
    ]
    assert len(meanings) == 6
    assert all(meaning in str(refused.value) for meaning in meanings)
