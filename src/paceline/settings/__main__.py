"""`python -m paceline.settings > docs/settings.md` writes the page of the manual."""

import sys

from paceline.settings import reference

sys.stdout.write(reference())
