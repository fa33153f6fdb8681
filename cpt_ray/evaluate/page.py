"""A page that needs nothing else: a template of this folder, `page.css` within it and figures as inline SVG."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt_ray.artifacts import places

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def page(template: str, figures: Mapping[str, Figure], **values: Any) -> str:
    """The HTML; in the template `plots` has the figures by name, and what comes from outside is escaped."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    from cpt_ray.evaluate import figures as draw

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "duration": duration,
        "size": size,
        "words": lambda name: name.replace("_", " "),
        "value": draw.shown,
    }
    here = Path(__file__).parent
    style = Markup((here / "page.css").read_text(encoding="utf-8"))
    plots = {name: Markup(draw.svg(figure, name)) for name, figure in figures.items()}
    text = (here / template).read_text(encoding="utf-8")
    return environment.from_string(text).render(style=style, plots=plots, **values)


def write(path: str, text: str) -> None:
    """Write a file that appears whole."""
    places.write(*places.locate(path), text.encode("utf-8", "replace"))


def duration(seconds: float) -> str:
    """ "0.4 s", "12 s", "3 min 05 s", "2 h 10 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(count: float) -> str:
    """Bytes in GiB or MiB."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
