"""Every way in: HTTP, whose paths chalicelib/routing.py has, and the other Lambda functions. No logic here."""

from typing import Any

from chalice.app import Chalice, CloudWatchEvent, SQSEvent

from chalicelib.forms import BINARY_TYPES
from chalicelib.routing import Routes
from chalicelib.wiring import bootstrapped, checkpointed, examined, swept
from chalicelib.wiring_geti import imported, synced
from chalicelib.wiring_mlflow import run_errand

# Logs are Powertools' alone: Chalice would print each line a second time, as plain text.
app = Chalice(app_name="model-registry", configure_logs=False)
app.api.binary_types = [*BINARY_TYPES]
app.routes = Routes(app)


@app.schedule("rate(1 hour)", name="sweep")
def sweep(event: CloudWatchEvent) -> dict[str, int]:
    return swept(event.context.get_remaining_time_in_millis)


@app.schedule("cron(17 2 * * ? *)", name="checkpoint")
def checkpoint(event: CloudWatchEvent) -> dict[str, int]:
    return checkpointed(event.context.get_remaining_time_in_millis)


@app.schedule("rate(15 minutes)", name="sync")
def sync(event: CloudWatchEvent) -> dict[str, Any]:
    return synced(event.detail, event.context.get_remaining_time_in_millis)


# Chalice wants to know the queue before there is one; infra/resources.yaml puts its own here.
@app.on_sqs_message(
    queue_arn="arn:aws:sqs:us-east-1:000000000000:set-by-the-template", batch_size=1, name="import_model"
)
def import_model(event: SQSEvent) -> None:
    imported(next(iter(event)).body, event.context.get_remaining_time_in_millis)


@app.on_sqs_message(queue_arn="arn:aws:sqs:us-east-1:000000000000:set-by-the-template", batch_size=1, name="errand")
def errand(event: SQSEvent) -> None:
    run_errand(next(iter(event)).body, event.context.get_remaining_time_in_millis)


@app.lambda_function(name="bootstrap")
def bootstrap(event: dict[str, object], _context: object) -> dict[str, str]:
    return bootstrapped(event)


@app.lambda_function(name="doctor")
def doctor(event: dict[str, object], context: Any) -> dict[str, object]:
    return examined(event, context.get_remaining_time_in_millis)
