"""Records in exports: inputs of a graph, the columns that feed them, records to try it on."""

from __future__ import annotations

from dataclasses import dataclass

from committee.models.graph import Port, Ports


@dataclass(frozen=True)
class RecordForm:
    """What a graph of records takes and gives."""

    inputs: Ports
    output: Port

    @property
    def rows(self) -> int | None:
        """The fixed number of samples; None for any number."""
        firsts = (port.shape[0] for port in self.inputs if port.shape)
        return next((side for side in firsts if isinstance(side, int)), None)
