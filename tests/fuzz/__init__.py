"""Made-up requests: whatever is sent, the answer is one that is documented, and no parser raises what nobody foresaw.

`make test` runs a small share, always the same; `make fuzz` runs FUZZ_CASES cases, other ones each time.
"""
