"""A real trained network, from its publisher to an inference, through the registry. Not shipped to Lambda."""
