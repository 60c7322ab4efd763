"""Everything that is shipped to Lambda beside app.py, and nothing else."""

# Of the API; the same as in pyproject.toml.
__version__ = "0.1.0"
