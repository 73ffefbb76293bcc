"""Completion in bash, which takes the colon of ``params:lenet_mnist`` for the end of a word."""
from __future__ import annotations

import os

from click.shell_completion import BashComplete, CompletionItem, add_completion_class, split_arg_string


class BashWithColons(BashComplete):
    """As click's, with the words put together again that bash has split at their colons."""

    before_colon = ""  # of the word that is completed: bash keeps it, and wants the rest alone

    def get_completion_args(self) -> tuple[list[str], str]:
        words = split_arg_string(os.environ["COMP_WORDS"])[:int(os.environ["COMP_CWORD"]) + 1]
        missing = int(os.environ["COMP_CWORD"]) + 1 - len(words)
        joined: list[str] = []
        for word in [*words, *[""] * missing]:
            if joined and (word == ":" or joined[-1].endswith(":")):
                joined[-1] += word
            else:
                joined.append(word)
        args, incomplete = joined[1:-1], joined[-1]
        self.before_colon = incomplete[:incomplete.rfind(":") + 1]
        return args, incomplete

    def format_completion(self, item: CompletionItem) -> str:
        return f"{item.type},{item.value.removeprefix(self.before_colon)}"


def register() -> None:
    """Let click use it."""
    add_completion_class(BashWithColons)
