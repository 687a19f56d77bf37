"""The price book: what every id costs, an operator's own rows before the published ones, and nothing without a price."""

from __future__ import annotations

import re
from datetime import date
from fractions import Fraction
from pathlib import Path

import msgspec
import pytest

from antiphon.core.errors import SettingsError
from antiphon.core.records import Profile, Usage
from antiphon.routing import book, catalogue
from antiphon.routing.catalogue import SCRIPTED, Catalogue, ModelCard, ModelEntry, Tier
from antiphon.routing.known import claude_models
from antiphon.routing.prices import Prices, Terms
from antiphon.routing.resolve import Router

NOW_MS = 1_795_305_600_000
PROFILES: tuple[Profile, ...] = ("model", "claude")


def card(name: str, *tiers: Tier, prices: Prices | None = None) -> ModelCard:
    return ModelCard(
        name=name,
        display_name=name,
        tiers=tiers,
        window=1000,
        max_output=500,
        created=date(2026, 1, 1),
        prices=prices,
    )


BIG, SMALL = card("big", "opus", "sonnet"), card("small", "haiku")
NAMES = ["big", "small", "scripted", "qwen3-4b"]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return tmp_path / "our-prices.toml"


def loaded(file: Path, text: str) -> book.PriceBook:
    file.write_text(text, "utf-8")
    return book.load(file, NAMES)


def row(id_: str, dollars: str = "1", more: str = "") -> str:
    return f'[[models]]\nid = "{id_}"\nprices = [{{ input = "{dollars}", output = "{dollars}" }}]\n{more}\n'


def input_price(router: Router, asked: str, terms: Terms | None = None) -> Fraction:
    """Dollars per million tokens of the input."""
    cost = router.resolve(asked).price.cost(Usage(input_tokens=10**6), NOW_MS, terms or Terms())
    return Fraction(cost.total_nano, 10**9)


# -- nothing without a price


@pytest.mark.parametrize(
    ("asked", "priced_as"),
    [
        ("claude-opus-5-5", "claude-opus-5-5"),
        ("claude-opus-4-5", "claude-opus-4-5-20251101"),
        ("claude-haiku-4-5[1m]", "claude-haiku-4-5-20251001"),
        ("claude-mythos-preview", "claude-mythos-preview"),
        # coming ones
        ("claude-opus-9-9", "claude-opus-5-5"),
        ("claude-fable-6", "claude-fable-5-2"),
        ("claude-mythos-6", "claude-mythos-5-2"),
        ("claude-sonnet-6-20270101", "claude-sonnet-5-5"),
        ("claude-haiku-6[1m]", "claude-haiku-5-5"),
        # retired ones
        ("claude-3-opus-latest", "claude-opus-5-5"),
        ("claude-sonnet-4-0", "claude-sonnet-5-5"),
        ("claude-3-5-haiku-20241022", "claude-haiku-5-5"),
        # of no line: what the model that answers costs
        ("claude-9", "claude-opus-5-5"),
        ("claude-instant-1", "claude-opus-5-5"),
        # what runs, by its own name: its first tier
        ("big", "claude-opus-5-5"),
        ("small", "claude-haiku-5-5"),
    ],
)
def test_every_id_costs_what_its_row_says_or_the_newest_of_its_line(asked: str, priced_as: str) -> None:
    router = Router([BIG, SMALL])
    assert router.resolve(asked).price.id == priced_as
    assert router.resolve(asked).price is router.resolve(priced_as).price


def test_no_id_that_can_be_asked_for_is_free() -> None:
    used = Usage(1, 1, 1, 1, 1)
    for served in ([BIG, SMALL], [SMALL], [SCRIPTED], [*catalogue.load().entries]):
        router = Router(served)
        asked = [name for known in claude_models() for name in (known.id, *known.also)]
        made_up = [
            "claude-opus-9-9",
            "claude-fable-9",
            "claude-mythos-9",
            "claude-x",
            "claude-",
            "claude-opus",
            "claude-" + "x" * 300,
        ]
        for name in [*asked, *made_up, *(entry.name for entry in served)]:
            cost = router.resolve(name).price.cost(used, NOW_MS, Terms(batch=True))
            assert min(msgspec.structs.astuple(cost)) > 0, name
    for known in claude_models():
        if known.lifecycle != "retired":
            assert Router([BIG], profile="claude").resolve(known.id).price.id == known.id


def test_a_model_of_no_tier_and_without_a_price_is_refused_at_the_start(written: Path) -> None:
    bare = card("bare")
    with pytest.raises(SettingsError, match=r"The model `bare` has no price: give it `tiers` or `prices`"):
        Router([BIG, bare])
    written.write_text(row("bare", "3"))
    router = Router([BIG, bare], book=book.load(written, ["bare"]))
    assert input_price(router, "bare") == 3
    assert input_price(Router([msgspec.structs.replace(bare, prices=Prices(input="4", output="8"))]), "bare") == 4


# -- which price applies


def test_an_answer_costs_what_the_asked_for_id_does_unless_the_model_has_its_price() -> None:
    router = Router([BIG, SMALL])
    for profile in PROFILES:
        (band,) = router.resolve("claude-opus-4-5", profile=profile).price.bands(NOW_MS)
        assert (band.input, band.output) == ("5", "25")
    assert len(router.resolve("claude-haiku-5-5").price.bands(NOW_MS)) == 2
    dear = Router([msgspec.structs.replace(BIG, prices=Prices(input="1.5", output="2")), SMALL])
    for asked in ("big", "claude-opus-4-5", "claude-opus-9", "claude-9"):
        assert dear.resolve(asked).price.id == "big"
        assert input_price(dear, asked) == Fraction("1.5")
        assert input_price(dear, asked, Terms(batch=True, geography="us")) == Fraction("1.5") * Fraction("0.55")
    assert input_price(dear, "claude-haiku-4-5") == 1


def test_an_operator_s_row_goes_before_the_published_one_and_before_patterns(written: Path) -> None:
    text = row("claude-opus-5-5", "3") + row("claude-*sonnet*", "2.5") + row("claude-*", "7") + row("big", "0.25")
    router = Router([BIG, SMALL], book=loaded(written, text))
    for asked, dollars in [
        ("claude-opus-5-5", "3"),
        ("claude-sonnet-4-6", "2.5"),
        ("claude-sonnet-9", "2.5"),
        ("claude-opus-4-8", "7"),
        ("claude-3-opus-latest", "7"),
        ("claude-9", "7"),
        ("claude-haiku-5-5", "7"),
        ("big", "0.25"),
        ("small", "7"),  # the newest haiku's
    ]:
        assert input_price(router, asked) == Fraction(dollars), asked


def test_a_new_price_of_the_newest_is_that_of_the_whole_line_s_heirs(written: Path) -> None:
    router = Router([BIG], book=loaded(written, row("claude-opus-5-5", "3")))
    assert input_price(router, "claude-opus-9-9") == input_price(router, "big") == 3
    assert input_price(router, "claude-opus-5") == 5


def test_an_undated_id_of_a_row_is_the_dated_one(written: Path) -> None:
    router = Router([BIG], book=loaded(written, row("claude-opus-4-5", "3")))
    assert input_price(router, "claude-opus-4-5-20251101") == input_price(router, "claude-opus-4-5") == 3


def test_a_price_of_nothing_is_one_when_somebody_wrote_it(written: Path) -> None:
    router = Router([BIG, SMALL], book=loaded(written, row("*", "0")))
    for asked in ("big", "claude-opus-5-5", "claude-9", "claude-haiku-9"):
        assert router.resolve(asked).price.id == "*"
        assert input_price(router, asked) == 0


def test_two_prices_for_one_model_are_refused(written: Path) -> None:
    dear = msgspec.structs.replace(BIG, prices=Prices(input="1.5", output="2"))
    with pytest.raises(SettingsError, match=r"The model `big` has two prices"):
        Router([dear], book=loaded(written, row("big")))
    assert input_price(Router([dear], book=loaded(written, row("*"))), "big") == Fraction("1.5")


def test_factors_of_a_row_go_before_the_file_s_and_those_before_the_published(written: Path) -> None:
    text = """
        [factors]
        batch = "0.4"
        speed = { fast = "3" }
        [[models]]
        id = "big"
        prices = [{ input = "1", output = "2" }]
        batch = "1"
        geography = { us = "1" }
        service_tier = { priority = "5" }
    """
    router = Router([BIG, SMALL], book=loaded(written, text))
    for asked, terms, factor in [
        ("big", Terms(batch=True), "1"),
        ("big", Terms(geography="us"), "1"),
        ("big", Terms(speed="fast", service_tier="priority"), "15"),
        ("claude-sonnet-4-6", Terms(batch=True), "0.4"),
        ("claude-sonnet-4-6", Terms(batch=True, geography="us"), "0.44"),
        ("claude-sonnet-4-5", Terms(batch=True, geography="us"), "0.4"),
        ("claude-opus-5", Terms(speed="fast"), "2"),
        ("claude-opus-4-7", Terms(speed="fast"), "3"),
    ]:
        assert router.resolve(asked).price.factor(terms) == Fraction(factor), (asked, terms)


def test_days_and_lengths_of_an_operator_s_row(written: Path) -> None:
    text = """
        [[models]]
        id = "big"
        prices = [
            { input = "1", output = "1" },
            { from = 2026-11-22, up_to = 10, input = "2", output = "2" },
            { from = 2026-11-22, input = "3", output = "3" },
        ]
    """
    price = Router([BIG], book=loaded(written, text)).resolve("big").price
    costs = [price.cost(Usage(input_tokens=n), at).input_nano for at in (NOW_MS - 1, NOW_MS) for n in (10, 11)]
    assert costs == [10_000, 11_000, 20_000, 33_000]


# -- an operator's file that is wrong


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[models", "In the price book our-prices.toml: "),
        ("model = 1", "unknown table `model`; did you mean `models`?"),
        ("factor = 1", "unknown table `factor`; did you mean `factors`?"),
        ("models = 1", "`models` must be `[[models]]` tables"),
        ("models = [1]", "model 1: it must be a table"),
        ('[[models]]\nname = "big"', "model 1: unknown key `name`"),
        ('[[models]]\nprices = [{ input = "1", output = "1" }]', "model 1: Object missing required field `id`"),
        ('[[models]]\nid = "big"', "model 1 ('big'): Object missing required field `prices`"),
        ('[[models]]\nid = "big"\nprices = []', "model 1 ('big'): prices: at least one is needed"),
        (row("big", "-1"), "model 1 ('big'): Expected `str` matching regex"),
        (row("big").replace('"1"', "1"), "got `int` - at `$.prices[0].input`"),
        (row("big").replace('"1"', "0.5"), "got `float` - at `$.prices[0].input`"),
        (row("big") + row("small").replace("output", "ouput"), "model 2 ('small'), prices 1: unknown key `ouput`; did you mean `output`?"),
        (row("big").replace("output", "form = 2026-01-01, output"), "prices 1: unknown key `form`; did you mean `from`?"),
        (row("big").replace("output", 'from = "soon", output'), "at `$.prices[0].from`"),
        (row("big").replace("output", "from = 2026-01-01T00:00:00Z, output"), "at `$.prices[0].from`"),
        (row("big").replace("output", "from = 2026-01-01, output"), "the first ones have no `from`"),
        (row("big").replace("output", "up_to = 5, output"), "every band but the last has `up_to`"),
        (row("big", more='bach = "1"'), "unknown key `bach`; did you mean `batch`?"),
        (row("big", more="batch = 0.5"), "got `float` - at `$.batch`"),
        (row("big", more='batch = "half"'), "at `$.batch`"),
        (row("big", more='geography = { usa = "1" }'), "Invalid enum value 'usa'"),
        (row("big", more='service_tier = { batch = "1" }'), "Invalid enum value 'batch'"),
        (row("big", more='speed = { fast = "-1" }'), "at `$.speed[...]`"),
        ('[factors]\nbacth = "1"', "In the price book our-prices.toml, factors: unknown key `bacth`; did you mean `batch`?"),
        ("[factors]\nbatch = 0.5", "factors: Expected `str | null`, got `float` - at `$.batch`"),
        ("factors = 1", "factors: it must be a table"),
        ('[server_tools]\nweb_serch_per_thousand = "1"', "server_tools: unknown key `web_serch_per_thousand`; did you mean `web_search_per_thousand`?"),
        ("[server_tools]\nweb_search_per_thousand = 10", "In the price book our-prices.toml, server_tools: Expected `str`, got `int`"),
        ("server_tools = 1", "server_tools: it must be a table"),
        (row("big") + row("big"), "`big` stands there twice"),
        (row("claude-opus-4-5") + row("claude-opus-4-5-20251101"), "`claude-opus-4-5-20251101` stands there twice"),
        (row("bigg"), "In the price book our-prices.toml, model `bigg`: the catalogue has no such model; did you mean `big`?"),
        (row("qwem*"), "model `qwem*`: the catalogue has no such model"),
        (row("a b"), "model 1 ('a b'): Expected `str` matching regex"),
    ],
)  # fmt: skip
def test_a_malformed_book_is_refused_with_file_id_and_key(written: Path, text: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(complaint)) as raised:
        loaded(written, text)
    assert "price book our-prices.toml" in raised.value.message


def test_patterns_over_names_and_claude_ids_are_welcome(written: Path) -> None:
    for id_ in ("qwen*", "*opus*", "claude-nova-*", "claude-nova-1", "?ig", "[bs]*"):
        assert loaded(written, row(id_)) is not None


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"The price book .*none\.toml cannot be read"):
        book.load(tmp_path / "none.toml")


def test_the_book_of_an_installation(written: Path) -> None:
    """Its names are those of the catalogue, and the scripted model's."""
    entry = msgspec.structs.replace(catalogue.load().entries[0], name="ours")
    known = Catalogue((entry,))
    assert isinstance(entry, ModelEntry)
    written.write_text(row("ours", "2") + row("scripted", "3"))
    ours = book.configured(str(written), known)
    assert [price.id for name in ("ours", "scripted") if (price := ours.of(name))] == ["ours", "scripted"]
    assert book.configured("", known).of("ours") is None
    written.write_text(row("qwen2.5-coder-1.5b-instruct"))
    with pytest.raises(SettingsError, match=r"the catalogue has no such model"):
        book.configured(str(written), known)


# -- server tools


def test_published_charges_of_server_tools() -> None:
    tools = book.load().server_tools
    assert [tools.web_search_nano(count) for count in (0, 1, 1000)] == [0, 10_000_000, 10 * 10**9]
    assert tools.web_fetch_nano(10**6) == 0


HOUR_MS = 3_600_000


@pytest.mark.parametrize(
    ("counted_ms", "before_ms", "nano"),
    [
        (HOUR_MS, 0, 0),
        (HOUR_MS, 1549 * HOUR_MS, 0),
        (HOUR_MS, 1549 * HOUR_MS + HOUR_MS // 2, 25_000_000),
        (HOUR_MS, 1550 * HOUR_MS, 50_000_000),
        (HOUR_MS, 9999 * HOUR_MS, 50_000_000),
        (1, 1550 * HOUR_MS, 14),  # 13.9
        (0, 1550 * HOUR_MS, 0),
    ],
)
def test_a_container_costs_past_the_free_hours(counted_ms: int, before_ms: int, nano: int) -> None:
    assert book.load().server_tools.container_nano(counted_ms, before_ms) == nano


def test_a_container_lives_for_five_minutes_at_least() -> None:
    tools = book.load().server_tools
    assert [tools.container_ms(lived) for lived in (0, 299_999, 300_000, 300_001)] == [
        300_000,
        300_000,
        300_000,
        300_001,
    ]


def test_an_operator_s_charges_go_before_the_published_ones(written: Path) -> None:
    tools = loaded(written, '[server_tools]\nweb_search_per_thousand = "3"\ncode_execution_free_hours = 0').server_tools
    assert (tools.web_search_nano(1000), tools.container_nano(HOUR_MS, 0)) == (3 * 10**9, 50_000_000)


def test_the_example_of_the_documentation_is_a_book(written: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "billing.md").read_text("utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    written.write_text(example, "utf-8")
    served = catalogue.load().get("qwen3-8b")
    router = Router([served], book=book.configured(str(written), catalogue.load()))
    assert input_price(router, "qwen3-8b", Terms(batch=True, geography="us")) == Fraction("0.10")
    assert input_price(router, "claude-opus-5-5", Terms(batch=True)) == Fraction("1.6")
    assert input_price(router, "claude-3-opus-latest") == 2
