"""Steps in, results out: budget, state machine, executors. Knows bytes, not NumPy's names."""

if not __name__.startswith("chunkarr."):
    msg = "import chunkarr.scheduler, not scheduler"
    raise ImportError(msg)
