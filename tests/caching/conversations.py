"""Random conversations that grow, change and are marked, in the way that clients do it."""

from __future__ import annotations

import copy
from random import Random
from typing import Any

_WORDS = ("look", "into", "the", "river", "Now.", "grüße", "日本", "a  b", "x\n", "why?", "é", "so,", "42", "{}")
_CHOICES: tuple[Any, ...] = (
    None,
    {"type": "auto"},
    {"type": "auto", "disable_parallel_tool_use": False},
    {"type": "auto", "disable_parallel_tool_use": True},
    {"type": "any"},
    {"type": "any", "disable_parallel_tool_use": False},
    {"type": "none"},
)
_FORMAT: Any = {
    "type": "json_schema",
    "schema": {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": False,
    },
}
_CONFIGS: tuple[Any, ...] = (None, {"effort": "high"}, {"effort": "low"}, {"format": _FORMAT})
_THINKING: tuple[Any, ...] = (None, {"type": "disabled"}, {"type": "adaptive"})


class Writer:
    """Writes the requests of one client."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._calls = 0
        self._body: dict[str, Any] = {"model": "claude-opus-5", "max_tokens": 8, "messages": []}
        if chance.random() < 0.6:
            self._body["tools"] = [self._tool(number) for number in range(chance.randint(1, 3))]
            if chance.random() < 0.3:
                self._body["tools"].append(self._tool(9) | {"defer_loading": True})
        if chance.random() < 0.7:
            self._body["system"] = (
                self._words() if chance.random() < 0.3 else [self._text() for _ in range(chance.randint(1, 3))]
            )
            if chance.random() < 0.3 and isinstance(self._body["system"], list):
                header = {"type": "text", "text": "x-anthropic-billing-header: 0"}
                self._body["system"].insert(0, header)
        self._say()

    def next(self) -> dict[str, Any]:
        """The next request: mostly the same and more, sometimes something else; with marks of its own."""
        chance = self._chance
        acts = {
            "grow": 12,
            "same": 8,
            "edit": 1,
            "reorder": 2,
            "split": 1,
            "add": 2,
            "option": 2,
            "drop": 1,
            "session": 1,
        }
        act = chance.choices([*acts], [*acts.values()])[0]
        if act == "grow":
            self._answer()
            self._say()
        elif act == "edit":
            self._edit()
        elif act == "reorder":
            self._reorder()
        elif act == "add":
            self._add()
        elif act == "split":
            self._split()
        elif act == "option":
            self._option(self._body)
        elif act == "drop":
            del self._body["messages"][1:]
            self._body["messages"][0] = {"role": "user", "content": self._words()}
        elif act == "session":
            self._new_session()
        body = copy.deepcopy(self._body)
        if chance.random() < 0.1:
            self._option(body)
        return self._marked(body)

    def _option(self, body: dict[str, Any]) -> None:
        """Something beside the content."""
        chance = self._chance
        options = {"tool_choice": _CHOICES, "output_config": _CONFIGS, "thinking": _THINKING}
        if "tools" not in body:
            del options["tool_choice"]
        name = chance.choice([*options])
        value = chance.choice(options[name])
        body.pop(name, None)
        if value is not None:
            body[name] = value
        forced = (body.get("tool_choice") or {}).get("type") == "any"
        formatted = "format" in (body.get("output_config") or {})
        thinks = (body.get("thinking") or {}).get("type") == "adaptive"
        if forced and (thinks or formatted):
            body.pop(name, None)

    def _new_session(self) -> None:
        """What Claude Code's first block does from session to session."""
        system = self._body.get("system")
        if isinstance(system, list) and system[0]["text"].startswith("x-anthropic-billing-header:"):
            system[0]["text"] = f"x-anthropic-billing-header: {self._chance.randint(1, 9)}"

    def _say(self) -> None:
        chance = self._chance
        content: Any
        calls = self._open_calls()
        if calls:
            content = [self._result(call) for call in calls]
            content += [self._text() for _ in range(chance.randint(0, 1))]
        elif chance.random() < 0.3:
            content = self._words()
        else:
            content = [self._text() for _ in range(chance.choice((1, 1, 2, 3, 12, 18, 19, 20)))]
        self._body["messages"].append({"role": "user", "content": content})

    def _answer(self) -> None:
        chance = self._chance
        if chance.random() < 0.2:
            self._body["messages"].append({"role": "assistant", "content": self._words()})
            return
        content: list[Any] = []
        if chance.random() < 0.3:
            content.append({"type": "thinking", "thinking": self._words(), "signature": "s"})
        if chance.random() < 0.1:
            content.append({"type": "redacted_thinking", "data": "abc"})
        content += [self._text() for _ in range(chance.choice((1, 1, 1, 2, 9)))]
        if chance.random() < 0.6:
            content += [self._call() for _ in range(chance.randint(1, 3))]
        self._body["messages"].append({"role": "assistant", "content": content})

    def _open_calls(self) -> list[str]:
        messages = self._body["messages"]
        if not messages or isinstance(messages[-1]["content"], str):
            return []
        return [block["id"] for block in messages[-1]["content"] if block["type"] == "tool_use"]

    def _edit(self) -> None:
        texts = [block for block in self._blocks(self._body) if block.get("type") == "text"]
        tools = self._body.get("tools", [])
        chosen = self._chance.choice([*texts, *tools]) if texts or tools else None
        if chosen is not None and not chosen.get("text", "").startswith("x-anth"):
            chosen["text" if "text" in chosen else "description"] = self._words()

    def _reorder(self) -> None:
        calls = [block for block in self._blocks(self._body) if block.get("type") == "tool_use"]
        if calls:
            call = self._chance.choice(calls)
            call["input"] = dict(reversed(call["input"].items()))

    def _add(self) -> None:
        """More is said before there was an answer."""
        last = self._body["messages"][-1]
        if isinstance(last["content"], list):
            last["content"].append(self._text())

    def _split(self) -> None:
        """One message becomes two of the same side, which are one turn: the model reads the same."""
        messages = self._body["messages"]
        for at, message in enumerate(messages):
            content = message["content"]
            if not isinstance(content, str) and len(content) > 1 and {each["type"] for each in content} == {"text"}:
                messages[at : at + 1] = [message | {"content": part} for part in (content[:1], content[1:])]
                return

    def _marked(self, body: dict[str, Any]) -> dict[str, Any]:
        """As most clients do it, and as some should not."""
        chance = self._chance
        for block in self._blocks(body):
            if chance.random() < 0.15:  # fields of the API's own in another order: the same
                fields = list(block.items())
                chance.shuffle(fields)
                block.clear()
                block.update(fields)
        places = [
            block
            for block in [*body.get("tools", []), *self._blocks(body)]
            if not block.get("defer_loading") and block.get("type") not in ("thinking", "redacted_thinking")
        ]
        count = min(len(places), chance.choice((0, 0, 0, 1, 1, 2, 3, 3, 4)))
        for number in chance.sample(range(len(places)), count):
            places[number]["cache_control"] = self._control(early=number < len(places) // 2)
        if places and chance.random() < 0.7:
            places[-1]["cache_control"] = self._control(early=False)
        for block in places:
            parts = block["content"] if block.get("type") == "tool_result" else None
            if isinstance(parts, list) and "cache_control" not in block and chance.random() < 0.1:
                parts[-1] = parts[-1] | {"cache_control": self._control(early=False)}
        if chance.random() < 0.3:
            body["cache_control"] = self._control(early=False)
        if chance.random() < 0.05:
            body["model"] = "claude-opus-4-8"
        if chance.random() < 0.05:
            body["speed"] = chance.choice(("fast", "standard"))
        return body

    def _control(self, *, early: bool) -> dict[str, Any]:
        """Mostly an hour in front and five minutes behind, as the rule wants it."""
        ttl = self._chance.choices(("1h", "5m", None), (6, 1, 1) if early else (1, 12, 12))[0]
        return {"type": "ephemeral"} | ({} if ttl is None else {"ttl": ttl})

    def _blocks(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        system = body.get("system")
        held = [] if isinstance(system, str) or system is None else list(system)
        for message in body["messages"]:
            held += [] if isinstance(message["content"], str) else message["content"]
        return held

    def _text(self) -> dict[str, Any]:
        return {"type": "text", "text": self._words()}

    def _words(self) -> str:
        return " ".join(self._chance.choices(_WORDS, k=self._chance.randint(1, 6))).strip()

    def _tool(self, number: int) -> dict[str, Any]:
        schema = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}}
        return {"name": f"tool{number}", "description": self._words(), "input_schema": schema}

    def _call(self) -> dict[str, Any]:
        self._calls += 1
        given = {"a": self._words(), "b": self._chance.randint(0, 3)}
        return {"type": "tool_use", "id": f"toolu_{self._calls}", "name": "tool0", "input": given}

    def _result(self, call: str) -> dict[str, Any]:
        chance = self._chance
        result: dict[str, Any] = {"type": "tool_result", "tool_use_id": call}
        kind = chance.randint(0, 3)
        if kind < 2:
            result["content"] = self._words()
        else:
            result["content"] = [self._text() for _ in range(kind - 1)]
        return result
