"""What this and other packages add by entry point: naming schemes, architectures, metrics, ...

An extension is any object with the attributes that its kind's protocol asks for. A package offers
it in its ``pyproject.toml``, and ours are declared in the same way::

    [project.entry-points."napari_cellclf.metrics"]
    matthews = "my_package.matthews:MatthewsCorrelation"
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from napari_cellclf.errors import CellclfError

T = TypeVar("T")


@cache
def _declared(group: str) -> dict[str, EntryPoint]:
    """Find the entry points of a group; ours first, so that nobody replaces one of them."""
    points = sorted(entry_points(group=group), key=lambda point: (not _is_ours(point), point.name))
    found: dict[str, EntryPoint] = {}
    for point in points:
        found.setdefault(point.name, point)
    return found


def _is_ours(point: EntryPoint) -> bool:
    return point.module.partition(".")[0] == "napari_cellclf"


@cache
def _loaded(point: EntryPoint) -> Any:
    return point.load()


@dataclass(frozen=True)
class ExtensionPoint(Generic[T]):
    """One kind of extension, found by the entry points of one group.

    Parameters
    ----------
    group : str
        Name of the group, such as ``"napari_cellclf.metrics"``.
    kind : str
        What an extension is called in messages, such as ``"metric"``.
    error : type of CellclfError
        Raised where an extension is missing, cannot be loaded, or is not what it should be.
    base : type, optional
        What every extension is an instance of, or with `of_classes` a subclass.
    of_classes : bool
        Whether extensions are classes.
    """

    group: str
    kind: str
    error: type[CellclfError]
    base: type | None = None
    of_classes: bool = False

    def names(self) -> tuple[str, ...]:
        """List what is installed, ours first, without importing any of it."""
        return tuple(_declared(self.group))

    def foreign_names(self) -> tuple[str, ...]:
        """List what other packages offer, without importing any of it."""
        return tuple(name for name, point in _declared(self.group).items() if not _is_ours(point))

    def get(self, name: str) -> T:
        """Import one extension.

        Raises
        ------
        CellclfError
            Of the type `error`, if none of that name is installed, its import fails, or it is
            something else.
        """
        point = _declared(self.group).get(name)
        if point is None:
            raise self.error(
                f"no {self.kind} named {name!r} is installed; installed: "
                f"{', '.join(self.names()) or 'none'}"
            )
        try:
            extension: T = _loaded(point)
        except (ImportError, AttributeError) as error:
            raise self.error(
                f"the {self.kind} {name!r} ({point.value}) cannot be imported ({error}); "
                "reinstall or uninstall the package that offers it"
            ) from error
        if self.base is not None and not self._is_one(extension, self.base):
            wanted = "a class derived from" if self.of_classes else "an instance of"
            raise self.error(
                f"the {self.kind} {name!r} ({point.value}) is not {wanted} {self.base.__name__}; "
                "correct or uninstall the package that offers it"
            )
        return extension

    def _is_one(self, extension: object, base: type) -> bool:
        if self.of_classes:
            return isinstance(extension, type) and issubclass(extension, base)
        return isinstance(extension, base)

    def all(self) -> dict[str, T]:
        """Import every extension, by name."""
        return {name: self.get(name) for name in self.names()}
