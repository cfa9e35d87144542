"""Compares methods on the same sounds: measures, tables, and a page with players."""
