"""Benchmarks and long-running checks of szdnn: ``python -m bench COMMAND`` (see bench/README.md)."""
