"""A plot as the text of an SVG element, by matplotlib (figures.py), which need not be installed for anything else.

The same plot gives the same text, byte for byte: no date, no random names.  Its words stay words, in the font of the
page, which has Chinese letters.  Colours are variables that the page sets (style.py), so that one picture is right on
light and on dark ground; alone, it is as on light ground.  A title and a description are for who cannot see it.
"""

import io
import re
import warnings
from xml.sax.saxutils import escape

from paceline.errors import HostError
from paceline.lab.plots import Plot
from paceline.lab.style import LIGHT
from paceline.lab.wording import in_words


def svg(plot: Plot, language: str) -> str:
    """The plot as an SVG element.  Raises HostError when matplotlib is not installed."""
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_svg import FigureCanvasSVG
    except ImportError as error:
        raise HostError(f"drawing needs matplotlib: pip install 'paceline[lab]' ({error})") from None
    from paceline.lab.figures import figure_of
    from paceline.lab.layout import SETTINGS

    drawn = io.StringIO()
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)  # the reader has it
        mpl.rcdefaults()  # whatever the user's matplotlibrc says
        mpl.rcParams.update(SETTINGS)
        mpl.rcParams["svg.hashsalt"] = in_words(plot, language)  # names in it are its own, on a page with others
        figure = figure_of(plot, language)
        FigureCanvasSVG(figure)
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    return _finished(drawn.getvalue(), plot, language)


def _finished(text: str, plot: Plot, language: str) -> str:
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # several pictures stand on one page, and these names are no links
    text = re.sub(r"\s*<!--.*?-->", "", text, flags=re.DOTALL)  # each text once more
    # In its style alone: a word may look like a colour.
    text = re.sub(r'style="[^"]*"', lambda found: _with_variables(found[0]), text)
    head, rest = text.split(">", 1)
    head = re.sub(r' (?:width|height)="[^"]*"', "", head)
    words = f"\n <title>{escape(plot.title[language])}</title>\n <desc>{escape(in_words(plot, language))}</desc>"
    return "\n".join(line.rstrip() for line in f'{head} role="img">{words}{rest}'.splitlines()) + "\n"


def _with_variables(style: str) -> str:
    for name, color in LIGHT.items():
        style = style.replace(color, f"var(--{name}, {color})")
    return style.replace("'DejaVu Sans'", "var(--font, sans-serif)")
