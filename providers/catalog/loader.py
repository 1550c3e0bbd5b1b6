"""Reads data/*.toml once each, when first asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from providers.catalog.reading import parse
from providers.catalog.schema import CatalogError, ProviderFile
from providers.protocols import registry

DATA = Path(__file__).parent / "data"


def read(path: Path) -> ProviderFile:
    """One provider file. Raises CatalogError naming file, place and remedy."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogError(f"{path.name}: cannot be read: {error}.") from None
    provider = parse(text, path.name)
    if provider.id != path.stem:
        raise CatalogError(
            f"{path.name}: id {provider.id!r} must equal the file's name: rename one of them."
        )
    known = registry.slugs()
    for slug in filter(None, (provider.protocol, *provider.protocols)):
        if slug not in known:
            raise CatalogError(
                f"{path.name}: there is no protocol {slug!r}. Known: {', '.join(known)}."
            )
    return provider


def load(folder: Path) -> dict[str, ProviderFile]:
    """Every provider file of a folder by id. Raises CatalogError on the first bad one."""
    found = {path.stem: read(path) for path in sorted(folder.glob("*.toml"))}
    _refuse_shared_names(found)
    return found


def problems(folder: Path) -> list[str]:
    """One sentence per bad file; empty when the whole catalog can be used."""
    found: dict[str, ProviderFile] = {}
    out: list[str] = []
    for path in sorted(folder.glob("*.toml")):
        try:
            found[path.stem] = read(path)
        except CatalogError as error:
            out.append(str(error))
    try:
        _refuse_shared_names(found)
    except CatalogError as error:
        out.append(str(error))
    return out


class Catalog(Mapping[str, ProviderFile]):
    """The files of a folder by id, each parsed at its first use: a gateway needs few of them."""

    def __init__(self, folder: Path) -> None:
        self._paths = {path.stem: path for path in sorted(folder.glob("*.toml"))}
        self._files: dict[str, ProviderFile] = {}

    def __getitem__(self, provider: str) -> ProviderFile:
        file = self._files.get(provider)
        if file is None:
            file = self._files[provider] = read(self._paths[provider])
        return file

    def __contains__(self, provider: object) -> bool:
        return provider in self._paths

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def named(self, name: str) -> ProviderFile | None:
        """By id, or by a name that other programs and older files use. None = unknown."""
        if name in self:
            return self[name]
        return next((file for file in self.values() if name in file.known_as), None)


@lru_cache(maxsize=1)
def catalog() -> Catalog:
    return Catalog(DATA)


def _refuse_shared_names(files: Mapping[str, ProviderFile]) -> None:
    owner = dict.fromkeys(files, "")
    for provider, file in files.items():
        for name in file.known_as:
            if name in owner:
                other = owner[name] or name
                raise CatalogError(
                    f"{provider}.toml: known_as {name!r} already means {other!r}: take one out."
                )
            owner[name] = provider
