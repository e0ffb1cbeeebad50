"""What the entries of an arriving tree are called on this computer."""

from coterie.content import manifest as m
from coterie.content.names import ANY_NAME, NameRules, local_names

Parts = tuple[str, ...]


class Naming:
    """The local names of one download; `renamed` are those that differ, as (path, why)."""

    def __init__(self, rules: NameRules) -> None:
        """By the rules of the destination."""
        self._rules = rules
        self._taken: dict[Parts, set[str]] = {}  # of folders in pages, where different names can be one
        self.renamed: list[tuple[str, str]] = []

    def of(self, parts: Parts, node: m.TreeLeaf, *, is_page: bool) -> list[str]:
        """The names of the entries of the folder `parts`; `is_page`: these are not all of them."""
        names = [entry.name for entry in node.entries]
        taken = self._taken.setdefault(parts, set()) if is_page and self._rules != ANY_NAME else None
        local = local_names(names, self._rules, taken=taken)
        for name, called in zip(names, local, strict=True):
            if name != called:
                self.renamed.append(
                    ("/".join((*parts, called)), f"'{name}' cannot be a name of its own here")
                )
        return local
