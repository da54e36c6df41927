"""Explanations without a server: drawn for one picture, and judged on many."""
