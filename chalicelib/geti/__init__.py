"""Models of an Intel Geti server: its client, the import of a model, the sync. Knows neither HTTP routes nor AWS."""
