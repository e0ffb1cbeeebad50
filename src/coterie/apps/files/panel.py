"""What the page shows of files and transfers."""

from coterie.apps.files import files_view, transfers_view, trash_view
from coterie.apps.panel import Panel

PANEL = Panel(
    views=(files_view.VIEW, transfers_view.VIEW, trash_view.VIEW),
    lives=(*files_view.LIVES, *transfers_view.LIVES, *trash_view.LIVES),
    search=files_view.search,
)
