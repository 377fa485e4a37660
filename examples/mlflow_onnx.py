"""Log a cascade that is one ONNX file to MLflow, and load it back.

    pip install -e ".[onnx]" mlflow-skinny pandas
    committee export cascade.json --out cascade.onnx
    python examples/mlflow_onnx.py cascade.onnx

The run lies in a file store, a folder; give --uri for a server. The model is of MLflow's onnx
flavour, so whatever serves that serves the cascade; parameters and metrics are those of its file.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

# MLflow keeps file stores for those who ask for them.
os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")

import mlflow
import mlflow.onnx
import onnx

import committee

PROVIDERS = ["CPUExecutionProvider"]


def log(path: Path, name: str = "cascade") -> str:
    """Log a cascade as a run of its own; return the address of the logged model."""
    cascade = committee.load(path)
    with mlflow.start_run(run_name=str(cascade)):
        mlflow.log_params(parameters(cascade))
        mlflow.log_metrics(metrics(cascade))
        mlflow.log_dict(cascade.to_json(), "cascade.json")
        model = onnx.load(path)
        logged = mlflow.onnx.log_model(model, name=name, onnx_execution_providers=PROVIDERS)
        return str(logged.model_uri)


def parameters(cascade: committee.Cascade) -> dict[str, str]:
    """Return what defines a cascade."""
    return {
        "models": str(cascade),
        "thresholds": str(list(cascade.thresholds)),
        "confidence": cascade.confidence,
        "combination": cascade.combination,
    }


def metrics(cascade: committee.Cascade) -> dict[str, float]:
    """Return what a cascade scored where it was chosen, and what is certified of it."""
    found = {}
    if (promised := cascade.origin.promised) is not None:
        split = cascade.origin.split or "chosen"
        found[f"{split}_accuracy"] = promised.accuracy
        found[f"{split}_samples"] = promised.samples
        found[f"{split}_average_cost"] = promised.average_cost
    if cascade.is_certified and cascade.certificate is not None:
        found["certified_level"] = cascade.certificate.level
        found["certified_lower_bound"] = cascade.certificate.lower_bound
    return found


def main() -> None:
    """Log the file that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cascade", type=Path, help="A cascade as one ONNX file.")
    parser.add_argument("--uri", default=Path("mlruns").resolve().as_uri())
    arguments = parser.parse_args()
    mlflow.set_tracking_uri(arguments.uri)
    address = log(arguments.cascade)
    mlflow.pyfunc.load_model(address)
    print(f"Logged and loaded: {address}")


if __name__ == "__main__":
    main()
