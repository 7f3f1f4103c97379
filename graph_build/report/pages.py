"""Fills the templates of the reports: self-contained HTML pages without scripts, in light or dark mode.

Templates are read through the package, so that they are also found if the package is in a zip.
"""

from functools import cache
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

PACKAGE = "graph_build.report"


def render_page(template: str, package: str = PACKAGE, **values: Any) -> str:
    """Fill one template.

    Args:
        template: the file name of the template, e.g. "graph.html.j2".
        package: the package whose folder `templates` holds the template. A template of another package may extend and
            import those of this one.
        values: the template's variables. `terms` (term → meaning) is listed at the foot of every page.
    """
    return environment(package).get_template(template).render(values)


@cache
def environment(package: str = PACKAGE) -> Environment:
    """Return the template environment of a package; everything that a template prints is escaped."""
    result = Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in dict.fromkeys((package, PACKAGE))]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    result.filters |= {"count": _count, "percent": _percent, "fixed": _fixed}
    result.globals["term"] = _term
    return result


def _count(value: float | None) -> str:
    return "–" if value is None else f"{int(value):,}"


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:.{digits}%}"


def _fixed(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


@pass_context
def _term(context: Context, name: str, text: str | None = None) -> Markup:
    """Return a term with its meaning as a tooltip."""
    return Markup('<abbr title="{}">{}</abbr>').format(context["terms"][name], text or name)
