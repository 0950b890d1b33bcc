"""How Sphinx makes the site of the pages in this folder.

From the repository's top: ``python -m sphinx -W --keep-going -b html docs site``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from shutil import rmtree
from typing import Any

from docutils import nodes
from sphinx.util import logging

DOCS = Path(__file__).resolve().parent
GENERATED = DOCS / "_generated"
sys.path.insert(0, str(DOCS))

from building import links, maths, parts  # noqa: E402

import domainemo  # noqa: E402

project = "domainemo"
author = copyright = "The domainemo developers"
release = version = domainemo.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
templates_path = ["templates"]
exclude_patterns = ["_generated/gallery/*.ipynb", "templates", "building"]
default_role = "py:obj"
highlight_language = "none"
add_module_names = False  # the page of a part says where it is
suppress_warnings = ["config.cache"]  # the gallery's functions, which no cache can keep

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4

# -------------------------------------------------------------------------- docstrings

autosummary_generate = True
autosummary_generate_overwrite = True
# Another file of that name, but for its capitals, is taken.
autosummary_filename_map = {"domainemo.testing.Check": "domainemo.testing.Check-class"}
autodoc_default_options = {  # scikit-learn's, and about scikit-learn alone
    "exclude-members": "set_fit_request, set_predict_request, "
    "set_predict_proba_request, set_score_request",
}
autodoc_typehints = "none"  # types and shapes stand in the docstrings
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

# ------------------------------------------------------------------------------ gallery

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "_generated/gallery",
    "backreferences_dir": "_generated/backreferences",
    "doc_module": ("domainemo",),
    "filename_pattern": r"/plot_",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
}

# --------------------------------------------------------------------------------- HTML

html_theme = "pydata_sphinx_theme"
html_title = f"domainemo {release}"
html_static_path = ["static"]
html_extra_path = ["eegmat-study.html"]
html_show_sourcelink = False
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system is
html_copy_source = False
html_theme_options = {
    "header_links_before_dropdown": 4,
    "navigation_with_keys": False,
    "show_nav_level": 1,
    "navigation_depth": 3,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}

html_css_files = ["site.css"]
html_math_renderer = "mathml"


def _formula(writer: Any, node: nodes.math) -> None:
    """Write a formula in a sentence."""
    _write(writer, node, '<span class="math">', "</span>")


def _displayed(writer: Any, node: nodes.math_block) -> None:
    """Write a formula on a line of its own."""
    _write(writer, node, '<div class="math">', "</div>\n")


def _write(writer: Any, node: nodes.Element, start: str, end: str) -> None:
    block = isinstance(node, nodes.math_block)
    try:
        formula = maths.mathml(node.astext(), block=block)
    except maths.MathError as error:
        warn = logging.getLogger(__name__).warning
        warn("%s In the formula %r.", error, node.astext(), location=node)
        formula = writer.encode(node.astext())
    writer.body.append(f"{start}{formula}{end}")
    raise nodes.SkipNode


# ------------------------------------------------------------------------------- pages


def _write_pages(*_: object) -> None:
    """Write what is no page yet: of parts, and of the repository's top."""
    texts = {f"parts/{name}.rst": text for name, text in parts.pages().items()}
    for name in links.ABOVE:
        above = (DOCS.parent / name).read_text(encoding="utf-8")
        texts[f"repository/{name}"] = links.moved(above)
    # What was made of a part, a name or an example that is no more would be read again.
    rmtree(GENERATED / "api", ignore_errors=True)
    made = {GENERATED / name for name in texts}
    examples = {path.stem for path in DOCS.parent.glob("examples/*.py")}
    for old in {*GENERATED.glob("parts/**/*.rst")} - made:
        old.unlink()
    for old in GENERATED.glob("gallery/plot_*.rst"):
        if old.stem not in examples:
            old.unlink()
    for name, text in texts.items():
        path = GENERATED / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # A file that is as it was is not read again.
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


_NAMING = {
    "methods": "adapter",
    "validators": "validator",
    "datasets": "dataset",
    "protocols": "protocol",
    "controls": "control",
}
"""Pages on which a part's name leads to its page, and the kind of part."""


def _turn_links(app: Any, name: str, text: list[str]) -> None:
    """Turn the links of a page that leave this folder, and add those it lacks."""
    if name.startswith("_generated/"):
        return
    text[0] = links.from_docs(text[0])
    if name in _NAMING:
        text[0] = links.to_parts(text[0], parts.places(_NAMING[name]))
    if name == "guide":
        text[0] = links.toctrees(text[0])


def setup(app: Any) -> None:
    """Have Sphinx call the functions above."""
    app.add_html_math_renderer("mathml", (_formula, None), (_displayed, None))
    app.connect("config-inited", _write_pages)
    app.connect("source-read", _turn_links)
