"""One container of a Lambda function: `python -S -P function.py bare|registry`, an event on each line of its input.

It answers each event with a line of JSON: how long it took. The first one includes the imports, as the first request
to a new container does. Nothing is imported here beside what Lambda's own runtime imports too; hence no
annotations, whose types would have to be.
"""

import json
import os
import sys
import time


def bare_handler():
    """The least that answers a GET of one item: what the registry's cost is compared with."""
    import boto3

    dynamodb = boto3.client("dynamodb")

    def handler(event, context):
        key = {"pk": {"S": "MODEL#" + event["pathParameters"]["model_id"]}, "sk": {"S": "META"}}
        item = dynamodb.get_item(TableName=os.environ["REGISTRY_TABLE"], Key=key, ConsistentRead=True)["Item"]
        return {"statusCode": 200, "headers": {"Content-Type": "application/json"}, "body": json.dumps(item)}

    return handler


def registry_handler():
    from app import app

    return app


def serve(make_handler, answers):
    handler = None
    for line in sys.stdin:
        event = json.loads(line)
        elapsed, cpu = time.perf_counter(), time.process_time()
        handler = handler or make_handler()
        answer = handler(event, None)
        took = {"elapsed": time.perf_counter() - elapsed, "cpu": time.process_time() - cpu}
        print(json.dumps({"status": answer["statusCode"], **took}), file=answers, flush=True)


if __name__ == "__main__":
    answers = sys.stdout
    # Logs go where they cost what a log costs, and nothing else.
    with open(os.devnull, "w") as sys.stdout:  # noqa: PTH123 - pathlib would be imported before the clock starts
        serve({"bare": bare_handler, "registry": registry_handler}[sys.argv[1]], answers)
