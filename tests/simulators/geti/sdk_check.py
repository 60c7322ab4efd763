"""Whether geti-sdk, a client that others wrote, takes the simulator for a Geti.

    python -m tests.simulators.geti.sdk_check

Run by hand, no part of any test run: geti-sdk brings 795 MB. Needs geti-sdk 2.13.1 in the environment it runs in.
"""

import importlib.util
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from tests.simulators.geti import GetiServer, Model, World, make_certificate

HOW = "geti-sdk is not here. It takes 795 MB; in an environment of its own: pip install geti-sdk==2.13.1 cryptography"


def main() -> int:
    if importlib.util.find_spec("geti_sdk") is None:
        print(HOW, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        certificate = make_certificate(Path(folder))
        os.environ["REQUESTS_CA_BUNDLE"] = str(certificate.authority)
        world = World()
        models = _fill(world)
        # It stops at fields that it does not know.
        with GetiServer(world, "2.13", tls=certificate, noise=False) as geti:
            _check(geti, models)
    print("geti-sdk lists the projects, reads the models and loads the deployments of the simulator.")
    return 0


def _fill(world: World) -> list[Model]:
    """Models of a project with one task, and of a chain."""
    single = world.project("Bottle caps", "detection", ["cap"])
    group = single.group("YOLOX-S")
    group.train(score=0.5, purged=True)
    model = group.train(score=0.81, active=True)
    model.optimize("INT8")
    chain = world.project("Chain", tasks=["detection", "classification"], labels=["cap", "bottle"])
    parts = [chain.group(name, task).train(active=True) for task, name in enumerate(("SSD", "EfficientNet-B0"))]
    return [model, *parts]


def _check(geti: GetiServer, models: list[Model]) -> None:
    from geti_sdk import Geti  # type: ignore[import-not-found]

    warnings.simplefilter("ignore")
    sdk = Geti(host=geti.url, token=geti.token)
    projects = {project.id: project for project in sdk.projects}
    assert set(projects) == {model.group.project.id for model in models}, "It lists other projects."
    for model in models:
        _check_model(sdk, projects[model.group.project.id], model)


def _check_model(sdk: Any, project: Any, model: Model) -> None:
    from geti_sdk.data_models.code_deployment_info import DeploymentModelIdentifier  # type: ignore[import-not-found]
    from geti_sdk.rest_clients import DeploymentClient, ModelClient  # type: ignore[import-not-found]

    client = ModelClient(workspace_id=sdk.workspace_id, project=project, session=sdk.session)
    summaries = {one.id: one for group in client.get_all_model_groups() for one in group.models}
    details = client.update_model_detail(summaries[model.id])
    assert [one.id for one in details.optimized_models] == [one.id for one in model.optimized], "Other models."
    if len(model.group.project.tasks) == 1:
        wanted = next(one for one in details.optimized_models if one.id == model["FP16"].id)
        deploying = DeploymentClient(workspace_id=sdk.workspace_id, project=project, session=sdk.session)
        deployment = deploying._fetch_deployment([DeploymentModelIdentifier.from_model(wanted)])
        assert [one.id for one in deployment.models] == [wanted.id], "Another deployment."


if __name__ == "__main__":
    sys.exit(main())
