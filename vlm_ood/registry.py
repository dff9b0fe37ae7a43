"""A table of named classes that is filled by importing every module of a package.

A new entry is one new file in that package; no list of names has to be changed.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from vlm_ood.errors import ParameterError, UnknownNameError

T = TypeVar("T")
C = TypeVar("C", bound=type)


class Registry(Generic[T]):
    """Maps names to frozen dataclasses whose fields are hyper-parameters.

    Args:
        kind: how error messages call an entry, such as "detector".
        package: the package whose modules are imported before the first look-up.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._classes: dict[str, type[T]] = {}
        self._adapters: dict[str, TypeAdapter[Any]] = {}

    def register(self, name: str) -> Callable[[C], C]:
        """Return a class decorator that registers a dataclass under `name` and sets its attribute `name`.

        Raises:
            ValueError: another class has this name already.
        """

        def enter(cls: C) -> C:
            if name in self._classes:
                raise ValueError(f"{self.kind} {name!r} is already registered by {self._classes[name].__module__}")
            self._classes[name] = cls
            cls.name = name  # type: ignore[attr-defined]
            return cls

        return enter

    @cached_property
    def _discovered(self) -> dict[str, type[T]]:
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self._package}.{module.name}")
        return self._classes

    def names(self) -> list[str]:
        """List every registered name, sorted."""
        return sorted(self._discovered)

    def get(self, name: str) -> type[T]:
        """Return the class that is registered under `name`.

        Raises:
            UnknownNameError: the name is not registered; the message has the closest name and the known ones.
        """
        if name not in self._discovered:
            raise UnknownNameError(self.kind, name, self._discovered)
        return self._discovered[name]

    def create(self, name: str, /, **parameters: Any) -> T:
        """Create an instance of the class `name`; each hyper-parameter is checked against its field.

        Raises:
            UnknownNameError: the name is not registered.
            ParameterError: a parameter is unknown, of the wrong type, or out of range.
        """
        adapter = self._adapter(name)
        try:
            instance: T = adapter.validate_python(parameters)
            return instance
        except ValidationError as error:
            known = ", ".join(self.schema(name).get("properties", {})) or "none"
            wrong = "; ".join(
                f"{'.'.join(map(str, problem['loc']))}={problem['input']!r}: {problem['msg']}"
                for problem in error.errors()
            )
            raise ParameterError(f"{self.kind} {name}: {wrong}. Its parameters: {known}.") from None

    def schema(self, name: str) -> dict[str, Any]:
        """Return the JSON schema of the hyper-parameters of the class `name`."""
        schema: dict[str, Any] = self._adapter(name).json_schema()
        return schema

    def parameters(self, instance: T) -> dict[str, Any]:
        """Return the hyper-parameters of an instance as plain values."""
        return asdict(instance)  # type: ignore[call-overload, no-any-return]

    def _adapter(self, name: str) -> Any:
        cls = self.get(name)
        # Cached, because building an adapter takes longer than the rest of the server's work on a request.
        if name not in self._adapters:
            self._adapters[name] = TypeAdapter(cls)
        return self._adapters[name]
