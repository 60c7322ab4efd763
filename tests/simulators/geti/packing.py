"""How the package of a model is made: by default small, right, and as the version of Geti lays it out."""

from dataclasses import dataclass
from pathlib import Path

DAMAGES = ("truncated", "traversal", "bomb", "no_bin", "no_xml", "two_models", "not_zip", "empty")


@dataclass(frozen=True)
class Packing:
    """What is other than usual.

    size: of the weights, in bytes; streamed, so it may be large. ir: a folder with the model.xml and model.bin to pack.
    zip: the whole package, instead. damage, one of DAMAGES:
        truncated      the ZIP ends half-way; HTTP says nothing of it
        traversal      one more entry, `../x`
        bomb           one more entry, 32 MiB of zeros in 32 kB
        no_bin, no_xml without the weights, or the graph
        two_models     a second graph with weights, elsewhere
        not_zip        text
        empty          no bytes at all
    """

    size: int | None = None
    ir: Path | None = None
    zip: bytes | None = None
    damage: str | None = None

    def __post_init__(self) -> None:
        if self.damage and self.damage not in DAMAGES:
            raise ValueError(f"damage is one of {', '.join(DAMAGES)}")
