"""The README's tables by name, each a function that makes Markdown of files in bench/results."""

from bench.tables import fields, methods, training, trust, tuning, weights

TABLES = {k: v for part in (weights, fields, training, trust, methods, tuning) for k, v in part.TABLES.items()}
