"""Templates come with the weights: they get what they need, and nothing that hurts."""

from __future__ import annotations

import time

import pytest

from antiphon.core.errors import WeightsError
from antiphon.dialect import template as module
from antiphon.dialect.template import ChatTemplate, Message, TemplateRefused


class StillClock:
    """22 November 2026, 14:50 UTC, for ever; monotonic time is real."""

    def now_ms(self) -> int:
        return 1_795_359_000_000

    def monotonic(self) -> float:
        return time.monotonic()


MESSAGES = [Message("system", "s"), Message("user", "<u> & 'ü'"), Message("assistant", "a")]


def render(source: str, messages: list[Message] = MESSAGES, *, thinking: bool = False) -> str:
    return ChatTemplate(source, StillClock(), bos="<s>", eos="</s>").render(messages, generate=True, thinking=thinking)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{% for m in messages %}{{ m.role[0] }}{{ m['content'] }}{% endfor %}", "ss" + "u<u> & 'ü'" + "aa"),
        ("{{ bos_token }}{{ eos_token }}{{ add_generation_prompt }}{{ enable_thinking }}", "<s></s>TrueFalse"),
        ("{{ messages[1].content | tojson }}", "\"<u> & 'ü'\""),
        ("{{ {'a': [1, none]} | tojson }}", '{"a": [1, null]}'),
        ("{{ {'a': 1} | tojson(indent=2, ensure_ascii=false) }}", '{\n  "a": 1\n}'),
        ("{{ strftime_now('%d %b %Y') }}", "22 Nov 2026"),
        ("{% for m in messages %}{% if loop.last %}{% break %}{% endif %}{{ loop.index0 }}{% endfor %}", "01"),
        ("{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ loop.length }}{% endfor %}", "33"),
        ("{% for m in messages %}{{ loop.nextitem.role if not loop.last else '.' }} {% endfor %}", "user assistant . "),
        ("a{% generation %}b{{ 1 + 1 }}{% endgeneration %}c", "ab2c"),
        ("{% set l = [] %}{% for m in messages %}{% set _ = l.append(m.role) %}{% endfor %}{{ l | join(',') }}",
         "system,user,assistant"),
        ("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}", "3"),
        ("{% macro f(x) %}[{{ x }}]{% endmacro %}{{ f(1) }}{{ f('b') }}", "[1][b]"),
        ("{{ tools is none }}{{ nothing is defined }}{% for x in nothing %}x{% endfor %}", "TrueFalse"),
        ("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}{{ 7 % 2 }}{{ 2 * 3 }}{{ '-' * 3 }}", "a116---"),
        ("{{ messages[0].content.strip().startswith('s') }}{{ 'a b'.split(' ')[1] }}", "Trueb"),
        ("{{ range(3) | list }}{{ messages[::-1][0].role }}", "[0, 1, 2]assistant"),
    ],
)  # fmt: skip
def test_templates_get_what_hugging_face_gives_them(source: str, expected: str) -> None:
    assert render(source) == expected


def test_appending_to_what_was_given_does_not_outlive_the_rendering() -> None:
    template = ChatTemplate("{% set _ = messages.append('x') %}{{ messages | length }}", StillClock())
    assert [template.render(MESSAGES, generate=True, thinking=False) for _ in range(2)] == ["4", "4"]


def test_a_refusal_carries_the_templates_words() -> None:
    with pytest.raises(TemplateRefused, match="roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}")


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__ }}{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ raise_exception.__globals__['datetime'] }}",
        "{{ strftime_now.__self__._clock }}",
        "{{ self._TemplateReference__context }}{{ self.__init__.__globals__ }}",
        "{% set x = messages.pop() %}",
        "{% set x = messages[0].update({}) %}",
        "{{ 'a' * 100000000 }}",
        "{{ [1] * 100000000 }}",
        "{{ 10 ** 10 ** 10 }}",
        "{{ '%100000000d' % 1 }}",
        "{{ '{:>100000000}'.format(1) }}",
        "{{ 'a'.ljust(100000000) }}",
        "{{ range(10000000) | list }}",
        "{{ messages[0].nothing.more }}",
        "{{ 1 / 0 }}",
        "{{ messages[99].role }}",
        "{{ 'a' + 1 }}",
        "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
        "{% include 'x' %}",
        "{% for i in range(10000) %}{{ 'x' * 1000 }}{% endfor %}",
    ],
)
def test_what_would_hurt_is_refused(source: str) -> None:
    with pytest.raises(TemplateRefused):
        render(source)


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    ],
)
def test_a_template_that_runs_on_is_stopped_by_the_clock(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SECONDS", 0.05)
    begun = time.monotonic()
    with pytest.raises(TemplateRefused, match="without end"):
        render(source)
    assert time.monotonic() - begun < 2.0


def test_a_template_that_counts_on_is_stopped_by_the_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_STEPS", 100)
    with pytest.raises(TemplateRefused, match="without end"):
        render("{% for a in range(200) %}{% endfor %}")


@pytest.mark.parametrize("source", ["{% for %}", "{{ 'a' | nofilter }}", "{% if %}" * 3, "{" + "{(" * 500])
def test_what_is_no_template_is_refused_at_load(source: str) -> None:
    with pytest.raises(WeightsError, match="cannot be read"):
        render(source)


def test_only_a_template_that_asks_for_the_time_tells_it() -> None:
    assert ChatTemplate("{{ strftime_now('%Y') }}", StillClock()).tells_time
    assert not ChatTemplate("{{ messages }}", StillClock()).tells_time
