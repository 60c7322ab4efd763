"""Everything that is shipped to Lambda beside app.py, and nothing else."""
