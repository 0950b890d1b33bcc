"""What a report offers a paper: a paragraph on methods, and references in BibTeX."""

import re

import pytest

import domainemo as de
from domainemo.registry import entries, find
from domainemo.reports.page import Code
from domainemo.reports.paper import for_a_paper, methods_paragraph
from domainemo.reports.references import Reference, bibtex, references
from domainemo.reports.run_sections import read_run

ENTRY = re.compile(r"@misc\{(?P<key>[^,]+),\n(?P<fields>(?:  \w+ = \{.*\},\n)+)\}")


def test_a_data_set_is_cited_as_its_description_asks():
    (found,) = references("dataset", "seed-iv")
    assert found.authors[0] == "Zheng, W-L" and found.authors[-1] == "Cichocki, A"
    assert len(found.authors) == 5 and found.year == "2019"
    assert found.title == (
        "EmotionMeter: a multimodal framework for recognizing human emotions"
    )
    assert found.doi == "10.1109/TCYB.2018.2797176"
    years = [each.year for each in references("dataset", "seed")]
    assert years == ["2015", "2013"]


@pytest.mark.parametrize(
    ("kind", "name", "words", "fields"),
    [
        ("backbone", "maet", "Jiang et al.", ("2023", "10.1145/3581783.3613797", "")),
        ("backbone", "uf-ama", "Wang, Wang", ("2026", "", "2606.00170")),
        ("backbone", "r2gfanet", "Information Fusion 132, 104224", ("", "", "")),
        ("backbone", "deep-cca", "Liu, Qiu", ("", "10.1109/TCDS.2021.3071170", "")),
        ("adapter", "uf-ama", "Wang, Wang", ("", "", "2606.00170")),
        ("adapter", "dann", "Domain-adversarial training", ("2016", "", "")),
        ("dataset", "esports", "Collection and Val", ("2020", "", "2011.00958")),
    ],
)
def test_a_paper_is_found_in_the_description(kind, name, words, fields):
    found = [each for each in references(kind, name) if words in each.note]
    assert [(each.year, each.doi, each.arxiv) for each in found] == [fields]


def test_nothing_is_cited_that_no_description_names():
    for kind in ("dataset", "backbone", "adapter"):
        for entry in entries(kind):
            texts = [cls.__doc__ or "" for cls in find(kind, entry.name).__mro__]
            said = " ".join(" ".join(texts).split())
            for each in references(kind, entry.name):
                for value in (each.note, each.title, each.year, each.doi, each.arxiv):
                    assert value in said
                for author in each.authors:
                    assert author.replace(", ", " ") in said
    assert references("backbone", "concatenation-mlp") == []


def test_bibtex_has_each_paper_once_under_a_key_of_its_own():
    one = Reference("A & B, 50 %", year="2001", doi="10.1/a")
    same, other = Reference("again", doi="10.1/a"), Reference("C", arxiv="2606.00170")
    text = bibtex([("x", one), ("y", same), ("x", other)])
    found = {each["key"]: each["fields"] for each in ENTRY.finditer(text)}
    assert list(found) == ["x", "x-2"]
    assert "note = {A \\& B, 50 \\%}" in found["x"]
    assert "eprint = {2606.00170}" in found["x-2"] and "year" not in found["x-2"]
    assert not ENTRY.sub("", text).strip()


def test_the_paragraph_says_what_was_done(tmp_path):
    data = de.Simulated(subjects=2, sessions=1, trials=4, windows=(3, 4), classes=2)
    de.run(
        data.load(),
        backbone="dgcnn",
        adapter="dann+marginal",
        device="cpu",
        epochs=1,
        output=tmp_path / "run",
        modalities=["eeg"],
    )
    run = read_run(tmp_path / "run", None, "")
    text = methods_paragraph(run)
    trials = run.results.predictions[["subject", "session", "trial"]]
    for words in (
        "the network dgcnn (",
        "was trained with dann+marginal on eeg, to tell negative and positive apart",
        "2 folds and 1 seed",
        "Each training took 1 epoch (batches of 32, optimiser adamw, learning rate ",
        f"2 subjects, 2 sessions, {len(trials.drop_duplicates())} trials and ",
        "logistic regression",
        "core",
    ):
        assert words in text
    (code,) = (each for each in for_a_paper(run).blocks if isinstance(each, Code))
    keys = [each["key"] for each in ENTRY.finditer(code.text)]
    assert keys == ["dgcnn", "dann"]
    assert "the adapter marginal" in for_a_paper(run).blocks[-1]
