"""Prompts that must not share what the library remembers: the same tokens under other numbers.

OpenVINO finds the computed blocks of a prompt by the numbers of its tokens, all of those before them included, and
knows no workspaces. In a model that first masks its token numbers to as many bits as its vocabulary needs, the higher
bits are nothing to the model and make other tokens to the library: a salt that changes no answer. `docs/design/0014`.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antiphon.engine.children.openvino_library import openvino as ov
from antiphon.engine.children.openvino_library import opset13

#: Tokens of a block in this library.
BLOCK = 32
#: Inside the processor's plugin numbers have 32 bits, with a sign. (It takes them modulo something as 32-bit floats,
#: which is why they are masked.)
_BITS = 31
#: How much of a salt the leading tokens are to tell apart, in bits.
SALT_BITS = 60

Ids = NDArray[np.int64]


def add_salt(model: Any) -> int:
    """Have a model mask its token numbers, and return to how many bits; 0, and no change, where its graph is not known
    here."""
    numbers = _numbers(model)
    looked_up = [target for target in numbers.get_target_inputs() if _rows(target.get_node())] if numbers else []
    rows = {_rows(target.get_node()) for target in looked_up}
    if numbers is None or len(rows) != 1 or not _only_shapes(numbers, looked_up):
        return 0
    bits = (rows.pop() - 1).bit_length()
    masked = opset13.bitwise_and(numbers, opset13.constant(np.array(2**bits - 1, dtype=np.int64)))
    for target in looked_up:
        target.replace_source_output(masked.output(0))
    model.validate_nodes_and_infer_types()
    return bits


def salted_bits(model: Any) -> int:
    """To how many bits a model masks its token numbers; 0 where it uses any of them as it is."""
    numbers = _numbers(model)
    readers = numbers.get_target_inputs() if numbers else []
    masking = [target for target in readers if target.get_node().get_type_name() == "BitwiseAnd"]
    if len(masking) != 1 or not _only_shapes(numbers, masking):
        return 0
    node = masking[0].get_node()
    mask = node.input_value(1).get_node()
    if masking[0].get_index() != 0 or mask.get_type_name() != "Constant":
        return 0
    bits = int(mask.data).bit_length()
    fitting = {(_rows(target.get_node()) - 1).bit_length() for target in node.output(0).get_target_inputs()}
    return bits if fitting == {bits} and int(mask.data) == 2**bits - 1 else 0


def _numbers(model: Any) -> Any:
    """Where a model's token numbers come in."""
    return next((port for port in model.inputs if "input_ids" in port.get_names()), None)


def _only_shapes(numbers: Any, besides: list[Any]) -> bool:
    """Whether all else that reads the numbers asks how many there are, and no more."""
    kept = {(target.get_node().get_friendly_name(), target.get_index()) for target in besides}
    return all(
        target.get_node().get_type_name() == "ShapeOf"
        for target in numbers.get_target_inputs()
        if (target.get_node().get_friendly_name(), target.get_index()) not in kept
    )


def _rows(node: Any) -> int:
    """The rows of the table that a node, or the one behind a conversion, looks token numbers up in; 0 where none is."""
    if node.get_type_name() == "Convert":
        targets = list(node.output(0).get_target_inputs())
        found = {_rows(t.get_node()) for t in targets if t.get_node().get_type_name() == "Gather"}
        return found.pop() if len(found) == 1 and len(targets) == 1 else 0
    if node.get_type_name() != "Gather" or len(node.input_value(0).partial_shape) != 2:
        return 0
    first = node.input_value(0).partial_shape[0]
    return int(first.get_length()) if first.is_static else 0


class Salting:
    """Gives prompts the numbers that they go to the library under, for a model that masks its own to so many bits. With
    0 `bits` the library must remember nothing: prompts cannot be told apart.

    Attributes:
        length: how many leading tokens hold a salt.
        count: how many blocks are spoiled.
    """

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self._digits = 2 ** (_BITS - bits) - 1  # none of them is 0
        self.length = next(n for n in itertools.count(1) if self._digits**n >= 2**SALT_BITS)
        self._short = itertools.count()
        self._spoiled: dict[int, list[bytes]] = {}
        self.count = 0

    def numbers(self, prompt: list[int], salt: int) -> Ids:
        """A prompt's numbers under a salt (0 is none), away from every spoiled block."""
        ids: Ids = np.array(prompt, dtype=np.int64)
        if not self.bits:
            return ids
        if salt:
            # One too short to hold its salt fills no block with its own tokens: it is given a salt that is nobody's.
            # As none of a longer one's digits is 0, no short one begins as a longer one does.
            own = salt if len(ids) >= self.length else next(self._short)
            for place in range(min(len(ids), self.length)):
                own, digit = divmod(own, self._digits)
                ids[place] += (digit + 1) << self.bits
        if self._spoiled:
            self._turn_aside(ids)
        return ids

    def spoil(self, ids: Ids, whole: int) -> None:
        """What follows the first `whole` tokens (full blocks) of these was cut short while the library computed it: it
        takes such a block for a whole one, with whatever was there before in it."""
        self._spoiled.setdefault(_chain(ids[:whole]), []).append(ids[whole : whole + BLOCK].tobytes())
        self.count += 1

    def _turn_aside(self, ids: Ids) -> None:
        chain = 0
        for start in range(0, len(ids), BLOCK):
            for bad in self._spoiled.get(chain, ()):
                if ids[start : start + BLOCK].tobytes().startswith(bad):
                    self._turn(ids, start, chain)
                    break
            chain = hash((chain, ids[start : start + BLOCK].tobytes()))

    def _turn(self, ids: Ids, start: int, chain: int) -> None:
        """Give a block's first token the next number that makes it no spoiled one."""
        bad = self._spoiled[chain]
        while any(ids[start : start + BLOCK].tobytes().startswith(one) for one in bad):
            ids[start] = (ids[start] + (1 << self.bits)) % (1 << _BITS)


def _chain(ids: Ids) -> int:
    """What stands for full blocks."""
    chain = 0
    for start in range(0, len(ids), BLOCK):
        chain = hash((chain, ids[start : start + BLOCK].tobytes()))
    return chain


def bits_of(xml: Path) -> int:
    """`salted_bits` of a saved model; 0 where it cannot be read."""
    try:
        return salted_bits(ov.Core().read_model(str(xml)))
    except RuntimeError:
        return 0
