"""Measurements of Paceline beside its peers: `python -m benchmarks` from the project's root (README.md)."""
