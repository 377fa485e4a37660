"""Settings of the site; ``make docs`` builds it.

Its pages are the documents of the repository where they lie, so a link between two of them works on
the site and in the repository alike. A link to any other file becomes a copy of that file.
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from textwrap import shorten
from typing import Any

from committee import __version__

DOCS = Path(__file__).parent

project = "committee"
author = "the committee developers"
version = release = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
root_doc = "docs/index"
include_patterns = [
    "docs/**", "examples/*/README.md", "benchmarks/*/README.md", "benchmarks/results/*.md",
    "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md",
]  # fmt: skip
exclude_patterns = [".*", "docs/site", "docs/schemas", "site", "src", "tests"]

# What the sidebar lists.
CONTENTS = {
    "Start": [
        "From the demo to your own models <start>",
        "What to expect <expect>",
        "Which one? <which_one>",
        "Playground <playground>",
        "Glossary <glossary>",
    ],
    "Tutorials": [
        "From arrays to a certified cascade <arrays_to_cascade>",
        "From ONNX models to a server <onnx_to_cascade>",
        "ImageNet, fourteen models </examples/imagenet/README>",
    ],
    "How-to": [
        "Cut the bill of one model <cut_the_bill>",
        "Certify <certify>",
        "Images and other samples <data>",
        "The pool file <pools>",
        "Models and their sources <sources>",
        "Texts, tables, arrays <records>",
        "Language models and services <language_models>",
        "Outputs you already have <import>",
        "scikit-learn <scikit_learn>",
        "Run <running>",
        "Serve <serving>",
        "Scale out with Ray <scale>",
        "Alarms without labels <alarms>",
        "Export <export>",
        "Segmentation <segmentation>",
        "Video <video>",
        "Self-cascades <self_cascades>",
        "Calibration <calibration>",
        "The report <report>",
        "The study <study>",
    ],
    "Explanations": [
        "The method on one page <method>",
        "The winner's curse <winners_curse>",
        "Promises <promises>",
        "Exact search <search>",
        "Costs <costs>",
    ],
    "Reference": [
        "Python API <api>",
        "Command line <cli>",
        "File formats <formats>",
        "The store <store>",
        "Metrics <metrics>",
        "Environment variables <environment>",
    ],
    "Findings and rivals": [
        "Everything that was measured <measured>",
        "Rivals <rivals>",
        "The paper's findings <findings>",
        "Multiply-adds <multiply_adds>",
        "/benchmarks/results/*",
        "/benchmarks/*/README",
        "/examples/*/README",
    ],
    "Coming from": ["Other tools <coming_from>"],
    "Project": ["/CHANGELOG", "/CONTRIBUTING", "/ARCHITECTURE"],
}

html_theme = "furo"
html_title = "committee: model cascades"
html_favicon = "site/static/icon.svg"
html_static_path = ["site/static"]
html_css_files = ["style.css"]
html_extra_path = ["site/root"]  # what opens in the folder of the site
html_copy_source = False
html_show_sphinx = html_show_copyright = False
html_theme_options = {"navigation_with_keys": True, "footer_icons": []}
pygments_dark_style = "github-dark"

nb_execution_mode = "off"  # make notebooks runs them; a test runs them too
myst_enable_extensions = ["attrs_block", "deflist"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # cli.md begins with a heading of another level

autodoc_mock_imports = ["sklearn"]
autodoc_preserve_defaults = True
autodoc_type_aliases = {"Array": "Array", "ArrayLike": "ArrayLike"}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autoclass_content = "class"
napoleon_numpy_docstring = False


def contents() -> str:
    """Return the sidebar's lists, as directives at the end of the first page."""
    lists = [
        f"```{{toctree}}\n:hidden:\n:glob:\n:caption: {caption}\n\n{chr(10).join(pages)}\n```\n"
        for caption, pages in CONTENTS.items()
    ]
    return "\n".join(["", *lists])


def add_contents(_app: Any, page: str, source: list[str]) -> None:
    """Add the sidebar's lists to the first page; in the repository it has none."""
    if page == root_doc:
        source[0] += contents()


def add_description(
    _app: Any, _page: str, _template: str, context: dict[str, Any], document: Any
) -> None:
    """Give search engines the first paragraph of a page as its description."""
    from docutils import nodes

    first = None if document is None else document.next_node(nodes.paragraph)
    if first is not None:
        text = shorten(first.astext(), 300, placeholder=" …")
        context["metatags"] += f'<meta name="description" content="{escape(text)}">\n'


def shorten_types(_app: Any, _domain: str, _kind: str, content: Any) -> None:
    """Show an alias of a type by its name; Sphinx 9 shows how it refers to it."""
    from docutils import nodes

    for text in list(content.findall(nodes.Text)):
        if "TypeAliasForwardRef" in text:
            named = re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", text)
            text.parent.replace(text, nodes.Text(named))


def setup(app: Any) -> None:
    """Name what Sphinx calls while it reads and writes."""
    app.connect("source-read", add_contents)
    app.connect("html-page-context", add_description)
    app.connect("object-description-transform", shorten_types, priority=900)
