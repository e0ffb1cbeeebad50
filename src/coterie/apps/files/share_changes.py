"""What changed on disk since a share was taken in, for people. Apart from the other results, for it loads the store."""

import msgspec

from coterie.content.changes import Changes
from coterie.texts import tr
from coterie.transfer.results import SHOWN_MAX


class ShareChanges(msgspec.Struct, frozen=True):
    """What changed on disk since a share was taken in."""

    id: str
    name: str
    path: str
    changes: Changes

    def text(self) -> str:
        """For people."""
        c = self.changes
        if not c:
            return tr("{path} is as it was shared", path=self.path)
        lines = [
            tr(
                "{path}: {text} since it was shared; `coterie share --update` takes that in",
                path=self.path,
                text=c.text(),
            )
        ]
        for what, number, names in (
            ("new", c.added, c.added_names),
            ("changed", c.changed, c.changed_names),
            ("gone", c.gone, c.gone_names),
        ):
            lines += [f"  {what}: {name}" for name in names[:SHOWN_MAX]]
            if number > len(names[:SHOWN_MAX]) and names:
                lines.append(tr("  {what}: {number:,} in all", what=what, number=number))
        return "\n".join(lines)
