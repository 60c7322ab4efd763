"""What a run of the sync has counted, and tells by name, so far."""

from chalicelib.geti.states import MAX_TOLD, Counts, Run, Told


class Tally:
    """Begins with what the run had counted when it was kept last."""

    def __init__(self, run: Run) -> None:
        self._counts = run.counts.model_dump()
        self._skipped = list(run.skipped)
        self._failed = list(run.failed)

    def count(self, name: str, by: int = 1) -> None:
        self._counts[name] += by

    def skip(self, what: str, why: str) -> None:
        self.count("skipped")
        _tell(self._skipped, what, why)

    def fail(self, what: str, why: str) -> None:
        self.count("failed")
        _tell(self._failed, what, why)

    def on(self, run: Run) -> Run:
        """The run with these counts."""
        told = {"skipped": tuple(self._skipped), "failed": tuple(self._failed)}
        return run.model_copy(update={"counts": Counts(**self._counts), **told})


def _tell(told: list[Told], what: str, why: str) -> None:
    if len(told) < MAX_TOLD:
        told.append(Told(id=what, why=why))
