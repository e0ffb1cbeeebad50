"""Numbers of IPP: operations, statuses and states (RFC 8011, 5.3.7, 5.4.15, appendix B; PWG 5100.7, 5100.11)."""

from enum import IntEnum


class Op(IntEnum):
    """What a request asks for."""

    PRINT_JOB = 0x02
    VALIDATE_JOB = 0x04
    CREATE_JOB = 0x05
    SEND_DOCUMENT = 0x06
    CANCEL_JOB = 0x08
    GET_JOB_ATTRIBUTES = 0x09
    GET_JOBS = 0x0A
    GET_PRINTER_ATTRIBUTES = 0x0B
    HOLD_JOB = 0x0C
    RELEASE_JOB = 0x0D
    CANCEL_MY_JOBS = 0x39
    CLOSE_JOB = 0x3B
    IDENTIFY_PRINTER = 0x3C
    CUPS_GET_DEFAULT = 0x4001
    CUPS_GET_PRINTERS = 0x4002


SERVED = tuple(op for op in Op if op < 0x4000)
"""What our endpoint does."""


class Status(IntEnum):
    """How a request ended."""

    OK = 0x0000
    OK_IGNORED = 0x0001
    BAD_REQUEST = 0x0400
    FORBIDDEN = 0x0401
    NOT_AUTHORIZED = 0x0403
    NOT_POSSIBLE = 0x0404
    NOT_FOUND = 0x0406
    TOO_LARGE = 0x0408
    VALUE_TOO_LONG = 0x0409
    FORMAT_NOT_SUPPORTED = 0x040A
    ATTRIBUTES_NOT_SUPPORTED = 0x040B
    CHARSET_NOT_SUPPORTED = 0x040D
    COMPRESSION_NOT_SUPPORTED = 0x040F
    COMPRESSION_ERROR = 0x0410
    FORMAT_ERROR = 0x0411
    ACCOUNT_LIMIT_REACHED = 0x041F  # PWG 5100.11
    INTERNAL_ERROR = 0x0500
    OPERATION_NOT_SUPPORTED = 0x0501
    VERSION_NOT_SUPPORTED = 0x0503
    TEMPORARY_ERROR = 0x0505
    BUSY = 0x0507


FIRST_FAILURE = 0x0100  # statuses below are successes


class JobState(IntEnum):
    """Where a job stands."""

    PENDING = 3
    HELD = 4
    PROCESSING = 5
    STOPPED = 6
    CANCELED = 7
    ABORTED = 8
    COMPLETED = 9

    @property
    def is_over(self) -> bool:
        """Whether nothing more becomes of it."""
        return self >= JobState.CANCELED


class PrinterState(IntEnum):
    """What a printer does."""

    IDLE = 3
    PROCESSING = 4
    STOPPED = 5
