"""Every way in: the HTTP surfaces and the Lambda functions. No logic here."""

from chalice.app import Chalice, Response

app = Chalice(app_name="model-registry")


@app.route("/health", methods=["GET"])
def health() -> Response:
    return Response('{"status":"ok"}', headers={"Content-Type": "application/json"})
