"""Analyses over the warehouse: SQL in, statistics, findings, renderings. Never imports MLX."""
