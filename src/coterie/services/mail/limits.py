"""The bounds of mail, each with its unit in the name."""

BODY_BYTES_MAX = 64 * 1024  # of one letter; guess: what is larger is content, and a letter names it
NAME_CHARS_MAX = 64  # of an app and of a stream; guess
DEVICES_MAX = 16  # computers of a person that one letter is for; guess

LIFETIME_MAX_S = 30 * 86_400  # guess: a holiday; what is older concerns nobody
LIFETIME_S = 7 * 86_400  # where the app does not say

PENDING_MAX = 10_000  # letters of an app that wait for one addressee; guess
PENDING_BYTES_MAX = 16 << 20  # their bodies; guess
APP_LETTERS_MAX = 50_000  # of one app to all; about 20 MB of memory
APP_BYTES_MAX = 256 << 20  # on disk; guess

STREAMS_MAX = 64  # of an app, to one computer; guess
EPOCHS_MAX = 1_024  # streams of one sender, each with each of its starts, until their letters expire; guess
FINISHED_MAX = 64 * 1_024  # ids remembered of one sender; guess: 6 MB
IN_FLIGHT_MAX = 64  # letters of an app sent to one addressee and not yet acknowledged; guess: 4 MiB at most
RANGE_MAX = 1_024  # numbers from the first unfinished letter of a stream to the last that is sent
HELD_MAX = 128  # letters of one sender that wait for earlier ones, in memory; they come again
HELD_BYTES_MAX = 16 << 20  # of all senders of an app; guess
RUN_MAX = 64  # letters handled in one transaction; guess

RETRY_MIN_S = 5.0  # guess: a busy computer answers within
RETRY_MAX_S = 300.0
AWAY_S = 600.0  # guess: until an app that does not run there may have been started
DIAL_MIN_S = 30.0  # guess
DIAL_MAX_S = 900.0
HANDLER_RETRY_S = 5.0  # doubles after each failure of the app's handler
