"""The site: nothing is out of reach, every part has its page, links lead somewhere."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from building import links, maths, parts

import domainemo
from domainemo import core, testing
from domainemo import sklearn as face
from domainemo.registry import KINDS, entries, find

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"


@pytest.fixture(scope="module")
def pages():
    return parts.pages()


def names(kind):
    return [entry.name for entry in entries(kind, varieties=True)]


# ------------------------------------------------------------------------------ pages


def test_every_page_is_in_the_guide_or_the_index():
    """Of the site's contents; the guide's are made of its lists of links."""
    guide = links.toctrees((DOCS / "guide.md").read_text(encoding="utf-8"))
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    trees = "\n".join(re.findall(r"(?s)```\{toctree\}\n(.*?)```", guide + index))
    listed = re.findall(r"(?m)^(?:[^:\n]*<)?([\w/-]+)>?$", trees)
    assert len(listed) == len({*listed})
    there = {path.stem for path in DOCS.glob("*.md")} - {"index"}
    assert there == {name for name in listed if not name.startswith("_generated/")}


def test_every_public_name_is_in_the_reference():
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    told = {
        name or constant
        for name, constant in re.findall(r"(?m)^(?:   (\w+)|`(\w+)`)$", text)
    }
    public = {*domainemo.__all__, *core.__all__, *testing.__all__, *face.__all__}
    assert public <= told


@pytest.mark.parametrize("kind", KINDS)
def test_every_part_has_a_page_that_its_list_leads_to(kind, pages):
    places = parts.places(kind)
    assert [*places] == names(kind)
    listed = pages[f"{kind}/index"]
    for name, place in places.items():
        path = place.removeprefix("/_generated/parts/").removesuffix(".rst")
        page = pages[path]
        assert f"\n{name}\n{'=' * len(name)}\n" in page
        file = path.partition("/")[2]
        assert f"\n* :doc:`{name} <{file}>`: " in listed
        assert f"\n   {file}\n" in listed
    kinds = {name.partition("/")[0] for name in pages if name.endswith("/index")}
    assert kinds == {*KINDS}


@pytest.mark.parametrize("kind", ["adapter", "validator"])
def test_every_method_shows_its_formula(kind, pages):
    """Those of a library are the library's; the released setup is the other's."""
    without = {"none", "uf-ama-released"}
    for name in {*names(kind)} - without:
        if not name.startswith("pytorch-adapt:"):
            assert ".. math::" in (find(kind, name).__doc__ or ""), name


def test_a_page_has_options_search_space_command_and_losses(pages):
    page = pages["adapter/dan"]
    assert "``estimate = full`` : full, unbiased or linear\n" in page
    assert "    A study searches full, unbiased.\n" in page
    assert "``--set adapter.NAME=VALUE``" in page
    assert "\n    domainemo adapt --adapter dan\n" in page
    function = "domainemo.adapters.statistics.dan.multi_kernel_discrepancy"
    assert f".. autofunction:: {function}\n" in page
    assert f":func:`~{function}`" in pages["losses"]
    # What no part's page describes stands in the list itself, and nothing twice.
    described = re.findall(r"(?m)^\.\. autofunction:: (.*)$", "\n".join(pages.values()))
    assert "domainemo.adapters.kernels.gaussian_kernel" in described
    assert len(described) == len({*described})


# ------------------------------------------------------------------------------ links


def test_links_that_leave_the_folder_lead_to_pages_and_files_of_the_site():
    text = "[a](../README.md#x) [b](other.md) `[c](../README.md)` [d](../tests)\n"
    text += "![e](../LICENSE)\n\n    [f](../README.md)\n\n```\n[g](../README.md)\n```\n"
    assert links.from_docs(text) == (
        "[a](/_generated/repository/README.md#x) [b](other.md) `[c](../README.md)` d\n"
        "![e](/../LICENSE)\n\n    [f](../README.md)\n\n```\n[g](../README.md)\n```\n"
    )
    assert links.moved("[a](docs/x.md#y) [b](https://c.d/e) [f](CHANGELOG.md)") == (
        "[a](/x.md#y) [b](https://c.d/e) [f](/_generated/repository/CHANGELOG.md)"
    )


def test_names_of_parts_lead_to_their_pages_but_in_code():
    text = "`dan` [`dan`](x.md) `other`\n\n    `dan`\n"
    assert links.to_parts(text, {"dan": "/dan.rst"}) == (
        "[`dan`](/dan.rst) [`dan`](x.md) `other`\n\n    `dan`\n"
    )


@pytest.mark.parametrize(
    "path", [*sorted(DOCS.glob("*.md")), *map(REPOSITORY.joinpath, links.ABOVE)]
)
def test_every_link_to_a_file_finds_one(path):
    """As a forge has it; headings are the site's to check."""
    text = re.sub(r"(?ms)^ *```.*?^ *```$|^ {4}[^\n]*$|`[^`\n]*`", "", path.read_text())
    for target in re.findall(r"\]\(([^()\s]+)\)", text):
        if "://" not in target and not target.startswith(("#", "/_generated/")):
            assert path.parent.joinpath(target.partition("#")[0]).exists(), target


# ----------------------------------------------------------------------------- formulas


def shown(formula):
    """Return the tags of a formula, each with the letters in it."""
    tree = ElementTree.fromstring(maths.mathml(formula, block=True))
    return [
        (each.tag.rpartition("}")[2], "".join("".join(each.itertext()).split()))
        for each in tree.iter()
    ]


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        (r"\hat y_i", [("msub", "y\u02c6i"), ("mover", "y\u02c6")]),
        (r"\hat y_i^m", [("msup", "y\u02c6im"), ("msub", "y\u02c6i")]),
        (r"\sum_{i=1}^n x_i", [("munderover", "\u2211i=1n"), ("msub", "xi")]),
        (r"\Big( x_1, \dots, x_n \Big)", [("mo", "("), ("mi", "\u2026")]),
        (r"\overline{a b}", [("mrow", "ab")]),
        (r"\tfrac12 x + \frac1{2n}", [("mfrac", "12"), ("mn", "1"), ("mfrac", "12n")]),
        (r"\mathcal H, \mathbb R", [("mi", "\u210b"), ("mi", "\u211d")]),
        ("z'_i", [("msubsup", "zi\u2032")]),
        ("f'", [("mo", "\u2032")]),
    ],
)
def test_formulas_are_set_as_latex_sets_them(formula, expected):
    assert [each for each in expected if each not in shown(formula)] == []


def test_an_accented_letter_has_nothing_below_it():
    assert not {"munder", "munderover"} & {tag for tag, _ in shown(r"\bar{p}_{k}")}


def test_an_unknown_command_is_refused():
    with pytest.raises(maths.MathError, match="nosuch"):
        maths.mathml(r"\nosuch{x}", block=False)
