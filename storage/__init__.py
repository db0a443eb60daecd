"""Bytes of grids in and out, checksums, atomic commit, spill. Knows no tasks."""

if not __name__.startswith("chunkarr."):
    msg = "import chunkarr.storage, not storage"
    raise ImportError(msg)
