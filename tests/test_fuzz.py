"""fuzz/: what each target has found stays found, and a short run from there finds nothing more.

A long one is the same command: `python fuzz/framings.py -max_total_time=600`.
"""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[1] / "fuzz"
TARGETS = sorted(path.stem for path in FUZZ.glob("*.py") if path.stem != "fuzzing")
RUNS = {"tls": 20_000}
"""Of each; of all others so many as `MANY`; together 230,000.  In tls each of them is a connection."""
MANY = 70_000

has_atheris = importlib.util.find_spec("atheris") is not None


def test_each_target_has_a_corpus() -> None:
    assert sorted(path.name for path in (FUZZ / "corpus").iterdir()) == TARGETS
    assert all(any((FUZZ / "corpus" / target).iterdir()) for target in TARGETS)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("target", TARGETS)
def test_a_target(target: str, tmp_path: Path) -> None:
    runs = RUNS.get(target, MANY)
    options = [f"-runs={runs}", f"-artifact_prefix={tmp_path}/", str(tmp_path)] if has_atheris else []
    done = subprocess.run(
        [sys.executable, FUZZ / f"{target}.py", *options],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    if has_atheris:
        assert re.search(rf"^Done {runs} runs", done.stderr, re.MULTILINE)
