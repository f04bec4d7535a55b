"""Models: listed and shown."""

from __future__ import annotations

from latentopt.errors import InputError


def models(words: list[str]) -> int:
    from latentopt.zoo import cards

    match words:
        case ["list"]:
            for name in cards.names():
                print(f"{name:20s} {cards.read_card(name).summary}")
        case ["show", name]:
            print((cards.find(name) / cards.CARD).read_text(encoding="utf-8"), end="")
        case _:
            raise InputError("models", "list or show NAME", " ".join(words) or "nothing")
    return 0
