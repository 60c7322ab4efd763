"""Publish, find and fetch models of a Model Registry.

with Registry("https://registry.example.org", token=...) as registry:
    model = registry.register("exported/", name="detector", version="v1")
    registry.download(model.id, "models/")

Names are imported when they are first used (PEP 562): the command shows its help without waiting for httpx.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelreg.errors import (
        Ambiguous,
        BrokenTrail,
        Conflict,
        ConnectionFailed,
        Corrupt,
        Forbidden,
        IdempotencyKeyReused,
        InProgress,
        InvalidArchive,
        InvalidInput,
        LocalError,
        NotARegistry,
        NotFound,
        RegistryError,
        SourceChanged,
        StaleRevision,
        Throttled,
        TooLarge,
        Unauthorized,
        Unavailable,
        UploadClosed,
        UploadIncomplete,
    )
    from modelreg.geti_models import (
        Check,
        GetiGroup,
        GetiModel,
        GetiProject,
        GetiVersion,
        Import,
        Importable,
        ImportedModel,
        SyncCounts,
        SyncRun,
        SyncStatus,
        ToldModel,
    )
    from modelreg.models import (
        Checkpoint,
        Decision,
        Event,
        Manifest,
        ManifestFile,
        Model,
        NewToken,
        Project,
        RegisteredModel,
        Token,
    )
    from modelreg.progress import Progress
    from modelreg.registry import Registry

__version__ = "0.1.0"

__all__ = [
    "Ambiguous",
    "BrokenTrail",
    "Check",
    "Checkpoint",
    "Conflict",
    "ConnectionFailed",
    "Corrupt",
    "Decision",
    "Event",
    "Forbidden",
    "GetiGroup",
    "GetiModel",
    "GetiProject",
    "GetiVersion",
    "IdempotencyKeyReused",
    "Import",
    "Importable",
    "ImportedModel",
    "InProgress",
    "InvalidArchive",
    "InvalidInput",
    "LocalError",
    "Manifest",
    "ManifestFile",
    "Model",
    "NewToken",
    "NotARegistry",
    "NotFound",
    "Progress",
    "Project",
    "RegisteredModel",
    "Registry",
    "RegistryError",
    "SourceChanged",
    "StaleRevision",
    "SyncCounts",
    "SyncRun",
    "SyncStatus",
    "Throttled",
    "Token",
    "ToldModel",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
    "UploadClosed",
    "UploadIncomplete",
    "__version__",
]

_HOMES = {
    **dict.fromkeys(
        (
            "Checkpoint",
            "Decision",
            "Event",
            "Manifest",
            "ManifestFile",
            "Model",
            "NewToken",
            "Project",
            "RegisteredModel",
            "Token",
        ),
        "modelreg.models",
    ),
    **dict.fromkeys(
        (
            "Check",
            "GetiGroup",
            "GetiModel",
            "GetiProject",
            "GetiVersion",
            "Import",
            "Importable",
            "ImportedModel",
            "SyncCounts",
            "SyncRun",
            "SyncStatus",
            "ToldModel",
        ),
        "modelreg.geti_models",
    ),
    "Progress": "modelreg.progress",
    "Registry": "modelreg.registry",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "modelreg.errors")), name)


def __dir__() -> list[str]:
    return __all__
