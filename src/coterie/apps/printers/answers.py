"""What our IPP endpoint says of printers and jobs: the printer's own words, with what is different here. Pure."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from coterie.apps.printers import ipp
from coterie.apps.printers.documents import ANY
from coterie.apps.printers.ipp import Attribute, Value, attribute, chosen
from coterie.apps.printers.operations import SERVED, JobState, PrinterState
from coterie.apps.printers.printing import template_of
from coterie.apps.printers.records import SentJob

VERSIONS = ("1.1", "2.0")
COMPRESSIONS = ("none", "gzip", "deflate")
TEMPLATES = frozenset(
    (
        "copies",
        "cover-back",
        "cover-front",
        "feed-orientation",
        "finishings",
        "finishings-col",
        "font-name-requested",
        "font-size-requested",
        "imposition-template",
        "insert-sheet",
        "job-delay-output-until",
        "job-error-action",
        "job-hold-until",
        "job-priority",
        "job-sheets",
        "media",
        "media-col",
        "media-overprint",
        "multiple-document-handling",
        "number-up",
        "orientation-requested",
        "output-bin",
        "overrides",
        "page-delivery",
        "page-ranges",
        "presentation-direction-number-up",
        "print-color-mode",
        "print-content-optimize",
        "print-darkness",
        "print-quality",
        "print-rendering-intent",
        "print-scaling",
        "print-speed",
        "printer-resolution",
        "separator-sheets",
        "sheet-collate",
        "sides",
        "x-image-position",
        "y-image-position",
    )
)
"""How a job is printed (RFC 8011, 5.2; PWG 5100.7, 5100.13): X, and X-default, X-supported, X-ready of the printer."""
_NOT_OURS = frozenset(
    (
        "printer-strings-uri",
        "printer-strings-languages-supported",
        "printer-xri-supported",
        "printer-fax-log-uri",
        "printer-static-resource-directory-uri",
        "printer-config-change-time",
        "printer-config-change-date-time",
        "printer-state-change-time",
        "printer-state-change-date-time",
        "printer-state-message",
        "job-password-supported",
        "job-password-encryption-supported",
        "notify-attributes-supported",
        "notify-events-default",
        "notify-events-supported",
        "notify-lease-duration-default",
        "notify-lease-duration-supported",
        "notify-max-events-supported",
        "notify-pull-method-supported",
        "notify-schemes-supported",
        "reference-uri-schemes-supported",
        "device-uri",
        "member-names",
        "member-uris",
        "printer-id",
        "marker-change-time",
        "auth-info-required",
        "printer-type",
        "printer-is-shared",
        "printer-is-temporary",
        "printer-commands",
        "printer-error-policy",
        "printer-error-policy-supported",
        "printer-op-policy",
        "printer-op-policy-supported",
        "port-monitor",
        "port-monitor-supported",
        "requesting-user-name-allowed",
        "requesting-user-name-denied",
        "server-is-sharing-printers",
        "job-k-limit",
        "job-page-limit",
        "job-quota-period",
        "job-settable-attributes-supported",
        "printer-settable-attributes-supported",
    )
)
"""What the printer says and our endpoint does not do, or what is nobody's business here."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is different here. `uri`: the printer's at this endpoint, as `page`, `icon`; `up_s`: since the start."""

    uri: str
    uuid: str
    page: str
    icon: str
    name: str
    info: str
    up_s: int
    date: bytes
    queued: int
    state: PrinterState
    reasons: tuple[str, ...]


def printer_attributes(own: Mapping[str, Attribute], facts: Facts) -> dict[str, Attribute]:
    """What the printer said of itself, as it is at our endpoint; with what every printer must say."""
    said = {name: one for name, one in _needed().items() if name not in own}
    said |= {name: one for name, one in own.items() if name not in _NOT_OURS}
    formats = own.get("document-format-supported")
    if formats is None:
        said["document-format-supported"] = attribute("document-format-supported", ipp.MIME, ANY)
    elif ANY not in (value.data for value in formats.values):
        values = (*formats.values, Value(ipp.MIME, ANY))
        said["document-format-supported"] = Attribute("document-format-supported", values)
    ours = (
        attribute("printer-uri-supported", ipp.URI, facts.uri),
        attribute("uri-security-supported", ipp.KEYWORD, "none"),
        attribute("uri-authentication-supported", ipp.KEYWORD, "requesting-user-name"),
        attribute("printer-name", ipp.NAME, facts.name),
        attribute("printer-dns-sd-name", ipp.NAME, facts.info),
        attribute("printer-info", ipp.TEXT, facts.info),
        attribute("printer-more-info", ipp.URI, facts.page),
        attribute("printer-supply-info-uri", ipp.URI, facts.page),
        attribute("printer-icons", ipp.URI, facts.icon),
        attribute("printer-uuid", ipp.URI, facts.uuid),
        attribute("printer-state", ipp.ENUM, facts.state),
        attribute("printer-state-reasons", ipp.KEYWORD, *(facts.reasons or ("none",))),
        attribute("printer-is-accepting-jobs", ipp.BOOLEAN, True),
        attribute("queued-job-count", ipp.INTEGER, facts.queued),
        attribute("printer-up-time", ipp.INTEGER, facts.up_s),
        attribute("printer-current-time", ipp.DATE_TIME, facts.date),
        attribute("printer-state-change-time", ipp.INTEGER, 1),
        attribute("printer-state-change-date-time", ipp.DATE_TIME, facts.date),
        attribute("printer-config-change-time", ipp.INTEGER, 1),
        attribute("printer-config-change-date-time", ipp.DATE_TIME, facts.date),
        attribute("ipp-versions-supported", ipp.KEYWORD, *VERSIONS),
        attribute("operations-supported", ipp.ENUM, *SERVED),
        attribute("charset-configured", ipp.CHARSET, "utf-8"),
        attribute("charset-supported", ipp.CHARSET, "us-ascii", "utf-8"),
        attribute("natural-language-configured", ipp.LANGUAGE, "en"),
        attribute("generated-natural-language-supported", ipp.LANGUAGE, "en"),
        attribute("compression-supported", ipp.KEYWORD, *COMPRESSIONS),
        attribute("document-format-default", ipp.MIME, ANY),
        attribute("multiple-document-jobs-supported", ipp.BOOLEAN, False),
        attribute("multiple-operation-time-out", ipp.INTEGER, 600),
        attribute("multiple-operation-time-out-action", ipp.KEYWORD, "abort-job"),
        attribute("pdl-override-supported", ipp.KEYWORD, "attempted"),
        attribute("which-jobs-supported", ipp.KEYWORD, "completed", "not-completed"),
        attribute("job-ids-supported", ipp.BOOLEAN, True),
        attribute("job-hold-until-supported", ipp.KEYWORD, "no-hold", "indefinite"),
        attribute("job-hold-until-default", ipp.KEYWORD, "no-hold"),
        attribute("printer-get-attributes-supported", ipp.KEYWORD, "document-format"),
        attribute("preferred-attributes-supported", ipp.BOOLEAN, False),
    )
    return said | {one.name: one for one in ours}


def _urn(hexadecimal: str) -> str:
    """RFC 9562, 4: 16 bytes as a name."""
    parts = [hexadecimal[a:b] for a, b in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))]
    return f"urn:uuid:{'-'.join(parts)}"


def _needed() -> dict[str, Attribute]:
    """What RFC 8011 and PWG 5100.12 ask of every printer, and one of IPP 1.0 may not have said."""
    given = (
        attribute("printer-location", ipp.TEXT, ""),
        attribute("printer-make-and-model", ipp.TEXT, "Unknown"),
        attribute("color-supported", ipp.BOOLEAN, False),
        attribute("pages-per-minute", ipp.INTEGER, 1),
        attribute("copies-default", ipp.INTEGER, 1),
        attribute("copies-supported", ipp.RANGE, (1, 99)),
        attribute("finishings-default", ipp.ENUM, 3),
        attribute("finishings-supported", ipp.ENUM, 3),
        attribute("media-default", ipp.KEYWORD, "iso_a4_210x297mm"),
        attribute("media-supported", ipp.KEYWORD, "iso_a4_210x297mm", "na_letter_8.5x11in"),
        attribute("media-ready", ipp.KEYWORD, "iso_a4_210x297mm"),
        attribute("orientation-requested-default", ipp.ENUM, 3),
        attribute("orientation-requested-supported", ipp.ENUM, 3, 4, 5, 6),
        attribute("output-bin-default", ipp.KEYWORD, "face-down"),
        attribute("output-bin-supported", ipp.KEYWORD, "face-down"),
        attribute("print-quality-default", ipp.ENUM, 4),
        attribute("print-quality-supported", ipp.ENUM, 4),
        attribute("printer-resolution-default", ipp.RESOLUTION, (300, 300, 3)),
        attribute("printer-resolution-supported", ipp.RESOLUTION, (300, 300, 3)),
        attribute("sides-default", ipp.KEYWORD, "one-sided"),
        attribute("sides-supported", ipp.KEYWORD, "one-sided"),
    )
    return {one.name: one for one in given}


def wanted(attributes: Iterable[Attribute], requested: Sequence[str]) -> tuple[Attribute, ...]:
    """Those of a printer that were asked for, by name or by group (RFC 8011, 4.2.5.1; PWG 5100.7 for the database)."""
    asked = set(requested) or {"all"}
    return tuple(
        a
        for a in attributes
        if a.name in asked
        or (a.name != "media-col-database" and ("all" in asked or _group_of(a.name) in asked))
    )


def _group_of(name: str) -> str:
    stem = name
    for end in ("-default", "-supported", "-ready"):
        stem = stem.removesuffix(end)
    return "job-template" if stem != name and stem in TEMPLATES else "printer-description"


def job_attributes(job: SentJob, printer_uri: str, up_s: int, started: float) -> tuple[Attribute, ...]:
    """A job of ours. Times are those of `printer-up-time`: seconds since `started`, 0 or less before it."""
    uri = f"{printer_uri}/{job.number}"

    def moment(name: str, at: float) -> Attribute:
        if not at:
            return attribute(name, ipp.NO_VALUE, None)
        return attribute(name, ipp.INTEGER, int(at - started) + 1)

    state = JobState(job.state)
    described = (
        attribute("job-id", ipp.INTEGER, job.number),
        attribute("job-uri", ipp.URI, uri),
        attribute("job-uuid", ipp.URI, _urn(job.id)),
        attribute("job-printer-uri", ipp.URI, printer_uri),
        attribute("job-name", ipp.NAME, job.title),
        attribute("job-originating-user-name", ipp.NAME, job.user),
        attribute("job-state", ipp.ENUM, state),
        attribute("job-state-reasons", ipp.KEYWORD, *(job.reasons or ["none"])),
        attribute("job-state-message", ipp.TEXT, job.note[:300]),
        attribute("job-printer-up-time", ipp.INTEGER, up_s),
        moment("time-at-creation", job.created),
        moment("time-at-processing", job.processing or (job.completed if state.is_over else 0)),
        moment("time-at-completed", job.completed),
        attribute("job-k-octets", ipp.INTEGER, (job.size + 1023) // 1024),
        attribute("job-impressions", ipp.INTEGER, job.sides),
        attribute("job-impressions-completed", ipp.INTEGER, job.sides_done),
        attribute("number-of-documents", ipp.INTEGER, 0 if job.is_incoming else 1),
        attribute("document-format-supplied", ipp.MIME, job.format),
        attribute("attributes-charset", ipp.CHARSET, "utf-8"),
        attribute("attributes-natural-language", ipp.LANGUAGE, "en"),
    )
    known = {one.name for one in described}
    return described + tuple(a for a in template_of(job.attributes) if a.name not in known)


def wanted_of_job(attributes: Iterable[Attribute], requested: Sequence[str]) -> tuple[Attribute, ...]:
    """Those of a job that were asked for, by name or by group (RFC 8011, 4.3.4.1)."""
    asked = set(requested) or {"all"}
    if "all" in asked:
        return tuple(attributes)
    found = list(attributes)
    names = asked | {
        a.name for a in found if ("job-template" if a.name in TEMPLATES else "job-description") in asked
    }
    return chosen(found, names)


def unsupported(template: Iterable[Attribute], printer: Mapping[str, Attribute]) -> list[Attribute]:
    """Attributes of a job that the printer does not take, or not with these values; unknown ones without a value."""
    return [
        one if (known := printer.get(f"{one.name}-supported")) is not None else Attribute(one.name, _UNKNOWN)
        for one in template
        if (known := printer.get(f"{one.name}-supported")) is None
        or not all(_is_in(value, known.values) for value in one.values)
    ]


_UNKNOWN = (Value(ipp.UNSUPPORTED_VALUE, None),)


def _is_in(value: Value, known: Sequence[Value]) -> bool:
    if value.tag == ipp.COLLECTION or known[0].tag == ipp.BOOLEAN:
        return True  # what is in it the printer judges
    if value.tag in (ipp.INTEGER, ipp.ENUM, ipp.RANGE):
        low, high = value.data if value.tag == ipp.RANGE else (value.data, value.data)
        if low > high:
            return False
        ranges = [k.data if k.tag == ipp.RANGE else (k.data, k.data) for k in known if k.tag in _NUMBERS]
        return any(a <= low and high <= b for a, b in ranges) or (
            [k.tag for k in known] == [ipp.INTEGER] and 1 <= low <= known[0].data
        )  # `job-priority-supported` is the number of levels
    return any(k.data == value.data for k in known)


_NUMBERS = (ipp.INTEGER, ipp.ENUM, ipp.RANGE)
