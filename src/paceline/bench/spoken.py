"""The framing that a run speaks, from its text: one in the box, or the user's own, `module:attribute`."""

from paceline.wire import Framing, as_framing, framing_from_text
from paceline.wire.parse import FORMS
from paceline.worker.target import load_target


def is_ours(text: str) -> bool:
    """Whether it is one in the box."""
    word, _, rest = text.partition(":")
    return word in FORMS or not rest


def framing_of(text: str, max_message: int) -> Framing:
    """Loads it, if it is the user's.  Raises SettingError, TargetError; what the user's code raises passes through."""
    return framing_from_text(text, max_message) if is_ours(text) else as_framing(load_target(text), max_message)
