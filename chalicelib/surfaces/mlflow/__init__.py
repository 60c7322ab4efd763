"""MLflow's REST API, as its unmodified clients speak it (docs/mlflow.md)."""
