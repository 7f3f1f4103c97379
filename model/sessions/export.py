"""The session encoder as an ONNX network, so that who serves it needs no torch."""

import logging
import warnings

import torch

from model.sessions.encoder import SessionEncoder

OPSET = 18


def to_onnx(encoder: SessionEncoder) -> bytes:
    """A network of (B, L', D) float32 `vectors` and (B, L') bool `present` to (B, D) float32 `query`, for any B.

    L' is any up to L; but where a layer attends from some positions only, sessions are padded to L. The results equal
    the encoder's to 1e-5.
    """
    from torch.export import Dim

    length, dim = encoder.ago.shape
    # No size may be 1 here: the exporter would take it for the only one.
    example = (torch.zeros(2, length, dim), torch.ones(2, length, dtype=torch.bool))
    sizes = {0: Dim("sessions", min=1, max=2**20)}
    if length > 1 and not any(1 < layer.positions < length for layer in encoder.layers):  # type: ignore[operator]
        sizes[1] = Dim("items", min=1, max=length)
    loud = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
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
    finally:
        logging.getLogger("torch.onnx").setLevel(loud)
    assert program is not None
    return program.model_proto.SerializeToString()
