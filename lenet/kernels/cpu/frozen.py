"""Frozen objects as compile-time constants: a value whose whole content is in its Numba type.

A jitted function that is handed a registered frozen dataclass is compiled for just that one, so that its numbers are
constants to the compiler: loops have known lengths, strides are known, branches on it vanish. Compiled code is cached
on disk under the signature, and so for each such object.
"""

from typing import Any

from numba import types
from numba.core.typing.templates import AttributeTemplate
from numba.extending import (
    NativeValue,
    infer_getattr,
    lower_getattr_generic,
    models,
    register_model,
    typeof_impl,
    unbox,
)


class Frozen(types.Type):
    """The type of one frozen object, `value`; integers among its attributes become literals."""

    def __init__(self, value: Any) -> None:
        self.value = value
        super().__init__(name=f"Frozen({value!r})")


register_model(Frozen)(models.OpaqueModel)


def register(kind: type) -> type:
    """Let jitted functions take objects of a frozen dataclass as compile-time constants."""
    typeof_impl.register(kind)(_type_of)
    return kind


def _type_of(value: Any, _: Any) -> Frozen:
    """Return the type of an object, made once: to name it takes its whole content."""
    if id(value) not in _types:
        _types[id(value)] = value, Frozen(value)
    return _types[id(value)][1]


_types: dict[int, tuple[Any, Frozen]] = {}
"""Objects and their types by identity, which stays unique while the object is held here.

The type alone would not hold it: Numba has one type for objects of equal content, which knows the first of them.
"""


@unbox(Frozen)
def _unbox(kind: Frozen, value: Any, context: Any) -> Any:
    return NativeValue(context.context.get_dummy_value())


@infer_getattr
class _Attributes(AttributeTemplate):
    key = Frozen

    def generic_resolve(self, kind: Frozen, name: str) -> Any:
        value = getattr(kind.value, name)
        return types.IntegerLiteral(value) if isinstance(value, int) else Frozen(value)


@lower_getattr_generic(Frozen)
def _attribute(context: Any, builder: Any, kind: Frozen, value: Any, name: str) -> Any:
    found = getattr(kind.value, name)
    return context.get_constant(types.intp, found) if isinstance(found, int) else context.get_dummy_value()
