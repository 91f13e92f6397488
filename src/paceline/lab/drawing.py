"""A plot as the text of an SVG element, by matplotlib (figures.py), which need not be installed for anything else.

The same plot gives the same text, byte for byte: no date, no random names.  Its words stay words, in the font of the
page, which has Chinese letters.  Colours are variables that the page sets (style.py), so that one picture is right on
light and on dark ground; alone, it is as on light ground.  A title and a description are for who cannot see it.
"""

import io
import re
import warnings
import zlib
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
    words = f"\n<title>{escape(plot.title[language])}</title>\n<desc>{escape(in_words(plot, language))}</desc>"
    return f'{head} role="img">{words}{_smaller(rest)}'


def _smaller(text: str) -> str:
    """Without what is not seen, as exact as eyes are, each style once: a third of it."""
    text = re.sub(r'<path d="[^"]*" style="fill: none"/>', "", text)  # neither filled nor a line
    text = re.sub(r' transform="rotate\(-0 [^"]*"', "", text)
    # A number with a fraction of three digits or more, in a tag; texts have none that are inside < and >.
    text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"-?\d+\.\d{3,}", _rounded, " ".join(tag[0].split())), text)
    text = _without_bare_groups(text)
    text = re.sub(r"\s*\n\s*", "\n", text)
    styles = dict.fromkeys(re.findall(r' style="([^"]*)"', text))
    names = {style: f"s{zlib.crc32(style.encode()):x}" for style in styles}  # other pictures have the same by the same
    text = re.sub(r' style="([^"]*)"', lambda style: f' class="{names[style[1]]}"', text)
    rules = "".join(f".{name}{{{style}}}\n" for style, name in names.items())
    return text.replace("</style>", f"\n{rules}</style>", 1)


def _rounded(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _without_bare_groups(text: str) -> str:
    """A <g> that says nothing of what is in it is not needed."""
    kept: list[bool] = []

    def tag(found: re.Match[str]) -> str:
        if found[0] != "</g>":
            kept.append(found[0] != "<g>")
        return found[0] if (kept.pop() if found[0] == "</g>" else kept[-1]) else ""

    return re.sub(r"<g(?: [^>]*[^/])?>|</g>", tag, text.replace("<g/>", ""))


def _with_variables(style: str) -> str:
    for name, color in LIGHT.items():
        style = style.replace(color, f"var(--{name}, {color})")
    return style.replace("'DejaVu Sans'", "var(--font, sans-serif)")
