"""The price book: the published one (`prices.toml`) and an operator's own, whose rows go before it (`docs/billing.md`).

Whatever can be asked for has a price, or the server does not start: nothing is free because nobody thought of it.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

import msgspec

from antiphon.core.errors import SettingsError
from antiphon.routing import reading
from antiphon.routing.catalogue import SCRIPTED, Catalogue, ModelCard
from antiphon.routing.known import Line, Spelling, claude_models, line_of
from antiphon.routing.prices import Factors, Price, PriceBand, check_bands
from antiphon.routing.tool_charges import ToolCharges

_Id = Annotated[str, msgspec.Meta(pattern=r"^[^\s]{1,256}\Z")]
_PUBLISHED = "the published price book"
_TABLES = ("factors", "server_tools", "models")


class PriceRow(Factors, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one id costs, or every id of a pattern; see the head of `prices.toml`."""

    id: _Id
    prices: tuple[PriceBand, ...]

    def __post_init__(self) -> None:
        check_bands(self.prices)

    @property
    def by_pattern(self) -> bool:
        """Whether `id` stands for several."""
        return any(sign in self.id for sign in "*?[")


class _File(msgspec.Struct, frozen=True):
    """One book as it is written. `charges` are the server tools' keys that it has."""

    where: str
    factors: Factors
    charges: Mapping[str, Any]
    rows: tuple[PriceRow, ...]


class PriceBook:
    """What every id costs: the operator's row for it, the first pattern of theirs, the published row, or what the
    newest id of its line costs.

    Args:
        published: rows for exact ids, the newest of each line among them.
        own: the operator's.
        factors: what holds for every row that does not say otherwise.
        server_tools: what server tools cost.
    """

    def __init__(
        self, published: Iterable[PriceRow], own: Iterable[PriceRow], factors: Factors, server_tools: ToolCharges
    ) -> None:
        self.server_tools = server_tools
        self._factors = factors
        rows = tuple(own)
        self._patterns = tuple((row.id, self._price(row)) for row in rows if row.by_pattern)
        self._exact = {row.id: self._price(row) for row in rows if not row.by_pattern}
        self._known = {row.id: self._by_pattern(row.id) or self._price(row) for row in published} | self._exact
        self._newest: dict[Line, Price] = {}
        for model in sorted(claude_models(), key=lambda model: model.created):
            if model.id in self._known:
                self._newest[model.line] = self._known[model.id]

    def of(self, model_id: str) -> Price | None:
        """The price of an id in its one spelling (`known.Spelling`); None: of such an id the book knows nothing."""
        if price := self._known.get(model_id) or self._by_pattern(model_id):
            return price
        line = line_of(model_id)
        return None if line is None else self._newest.get(line)

    def of_every_answer(self, card: ModelCard) -> Price | None:
        """What the catalogue says that this model costs, whatever it was asked as; None where it says nothing.

        Raises:
            SettingsError: an operator's row names the same model: there would be two prices.
        """
        if card.prices is None:
            return None
        if card.name in self._exact:
            raise SettingsError(
                f"The model `{card.name}` has two prices: its own in the catalogue and one in the price book; "
                "leave one of them out"
            )
        band = PriceBand(**msgspec.structs.asdict(card.prices))
        return Price(card.name, (band,), self._factors)

    def of_model(self, card: ModelCard) -> Price:
        """The price of a model that runs, asked for by its own name: that of the catalogue, of the operator's book, or
        of the newest Claude id of its first tier, so that a local run shows what the same traffic would cost.

        Raises:
            SettingsError: there is none of these.
        """
        price = self.of_every_answer(card) or self.of(card.name)
        if price is None and card.tiers:
            price = self._newest.get(card.tiers[0])
        if price is None:
            raise SettingsError(
                f"The model `{card.name}` has no price: give it `tiers` or `prices` in the catalogue, or a row in the "
                "price book (setting `prices`)"
            )
        return price

    def _by_pattern(self, model_id: str) -> Price | None:
        return next((price for pattern, price in self._patterns if fnmatchcase(model_id, pattern)), None)

    def _price(self, row: PriceRow) -> Price:
        return Price(row.id, row.prices, row.over(self._factors))


def load(file: Path | None = None, names: Collection[str] | None = None) -> PriceBook:
    """Read the published book and an operator's, which goes before it: by id, by factor, by charge.

    `names` are the catalogue's: with them, a row of the operator's that no model and no Claude id could ever be meant
    by is an error.

    Raises:
        SettingsError: a file cannot be read, or an entry is malformed; the message names file, id and key.
    """
    text = importlib.resources.files(__package__).joinpath("prices.toml").read_text("utf-8")
    published = _parse(text, _PUBLISHED)
    own = _File("", Factors(), {}, ())
    if file is not None:
        own = _parse(reading.text_of(file, "price book"), f"the price book {file.name}")
        _check_charges(own)
        if names is not None:
            _check_ids(own, names)
    charges = {**published.charges, **own.charges}
    return PriceBook(
        published.rows,
        own.rows,
        own.factors.over(published.factors),
        reading.entry_of(charges, ToolCharges, f"In {own.where or published.where}, server_tools"),
    )


def configured(path: str, known: Catalogue) -> PriceBook:
    """The book that an installation is set to: `path` is the operator's file, empty for none.

    Raises:
        SettingsError: it is malformed, or prices a model that is not in the catalogue.
    """
    if not path:
        return load()
    return load(Path(path).expanduser(), [SCRIPTED.name, *(entry.name for entry in known.entries)])


def _parse(text: str, where: str) -> _File:
    tables = reading.tables_of(text, where)
    for name in tables:
        if name not in _TABLES:
            raise SettingsError(f"In {where}: unknown table `{name}`; {reading.nearest(name, _TABLES)}")
    models, charges = tables.get("models", []), tables.get("server_tools", {})
    if not isinstance(models, list):
        raise SettingsError(f"In {where}: `models` must be `[[models]]` tables")
    if not isinstance(charges, dict):
        raise SettingsError(f"In {where}, server_tools: it must be a table")
    rows, spelling = [], Spelling(claude_models())
    for number, model in enumerate(models, 1):
        row = reading.entry_of(model, PriceRow, f"In {where}, model {number}", "id")
        rows.append(msgspec.structs.replace(row, id=spelling.of(row.id)))
    ids = [row.id for row in rows]
    if twice := [id_ for id_ in ids if ids.count(id_) > 1]:
        raise SettingsError(f"In {where}: `{twice[0]}` stands there twice")
    factors = reading.entry_of(tables.get("factors", {}), Factors, f"In {where}, factors")
    return _File(where, factors, charges, tuple(rows))


def _check_charges(own: _File) -> None:
    """An operator's file may have some of the keys; `load` reads them with the published others."""
    known = ToolCharges.__struct_fields__
    for key in own.charges:
        if key not in known:
            raise SettingsError(f"In {own.where}, server_tools: unknown key `{key}`; {reading.nearest(key, known)}")


def _check_ids(own: _File, names: Collection[str]) -> None:
    """A misspelt name would be priced as if it had no row. Of Claude ids nobody can tell: they come every month."""
    known = [*names, *(model.id for model in claude_models())]
    for row in own.rows:
        if not row.id.startswith("claude-") and not any(fnmatchcase(name, row.id) for name in known):
            raise SettingsError(
                f"In {own.where}, model `{row.id}`: the catalogue has no such model; {reading.nearest(row.id, names)}"
            )
