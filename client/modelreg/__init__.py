"""Publish, find and fetch models of a Model Registry.

with Registry("https://registry.example.org", token=...) as registry:
    model = registry.register("exported/", name="detector", version="v1")
    registry.download(model.id, "models/")
"""

from modelreg.errors import (
    Ambiguous,
    Conflict,
    ConnectionFailed,
    Corrupt,
    Forbidden,
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
from modelreg.models import Manifest, ManifestFile, Model, RegisteredModel
from modelreg.progress import Progress
from modelreg.registry import Registry

__version__ = "0.1.0"

__all__ = [
    "Ambiguous",
    "Conflict",
    "ConnectionFailed",
    "Corrupt",
    "Forbidden",
    "InvalidArchive",
    "InvalidInput",
    "LocalError",
    "Manifest",
    "ManifestFile",
    "Model",
    "NotARegistry",
    "NotFound",
    "Progress",
    "RegisteredModel",
    "Registry",
    "RegistryError",
    "SourceChanged",
    "StaleRevision",
    "Throttled",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
    "UploadClosed",
    "UploadIncomplete",
    "__version__",
]
