"""Export of the session encoder to ONNX, so that serving needs no torch."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from model.sessions.encoder import SessionEncoder

OPSET = 18


def to_onnx(encoder: SessionEncoder) -> bytes:
    """Return an ONNX network: (B, L', D) float32 `vectors` and (B, L') bool `present` → (B, D) float32 `query`.

    B may be any number, and L' any number up to L. But if a layer attends from more than one position and not from all,
    sessions must be padded to L. The results equal the encoder's to 1e-5.
    """
    from torch.export import Dim

    length, dim = encoder.position.shape
    # No size may be 1 here: the exporter would take it for a constant.
    example = (torch.zeros(2, length, dim), torch.ones(2, length, dtype=torch.bool))
    sizes = {0: Dim("sessions", min=1, max=2**20)}
    if length > 1 and not any(1 < layer.positions < length for layer in encoder.layers):  # type: ignore[operator]
        sizes[1] = Dim("items", min=1, max=length)
    with _quiet_exporter():
        program = torch.onnx.export(
            encoder.eval(),
            example,
            dynamo=True,
            opset_version=OPSET,
            input_names=["vectors", "present"],
            output_names=["query"],
            dynamic_shapes=(sizes, sizes),
            verbose=False,
        )
    assert program is not None
    return program.model_proto.SerializeToString()


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence the exporter's warnings and all of its log but errors."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
