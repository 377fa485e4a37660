"""Make serve/open_inference.binpb of the .proto beside it: python tests/proto.py."""

from __future__ import annotations

import importlib.resources
import tempfile
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src" / "committee" / "serve" / "open_inference.proto"


def compiled() -> bytes:
    """The descriptors that protoc makes of the file, serialized."""
    from grpc_tools import protoc

    own = importlib.resources.files("grpc_tools") / "_proto"
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made"
        words = [f"-I{SOURCE.parent}", f"-I{own}", f"--descriptor_set_out={made}", SOURCE.name]
        assert protoc.main(["protoc", *words]) == 0
        return made.read_bytes()


if __name__ == "__main__":
    SOURCE.with_suffix(".binpb").write_bytes(compiled())
