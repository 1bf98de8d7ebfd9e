"""UCX's library and what ucxx leaves out of it."""

from __future__ import annotations

import ctypes
import os
from typing import Any

from kvtransfer.errors import TransportUnavailable

_MAX_LANES = 16
_FIELD_TRANSPORTS = 1 << 3
_SOCKADDR_STORAGE_BYTES = 128


def load_ucxx() -> Any:
    """ucxx's low-level module, without the settings of UCX that importing ucxx puts into the
    environment: one of them makes TCP several times slower.

    Raises TransportUnavailable.
    """
    os.environ.setdefault("UCX_MEMTYPE_CACHE", "n")  # ucxx sets it when UCX has read it
    before = dict(os.environ)
    try:
        from ucxx._lib import arr, libucxx
    except (ImportError, OSError) as error:
        raise TransportUnavailable(
            f"UCX cannot be loaded ({error}); install ucxx-cu12, or ucxx-cu13 beside a GPU's vLLM"
        ) from error
    for name in os.environ.keys() - before.keys():
        if name.startswith("UCX_"):
            del os.environ[name]
    libucxx.Array = arr.Array
    return libucxx


class _Entry(ctypes.Structure):
    """ucp_transport_entry_t"""

    _fields_ = (("transport", ctypes.c_char_p), ("device", ctypes.c_char_p))


class _EndpointAttributes(ctypes.Structure):
    """ucp_ep_attr_t"""

    _fields_ = (
        ("field_mask", ctypes.c_uint64),
        ("name", ctypes.c_char * 32),
        ("local_sockaddr", ctypes.c_uint64 * (_SOCKADDR_STORAGE_BYTES // 8)),
        ("remote_sockaddr", ctypes.c_uint64 * (_SOCKADDR_STORAGE_BYTES // 8)),
        ("entries", ctypes.POINTER(_Entry)),
        ("num_entries", ctypes.c_uint),
        ("entry_size", ctypes.c_size_t),
        ("user_data", ctypes.c_void_p),
    )


def lanes_of(endpoint_handle: int) -> list[str]:
    """The transports and devices of a UCX endpoint, as "tcp/eth0", each once; none if UCX
    cannot tell.
    """
    entries = (_Entry * _MAX_LANES)()
    attributes = _EndpointAttributes(
        field_mask=_FIELD_TRANSPORTS,
        entries=entries,
        num_entries=_MAX_LANES,
        entry_size=ctypes.sizeof(_Entry),
    )
    library = ctypes.CDLL("libucp.so.0")  # the one that is loaded
    if library.ucp_ep_query(ctypes.c_void_p(endpoint_handle), ctypes.byref(attributes)):
        return []
    used = entries[: attributes.num_entries]
    return sorted({f"{each.transport.decode()}/{each.device.decode()}" for each in used})


def destroy_worker(worker: Any, *dependents: Any) -> None:
    """Gives back all that a UCX worker has of the machine, whatever is under way on it.

    ucxx does so when nothing refers to its worker, and operations that never end do for ever.
    What ucxx has of it must not be deleted after this, so `dependents` and the worker stay.
    """
    for each in (worker, *dependents):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(each))
    descriptor = int(worker.epoll_file_descriptor)  # ucxx's own
    ctypes.CDLL("libucp.so.0").ucp_worker_destroy(ctypes.c_void_p(worker.handle))
    os.close(descriptor)
