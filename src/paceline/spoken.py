"""The framing that a client speaks, from its text: one in the box, or the user's own, `module:attribute`."""

from paceline.errors import PacelineError
from paceline.wire import Framing, as_framing, framing_from_text
from paceline.wire.contained import at_fault, contained
from paceline.wire.parse import FORMS
from paceline.worker.target import load_target


def is_ours(text: str) -> bool:
    """Whether it is one in the box."""
    word, _, rest = text.partition(":")
    return word in FORMS or not rest


def framing_of(text: str, max_message: int) -> Framing:
    """Loads it, if it is the user's.  Raises SettingError, TargetError; UsageError: the user's module raised."""
    if is_ours(text):
        return framing_from_text(text, max_message)
    try:
        loaded = load_target(text)
    except PacelineError:
        raise
    except Exception as error:  # whatever the user's code raises
        raise at_fault(text, "import", error) from error
    return contained(as_framing(loaded, max_message), text)
