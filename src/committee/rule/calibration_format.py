"""Calibrations in files, read with every field checked; they are written by ``to_json``."""

from __future__ import annotations

from typing import Any

from committee.errors import CalibrationError, UnknownNameError, UnreadableError
from committee.reading import typed
from committee.rule.calibration import Calibration, check_method
from committee.rule.class_calibration import CLASSES


def calibration_from_json(data: Any) -> Calibration:
    """Read what :meth:`Calibration.to_json` wrote."""
    try:
        method = data.get("method", "platt") if isinstance(data, dict) else "platt"
        check_method(method)
        return typed("calibration", data, CLASSES[method], whole=True)
    except (UnreadableError, UnknownNameError) as error:
        raise CalibrationError(str(error)) from None
