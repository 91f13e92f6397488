"""What the targets share: an oracle is a function of bytes that raises when they make something go wrong.

    pip install -e '.[fuzz]'
    python fuzz/framings.py -max_total_time=60          # any option of libFuzzer: -runs=N, -seed=N, a corpus folder

atheris (libFuzzer) makes up the bytes: it keeps those that reach code that none before them has reached.  It starts
from fuzz/corpus, a folder for each target, and from what it has found so far, in build/fuzz; bytes for which something
went wrong go into the corpus, and stay.  An input that takes over half a second of the processor, or more memory than
1 GiB, counts as wrong.
Without atheris the corpus alone is tried.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from paceline.clock import process_cpu

Oracle = Callable[[bytes], None]

BOUNDS = ("-timeout=20", "-rss_limit_mb=1024", "-max_len=512", "-print_final_stats=1")
"""Of each run, unless the command line says otherwise."""


MOST_CPU_S = 0.5
"""For one input.  A clock on the wall would tell how busy the machine is."""


def corpus(target: str) -> list[Path]:
    return sorted((Path(__file__).parent / "corpus" / target).iterdir())


def run(target: str, oracle: Oracle) -> None:
    """The command line of a target.  atheris ends the process itself: with 0, or with the input that was wrong."""
    for path in corpus(target):
        oracle(path.read_bytes())

    def timed(content: bytes) -> None:
        begun_s = process_cpu()
        oracle(content)
        took_s = process_cpu() - begun_s
        assert took_s <= MOST_CPU_S, f"it took {took_s:.2f} s of the processor"

    try:
        import atheris  # type: ignore[import-untyped]
    except ImportError:
        print(f"{target}: the corpus is fine; to go on from there, pip install atheris", file=sys.stderr)
        return
    atheris.instrument_all()
    folders = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    if not folders:
        folders = [str(Path(__file__).parents[1] / "build" / "fuzz" / target)]
        Path(folders[0]).mkdir(parents=True, exist_ok=True)
    options = [argument for argument in sys.argv[1:] if argument.startswith("-")]
    # What is found goes into the first folder.
    atheris.Setup([sys.argv[0], *BOUNDS, *options, *folders, str(corpus(target)[0].parent)], timed)
    atheris.Fuzz()
