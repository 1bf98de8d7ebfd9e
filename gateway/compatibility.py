"""Whether two workers may serve one fleet."""

from __future__ import annotations

from proto.worker_pb2 import Description


def version_mismatch(theirs: Description, gateway_version: str) -> str | None:
    """Why this gateway cannot speak with the worker; None if it can."""
    if theirs.vllm_version == gateway_version:
        return None
    return (
        f"{theirs.worker_id} runs vLLM {theirs.vllm_version}, "
        f"but the gateway runs vLLM {gateway_version}"
    )


def mismatch(ours: Description, theirs: Description) -> str | None:
    """Why the two do not fit, naming both sides and both values; None if they do."""
    values = (
        ("vLLM", ours.vllm_version, theirs.vllm_version),
        ("the model", model_of(ours), model_of(theirs)),
        ("KV layout", layout_of(ours), layout_of(theirs)),
    )
    for what, our_value, their_value in values:
        if our_value != their_value:
            return (
                f"{theirs.worker_id} has {what} {their_value}, "
                f"but {ours.worker_id} has {what} {our_value}"
            )
    return None


def model_of(description: Description) -> str:
    # The fingerprint alone decides: the same folder may be mounted elsewhere.
    return f"with fingerprint {description.model_fingerprint[:16]}"


def layout_of(description: Description) -> str:
    layout = description.kv_layout
    return f"{layout.fingerprint[:16]} ({layout.summary})" if layout.summary else layout.fingerprint
