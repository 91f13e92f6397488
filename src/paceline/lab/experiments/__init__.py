"""One question a file; catalogue.py says in which order the lesson asks them."""
