"""The entry point of the fake app."""

import sys

from coterie.access.resource import ResourceKind, Verb
from coterie.apps.app import App

APP = App(
    name="fake",
    summary="For tests",
    create=lambda context: sys.modules["coterie_fake.service"].FakeService(),
    commands="coterie_fake.commands",
    kinds=(ResourceKind("postbox", Verb.LIST | Verb.WRITE, "a box for letters"),),
)
