"""Renderings of a `Result`: rich table, JSON, CSV, Markdown, evidence. None of them computes or prints."""
