"""How the service is packaged and where it is deployed; nothing here is shipped to Lambda."""
