"""Every way in: the HTTP surfaces and the Lambda functions. No logic here."""

from chalice.app import Chalice

from chalicelib.forms import FORM_TYPES
from chalicelib.surfaces.documentation import documentation
from chalicelib.surfaces.health import health
from chalicelib.surfaces.models import models
from chalicelib.surfaces.projects import projects

# Logs are Powertools' alone: Chalice would print each line a second time, as plain text.
app = Chalice(app_name="model-registry", configure_logs=False)
# Forms carry archives, byte for byte; everything else we accept or answer is text.
app.api.binary_types = FORM_TYPES

documentation.surfaces = [models, projects, health, documentation]
for surface in documentation.surfaces:
    app.register_blueprint(surface)
