"""Measurements: ``python -m benchmarks`` runs all of them and writes the figures to ``benchmarks/results``."""
