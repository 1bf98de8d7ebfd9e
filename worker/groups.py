"""Exceptions out of task groups."""

from __future__ import annotations

from collections.abc import Iterator


def leaves(group: BaseExceptionGroup[Exception]) -> Iterator[Exception]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(error)
        else:
            yield error


def gravest(group: BaseExceptionGroup[Exception], *mildest_first: type[Exception]) -> Exception:
    """The one to report of several that came together; of unlisted kinds is the gravest."""

    def weight(error: Exception) -> int:
        kinds = enumerate(mildest_first)
        return next((i for i, kind in kinds if isinstance(error, kind)), len(mildest_first))

    return max(leaves(group), key=weight)
