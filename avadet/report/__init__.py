"""A self-contained HTML page about one evaluation, or about two runs compared."""
