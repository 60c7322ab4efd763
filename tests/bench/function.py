"""One container of a Lambda function: `python -S -P function.py KIND CALLS [count]`, an event on each line of input.

It answers each event with a line of JSON: how long it took, and how many modules there are by then. The first one
includes the imports, as the first request to a new container does. With `count` it says how many Python functions were
called instead of how long that took. Nothing is imported here beside what Lambda's own runtime imports too; hence no
annotations, whose types would have to be.
"""

import base64
import json
import sys
import time


def bare_handler(calls):
    """The least that makes the same calls of AWS: what the registry's cost is compared with."""
    import boto3

    clients = {service: boto3.client(service) for service in dict.fromkeys(service for service, _, _ in calls)}

    def handler(event, context):
        answers = [getattr(clients[service], method)(**arguments) for service, method, arguments in calls]
        return {"statusCode": 200, "body": json.dumps(answers, default=str)}

    return handler


def bare_handler_with_libraries(calls):
    """The same, where what the registry is built with is imported too, and nothing made of it."""
    import aws_lambda_powertools.metrics
    import chalice.app
    import pydantic
    import pynamodb.models

    # Both are imported on first use.
    for used in (pydantic.BaseModel, aws_lambda_powertools.Logger, chalice.app.Chalice, pynamodb.models.Model):
        assert used
    return bare_handler(calls)


def registry_handler(calls):
    from app import app

    return app


HANDLERS = {"bare": bare_handler, "libraries": bare_handler_with_libraries, "registry": registry_handler}


def arguments_of(stated):
    """Arguments of boto3, of whose values bytes are stated in base64."""
    return {
        name: base64.b64decode(value["base64"]) if isinstance(value, dict) and "base64" in value else value
        for name, value in stated.items()
    }


def serve(make_handler, calls, answers):
    handler = None
    for line in sys.stdin:
        event = json.loads(line)
        elapsed, cpu = time.perf_counter(), time.process_time()
        handler = handler or make_handler(calls)
        answer = handler(event, None)
        took = {"elapsed": time.perf_counter() - elapsed, "cpu": time.process_time() - cpu}
        print(json.dumps({"status": answer["statusCode"], **took}), file=answers, flush=True)


def count(make_handler, calls, answers):
    handler, functions = None, 0

    def called(frame, what, argument):
        nonlocal functions
        functions += what == "call"

    for line in sys.stdin:
        event, functions = json.loads(line), 0
        handler = handler or make_handler(calls)
        sys.setprofile(called)
        answer = handler(event, None)
        sys.setprofile(None)
        counted = {"functions": functions, "modules": len(sys.modules)}
        print(json.dumps({"status": answer["statusCode"], **counted}), file=answers, flush=True)


if __name__ == "__main__":
    kind, path, *counting = sys.argv[1:]
    with open(path) as stated:  # noqa: PTH123 - pathlib would be imported before the clock starts
        calls = [(service, method, arguments_of(arguments)) for service, method, arguments in json.load(stated)]
    answers = sys.stdout
    # Logs go where they cost what a log costs, and nothing else.
    with open("/dev/null", "w") as sys.stdout:  # noqa: PTH123 - likewise
        (count if counting else serve)(HANDLERS[kind], calls, answers)
