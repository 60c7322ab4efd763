"""The domain of the Model Registry. It knows neither AWS nor HTTP: stdlib and pydantic only."""
