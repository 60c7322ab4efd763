"""HTTP, one file per dialect or resource. A view parses, calls, answers."""
