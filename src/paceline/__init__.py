"""Paceline serves plain blocking Python over TCP on every core: worker processes × threads."""

__version__ = "0.1.0.dev0"
