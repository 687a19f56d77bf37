"""Where a request is served: what it asks for, what its workspace allows, and where the model stands (contract
platform-and-tools 7.11).

Two geographies are spoken of: `us`, and `global`, which is wherever there is room. A model stands in `us` if its
operator says so, and else anywhere; so a request for `us` is answered by one of those alone, one for `global` by any.

    geography = wanted(request.inference_geo, …)    may it be asked for? Then the router prefers a model that suits it
    told = served(geography, …)                     is there one? What usage tells, and the price goes by
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal, TypeAlias, cast

from antiphon.core.errors import InvalidRequest

Geography: TypeAlias = Literal["global", "us"]
#: As usage tells it: the last one of requests for ids that know no geographies.
Told: TypeAlias = Literal["global", "us", "not_available"]

#: Every geography that a request may name; what workspaces allow is some of them.
GEOGRAPHIES: Final[tuple[Geography, ...]] = ("global", "us")
#: Where nothing is said: the API's own default.
ANYWHERE: Final[Geography] = "global"
_PATH = "inference_geo"


def wanted(asked: Geography | None, *, allowed: Collection[str] | None, default: str | None) -> Geography:
    """The geography that a request is to be served in: its own word, or the workspace's default.

    Args:
        asked: the request's `inference_geo`.
        allowed: what the workspace allows; None: whatever there is.
        default: what the workspace wants where a request says nothing; None: `global`, or the one that is allowed.

    Raises:
        InvalidRequest: the workspace does not allow it.
    """
    geography = asked or _default(allowed, default)
    if allowed is not None and geography not in allowed:
        listed = ", ".join(f"'{each}'" for each in GEOGRAPHIES if each in allowed) or "none"
        raise InvalidRequest(
            f"'{geography}' is not allowed for this workspace. Allowed inference geographies: {listed}", path=_PATH
        )
    return geography


def _default(allowed: Collection[str] | None, default: str | None) -> Geography:
    if default is not None:
        return cast(Geography, default)
    if allowed is not None and ANYWHERE not in allowed:
        return next((each for each in GEOGRAPHIES if each in allowed), ANYWHERE)
    return ANYWHERE


def suits(geography: Geography, model: str) -> bool:
    """Whether a model that stands in `model` may serve what is to be served in `geography`."""
    return geography in (ANYWHERE, model)


def served(geography: Geography, *, model: str, asked: Geography | None = None, knows: bool = True) -> Told:
    """What usage tells of a request that `wanted` has let pass, and what its price goes by (contract
    messages-and-inference 14.4).

    Args:
        geography: what `wanted` gave.
        model: where the model stands that the router has chosen.
        asked: the request's `inference_geo`.
        knows: whether the asked-for id has geographies at all (those before 4.6 have none, under `profile = "claude"`).

    Raises:
        InvalidRequest: no model that could answer stands there, or the id knows no geographies and one is asked for.
    """
    if not knows and asked is not None:
        raise InvalidRequest("this parameter is not supported for this model", path=_PATH)
    if not suits(geography, model):
        raise InvalidRequest(
            f"'{geography}' is not available for this model: none that answers stands there", path=_PATH
        )
    if not knows:
        return "not_available"
    return geography
