"""What the user's target speaks, as the server itself would say (`paceline serve TARGET --check`)."""

import os
import re
import subprocess
import sys

from paceline.errors import HostError, PacelineError, SettingError, TargetError, UsageError
from paceline.settings.table import TABLE
from paceline.wire import framing_from_text

_CHECKED = re.compile(r"^ok: .* is a (?:connection handler|message handler, framing (?P<framing>.+))$", re.MULTILINE)
ASK_S = 60.0


def framing_of_target(target: str) -> str:
    """The text of its framing.  Raises what is wrong with the target; UsageError when its framing must be told."""
    ours = {"PACELINE_CONFIG", *(row.variable for row in TABLE)}
    words = [sys.executable, "-P", "-m", "paceline", "serve", f"--config={os.devnull}", "--check", "--", target]
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={name: text for name, text in os.environ.items() if name not in ours},
            timeout=ASK_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"{target} could not be looked at: {error}") from None
    if done.returncode:
        raise _why_not(done.returncode, done.stderr, target)
    found = _CHECKED.search(done.stdout + done.stderr)
    text = (found["framing"] or "") if found else ""
    text = "line" if text.startswith("line,") else text  # a client's lines may end either way
    try:
        framing_from_text(text, 1 << 20)
    except SettingError:
        raise UsageError(
            f"how the replies of {target} are cut out of the bytes is not known "
            f"({text or 'it is a connection handler'}); give it: --framing line, or another one"
        ) from None
    return text


def _why_not(code: int, said: str, target: str) -> PacelineError:
    lines = [line for line in said.splitlines() if "cannot start: " in line or line.startswith("paceline: ")]
    why = re.sub(r"^(paceline: |.* cannot start: )", "", lines[-1]) if lines else said.strip() or f"exit code {code}"
    return {2: UsageError, 3: TargetError}.get(code, HostError)(f"{target} cannot be served: {why}")
