"""Pages of models (contract client-surface 1.7 and 4.2)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from antiphon.core.errors import InvalidRequest
from antiphon.routing.known import Lifecycle
from antiphon.wire.models import Model, ModelPage

#: What is listed unless other stages are asked for.
LISTED: frozenset[Lifecycle] = frozenset({"active", "deprecated"})
#: Bounds of a page.
PAGE = 20
_LARGEST_PAGE = 1000


def newest_first(models: Sequence[Model]) -> tuple[Model, ...]:
    """In the order of the list; ids of one day by the alphabet, so that pages are stable."""
    return tuple(sorted(sorted(models, key=lambda model: model.id), key=lambda model: model.created_at, reverse=True))


def page(
    models: Sequence[Model], lifecycles: Collection[Lifecycle], *, after: int | None, before: int | None, limit: int
) -> ModelPage:
    """The first `limit` models of these stages behind the place `after`, or the last ones ahead of `before`.

    Places count all models, so that a walk may begin at one that the stages leave out. `has_more` tells whether there
    is more in the direction of the walk.

    Raises:
        InvalidRequest: the limit is out of bounds.
    """
    if limit < 1:
        raise InvalidRequest("Input should be greater than or equal to 1", path="limit")
    if limit > _LARGEST_PAGE:
        raise InvalidRequest(f"Input should be less than or equal to {_LARGEST_PAGE}", path="limit")
    behind = 0 if after is None else after + 1
    found = [model for model in models[behind:before] if model.lifecycle in lifecycles]
    data = tuple(found[-limit:] if before is not None else found[:limit])
    return ModelPage(data, len(found) > limit, data[0].id if data else None, data[-1].id if data else None)
