"""The same deployment against LocalStack, which runs in Docker."""
