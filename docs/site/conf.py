"""Sphinx's settings. `build.py` lays out the pages and calls Sphinx; nothing here loads from the
network, so the site works from a folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

ROOT = Path(os.environ["DMTG_SITE_ROOT"])  # the pages are built from a copy elsewhere
sys.path.insert(0, str(ROOT))

import dmtg_lite  # noqa: E402  (what the API reference is read from)

project = "dmtg_lite"
copyright = "the dmtg_lite authors, MIT licence; the method is the paper's"
version = release = dmtg_lite.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["notebooks/img/*.md"]  # where a notebook's "how it looks" leads elsewhere

# notebooks are executed by `executed.py`, and come here with their outputs
nb_execution_mode = "off"
nb_merge_streams = True
nb_ipywidgets_js = {}  # they would come from elsewhere; stills stand for widgets
nb_render_markdown_format = "myst"
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
suppress_warnings = ["mystnb.unknown_mime_type"]  # a table's JSON beside its HTML

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
# aliases of types say nothing that a signature does not
autodoc_default_options = {"members": True, "exclude-members": "AnyFloat, Groups, Matrix, Numbers"}
python_use_unqualified_type_names = True
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_custom_sections = ["Source", ("Shapes", "params_style")]
default_role = "py:obj"  # `name` in a docstring is a name of the library, or just code

html_theme = "furo"
html_title = "dmtg_lite"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_extra_path = ["extra"]  # whole pages: what_if.html and the recorded runs
html_show_sourcelink = html_copy_source = html_show_search_summary = False
html_math_renderer = "mathml"
pygments_style, pygments_dark_style = "a11y-high-contrast-light", "a11y-high-contrast-dark"
copybutton_exclude = ".linenos, .gp, .go"


def _write_math(translator: Any, node: nodes.Element) -> None:
    """An equation as MathML, which browsers draw themselves: no script, no fonts."""
    is_block = isinstance(node, nodes.math_block)
    tag = "div" if is_block else "span"
    translator.body.append(translator.starttag(node, tag, "", CLASS="math"))
    translator.body.append(tex2mathml(node.astext(), as_block=is_block) + f"</{tag}>")
    raise nodes.SkipNode


def _drop_builtins(app: Any, env: Any) -> None:
    """Sphinx 9.0 lists modules without a source (``builtins``) among the sources, with no page."""
    env._viewcode_modules = {name: found for name, found in env._viewcode_modules.items() if found}


def setup(app: Any) -> None:
    app.connect("env-check-consistency", _drop_builtins)
    app.add_html_math_renderer("mathml", (_write_math, None), (_write_math, None))
