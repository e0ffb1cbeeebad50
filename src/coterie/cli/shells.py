"""The one exit of every completion: what bash, zsh and fish get to put on a person's line.

Values are other people's words: a share may be called `x$(command)`. zsh and fish quote what they insert; bash inserts
text as it comes, so it is quoted here. What no shell can be given harmlessly is left out: control characters and line
ends, and for bash everything but plain words where the person has opened a quote.
"""

import os

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    get_completion_class,
)

_PLAIN = frozenset("._-/@%+,:=")  # beside letters and digits: bash takes these for nothing but themselves

# click's own scripts expand patterns in what they read (bash) and cut values at commas (bash, fish).
_BASH = """\
%(complete_func)s() {
    local type value
    COMPREPLY=()
    while IFS=',' read -r type value; do
        case "$type" in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done < <(IFS=$'\\n'; env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD="$COMP_CWORD" \
%(complete_var)s=bash_complete "$1")
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""
_FISH = """\
function %(complete_func)s
    for completion in (env %(complete_var)s=fish_complete COMP_WORDS=(commandline -cp | string collect) \
COMP_CWORD=(commandline -t | string collect) %(prog_name)s)
        set -l parts (string split -m 1 "," -- $completion)
        switch $parts[1]
            case dir
                __fish_complete_directories $parts[2]
            case file
                __fish_complete_path $parts[2]
            case plain
                printf '%%s\\n' $parts[2]
        end
    end
end
complete --no-files --command %(prog_name)s --arguments "(%(complete_func)s)"
"""


def in_bash(value: str, begun: str) -> str | None:
    """`value` as bash may insert it in place of `begun`, the word as it stands on the line; None: leave it out."""
    if _is_plain(value):
        return value
    if not value.isprintable() or any(quote in begun for quote in "'\"`"):
        return None
    return "".join(char if char.isalnum() or char in _PLAIN else f"\\{char}" for char in value)


def _harmless(items: list[CompletionItem]) -> list[CompletionItem]:
    return [item for item in items if str(item.value).isprintable()]


def plain_words_only(shell: str) -> None:
    """For a shell that was not tried here: offer nothing but words that every shell takes for themselves."""
    kind = get_completion_class(shell)
    if kind is None or kind.__module__ == __name__:
        return

    def get_completions(self: ShellComplete, args: list[str], incomplete: str) -> list[CompletionItem]:
        items = ShellComplete.get_completions(self, args, incomplete)
        return [item for item in items if _is_plain(str(item.value))]

    add_completion_class(type(kind.__name__, (kind,), {"get_completions": get_completions}), shell)


def _is_plain(value: str) -> bool:
    return all(char.isalnum() or char in _PLAIN for char in value)


@add_completion_class
class _Bash(BashComplete):
    source_template = _BASH

    def complete(self) -> str:
        words = os.environ["COMP_WORDS"].split("\n")
        at = int(os.environ["COMP_CWORD"])
        begun = words[at] if at < len(words) else ""
        lines = []
        for item in self.get_completions(*self.get_completion_args()):
            value = in_bash(str(item.value), begun)
            if value is not None:
                lines.append(f"{item.type},{value}")
        return "\n".join(lines)


@add_completion_class
class _Zsh(ZshComplete):
    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        return _harmless(super().get_completions(args, incomplete))


@add_completion_class
class _Fish(FishComplete):
    source_template = _FISH

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        return _harmless(super().get_completions(args, incomplete))
