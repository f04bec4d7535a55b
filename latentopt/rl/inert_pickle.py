"""Pickles read without making any object in them: each becomes a record of its class's name and its arguments."""

from __future__ import annotations

import io
import pickle
from typing import Any


class InertObject:
    """A record in place of an object of a pickle, which is not made.

    Attributes:
        origin: module and name of the class or function that would make it.
        args: arguments of that call.
        state: the object's state; None where the pickle has none.
    """

    origin: tuple[str, str] = ("", "")
    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any, **kwargs: Any) -> InertObject:
        record = object.__new__(cls)
        record.args, record.state = args, None
        return record

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> InertObject:
        return InertObject()

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        pass

    def extend(self, items: Any) -> None:
        pass

    def add(self, item: Any) -> None:
        pass


class _InertUnpickler(pickle._Unpickler):  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
    """Python's own reader, not C's, which can be made to fill the memory by one number."""

    def find_class(self, module: str, name: str) -> Any:
        return type("InertObject", (InertObject,), {"origin": (module, name)})  # a new one, as a pickle may write to it


def read_inert(content: bytes) -> Any:
    """Read a pickle: numbers, text and containers as they are, every other object as `InertObject`.

    Nothing that the pickle names is imported or called.

    Raises:
        Exception: of any kind, where it is no pickle or a broken one.

    >>> import datetime
    >>> record = read_inert(pickle.dumps({"day": datetime.timedelta(3)}))["day"]
    >>> record.origin, record.args
    (('datetime', 'timedelta'), (3, 0, 0))
    """
    return _InertUnpickler(io.BytesIO(content)).load()
