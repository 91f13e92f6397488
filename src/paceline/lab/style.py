"""How the report looks: big on a projector, one column on a phone, light and dark as the reader prefers.  Pure.

Pictures have the same colours (drawing.py), as variables: a browser puts in those of light or of dark ground.
"""

COLORS = {  # the page's variable: on light ground, on dark ground
    "ground": ("#ffffff", "#0d1117"),
    "panel": ("#f4f6f8", "#161b22"),
    "grid": ("#d1d9e0", "#3d444d"),
    "ink": ("#1f2328", "#f0f6fc"),
    "quiet": ("#59636e", "#9aa4af"),
    "series-0": ("#0969da", "#4493f8"),
    "series-1": ("#cf5b00", "#ed5a20"),
    "series-2": ("#0b4a3f", "#3ddc97"),
    "series-3": ("#e55fa8", "#f062b0"),
    "series-4": ("#4f2078", "#d2bdff"),
    "series-5": ("#79330e", "#f4ca16"),
}
"""Those of series are told apart by who does not see red, green or blue, too; each has a contrast of 3 with its ground,
and words (ink, quiet) of 4.5."""
LIGHT = {name: light for name, (light, _) in COLORS.items()}

_EXTRA = {  # a verdict's: held, did not hold, too little was measured
    "held": ("#1a7f37", "#3fb950"),
    "not-held": ("#b54708", "#f0883e"),
    "unknown": ("#59636e", "#9aa4af"),
}
_VARIABLES = {**COLORS, **_EXTRA}

_FONT = """system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'PingFang SC', 'Microsoft YaHei',
    'Noto Sans CJK SC', 'Source Han Sans SC', 'WenQuanYi Micro Hei', sans-serif"""
_CODE_FONT = "ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def _variables(at: int) -> str:
    return " ".join(f"--{name}: {pair[at]};" for name, pair in _VARIABLES.items())


STYLE = f"""
:root {{ color-scheme: light dark; --font: {_FONT};
  {_variables(0)} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_variables(1)} }} }}
""" + """
* { box-sizing: border-box; }
html { font-size: clamp(16px, 12px + .45vw, 26px); scroll-behavior: smooth; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 1.05rem/1.65 var(--font); }
main { max-width: 56rem; margin: 0 auto; padding: 0 1.15rem 4rem; overflow-wrap: anywhere; }
a { color: inherit; }
h1 { font-size: clamp(1.75rem, 5vw, 2.9rem); line-height: 1.15; margin: 0; letter-spacing: -.015em;
  text-wrap: balance; }
h2 { font-size: clamp(1.4rem, 4vw, 2rem); line-height: 1.25; margin: .15rem 0 .9rem; letter-spacing: -.01em;
  text-wrap: balance; }
h3 { font-size: .85rem; margin: 0; font-weight: 650; color: var(--quiet); letter-spacing: .03em; }
:lang(zh) h1, :lang(zh) h2 { letter-spacing: 0; }
.over, h2.over { font-size: .85rem; line-height: inherit; font-weight: 650; color: var(--quiet); margin: 0;
  letter-spacing: .03em; }
header { padding: 3.2rem 0 0; }
header .lead { font-size: 1.2rem; color: var(--quiet); margin: .9rem 0 1.6rem; max-width: 42rem; text-wrap: pretty; }
.count { display: flex; flex-wrap: wrap; gap: .5rem; padding: 0; margin: 0 0 1.6rem; list-style: none; }
.count li { display: flex; align-items: center; gap: .5rem; padding: .25rem .9rem .25rem .35rem; border-radius: 2rem;
  background: var(--panel); border: 1px solid var(--grid); font-size: .95rem; }
.mark { flex: none; display: inline-grid; place-items: center; width: 1.5em; height: 1.5em; border-radius: 50%;
  background: var(--of); color: var(--ground); font-weight: 800; font-size: .9em; line-height: 1; }
.held { --of: var(--held); } .not-held { --of: var(--not-held); } .unknown { --of: var(--unknown); }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 15rem), 1fr)); gap: .7rem 1.6rem;
  margin: 0; padding: 1.1rem 1.25rem; border-radius: .7rem; background: var(--panel); border: 1px solid var(--grid);
  font-size: .95rem; line-height: 1.4; }
.facts dt { color: var(--quiet); font-size: .82rem; } .facts dd { margin: 0; }
nav { margin: 2rem 0 0; }
nav ol { list-style: none; padding: 0; margin: .5rem 0 0; border-top: 1px solid var(--grid); }
nav a { display: grid; grid-template-columns: auto 1fr auto; gap: .2rem .9rem; align-items: center;
  padding: .6rem .4rem; text-decoration: none; border-bottom: 1px solid var(--grid); line-height: 1.35; }
nav a:hover, nav a:focus-visible { background: var(--panel); }
nav .said { color: var(--of); font-size: .9rem; font-weight: 600; text-align: right; }
section { margin-top: 3.4rem; padding-top: 2.4rem; border-top: 1px solid var(--grid); scroll-margin-top: 0; }
section > p { text-wrap: pretty; }
.prediction, .verdict { margin: 1.5rem 0; padding: 1rem 1.25rem; border-radius: .7rem; background: var(--panel); }
.prediction { border: 1px dashed var(--quiet); }
.prediction p, .verdict p { margin: .25rem 0 0; text-wrap: pretty; }
.verdict { border: 1px solid var(--of); border-left-width: .45rem; }
.verdict h3 { display: flex; align-items: center; gap: .6rem; font-size: 1rem; color: var(--of); }
.verdict p { font-size: 1.25rem; line-height: 1.5; margin-top: .5rem; }
.cut { border-left: .3rem solid var(--not-held); padding-left: .9rem; font-weight: 600; }
figure { margin: 2.2rem 0; } figcaption { font-weight: 650; margin-bottom: .5rem; line-height: 1.35; }
.wide { overflow-x: auto; background: /* a shadow at the side where there is more */
  linear-gradient(to right, var(--ground) 40%, transparent) left / 2.5rem 100% no-repeat local,
  linear-gradient(to left, var(--ground) 40%, transparent) right / 2.5rem 100% no-repeat local,
  linear-gradient(to right, var(--grid), transparent) left 2px top / .8rem 100% no-repeat scroll,
  linear-gradient(to left, var(--grid), transparent) right 2px top / .8rem 100% no-repeat scroll; }
figure svg { display: block; width: 100%; min-width: 34rem; height: auto; }
details { margin: 1.1rem 0; }
summary { cursor: pointer; font-weight: 600; padding: .25rem 0; }
summary:focus-visible, a:focus-visible, .wide:focus-visible { outline: 2px solid var(--series-0); outline-offset: 2px; }
pre { margin: .6rem 0; padding: 1rem 1.15rem; overflow-x: auto; background: var(--panel); border: 1px solid var(--grid);
  border-radius: .7rem; font: .82rem/1.55 @code; tab-size: 4; overflow-wrap: normal; }
pre b { color: var(--series-0); font-weight: 650; } pre i { color: var(--held); font-style: normal; }
pre em { color: var(--quiet); }
table { border-collapse: collapse; font-size: .92rem; line-height: 1.4; min-width: 60%;
  font-variant-numeric: tabular-nums; }
th, td { padding: .4rem 1.4rem .4rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--grid);
  overflow-wrap: normal; min-width: 4.5rem; }
thead th { color: var(--quiet); font-weight: 600; border-bottom-width: 2px; } tbody th { font-weight: inherit; }
tr > :first-child { min-width: 7.5rem; } tr > :last-child { padding-right: 0; }
.number { text-align: right; white-space: nowrap; } th.number { white-space: normal; }
.note { color: var(--quiet); font-size: .92rem; }
.up { margin: 1rem 0 0; font-size: .92rem; } .up a { color: var(--quiet); }
@media (max-width: 40rem) {
  header { padding-top: 1.8rem; } .facts { padding: .9rem 1rem; grid-template-columns: 1fr 1fr; gap: .6rem 1rem; }
  nav a { grid-template-columns: auto 1fr; } nav .said { grid-column: 2; text-align: left; }
  .verdict p { font-size: 1.12rem; } section { margin-top: 2.4rem; padding-top: 1.8rem; }
  figure svg { min-width: 46rem; } .prediction, .verdict { padding: .85rem 1rem; }
}
@media print {
  body { font-size: 10.5pt; } header { padding-top: 0; } .up { display: none; }
  figure, .verdict { break-inside: avoid; }
  h2, h3, figcaption { break-after: avoid; } figure svg { min-width: 0; } .wide, pre { overflow: visible; }
  details::details-content { display: block; content-visibility: visible; height: auto; } pre { white-space: pre-wrap; }
}
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
""".replace("@code", _CODE_FONT)
