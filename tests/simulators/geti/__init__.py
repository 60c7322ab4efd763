"""A simulated Intel Geti server: `World` is what it holds, `GetiServer` how it answers.

    world = World()                                    # World("3") for Geti 3, whose ids are UUIDs
    project = world.project("Bottle caps", task="detection", labels=["cap"])   # chain: tasks=["detection", ...]
    group = project.group("YOLOX-S")
    model = group.train(score=0.81, active=True)       # with 4 optimized models: model["FP16"].id, model["FP16+XAI"]
    model.optimize("INT8")                             # later, under an unchanged listing, with a finished job
    model.purge(); model.delete(); project.delete(); project.rename("Caps"); project.add_label("bottle")
    model["FP16"].pack(size=1024**3)                   # or ir=folder, zip=bytes, damage="truncated": see Packing
    world.populate(projects=250, groups=3, versions=4)

    with GetiServer(world, profile="2.13", tls=make_certificate(tmp_path)) as geti:
        geti.url, geti.token                           # the only token it takes: VALID_TOKEN
        geti.fail("model_groups", 429, times=3)        # a status; after=2 lets two requests pass before
        geti.fail("deployment_package", "reset", after_bytes=1000, model=model["FP16"].id, times=1)
        geti.fail("project", "model_not_found")        # an answer by its name in ANSWERS: html, expired, no_route...
        geti.fail(status=401, after=5)                 # whatever is asked for, from the sixth on
        geti.on("code_deployment_download", model.delete)         # done just before the answer
        geti.heal()
        geti.requests, geti.counts, geti.downloads     # what was asked; `connection` tells one from another
        geti.profile = "2.10"; geti.token = token_of(bytes(32)); geti.version = "2.14.0"; geti.legacy = Legacy(...)

Ids, dates and bytes follow from seeds: the same calls make the same world. What a package holds is told by
packages.deployment(project, [model["FP16"]]).read(), or packages.binary(...) for Geti 3. Answers hold fields that
nobody knows, unless noise=False. Routes, for `fail`, `on` and `counts`:
    2.x   product_info token_organization workspaces balance projects project supported_algorithms model_groups
          model_group model export export_base deployment_package jobs; with 2.10 also code_deployments_prepare
          code_deployment code_deployment_download fileservice
    3     health openapi projects project models model binary pipeline
    both  unknown
Leaving the context raises AssertionError if a client did what none may: the token sent to the file service.

By hand: python -m tests.simulators.geti --help
"""

from tests.simulators.geti import packages
from tests.simulators.geti.answers import ANSWERS, Answer
from tests.simulators.geti.certificates import Certificate, make_certificate
from tests.simulators.geti.deployments import Legacy
from tests.simulators.geti.faults import Asked, Fault
from tests.simulators.geti.models import Group, Job, Model, Optimized
from tests.simulators.geti.packing import DAMAGES, Packing
from tests.simulators.geti.server import Download, GetiServer
from tests.simulators.geti.tokens import VALID_TOKEN, is_well_formed, token_of
from tests.simulators.geti.world import Label, Project, Task, World

__all__ = [
    "ANSWERS",
    "DAMAGES",
    "VALID_TOKEN",
    "Answer",
    "Asked",
    "Certificate",
    "Download",
    "Fault",
    "GetiServer",
    "Group",
    "Job",
    "Label",
    "Legacy",
    "Model",
    "Optimized",
    "Packing",
    "Project",
    "Task",
    "World",
    "is_well_formed",
    "make_certificate",
    "packages",
    "token_of",
]
