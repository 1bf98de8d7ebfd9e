"""The rights that docs/fleet-state.md tells a server's owner to give to a fleet's user."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "fleet-state.md"


def acl_words(user: str, password: str, fleet: str) -> list[str]:
    """The page's own line, with these in the place of its examples."""
    (line,) = re.findall(r"^ACL SETUSER .*$", PAGE.read_text(), re.MULTILINE)
    values = {"baton-user": user, ">PASSWORD": f">{password}", "~baton:1:FLEET:*": ""}
    words = line.split()
    assert values.keys() <= set(words), line
    values["~baton:1:FLEET:*"] = f"~baton:1:{fleet}:*"
    return [values.get(word, word) for word in words]
