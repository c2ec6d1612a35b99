"""Where the files are that ship with the code: beside it in a checkout, within it where a wheel was installed.

``pyproject.toml`` names what a wheel takes in: the folders of ``schemas/``, and ``config/default.toml``.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent
_INSTALLED = (_PACKAGE / "schemas").is_dir()
_FOLDER = _PACKAGE if _INSTALLED else _PACKAGE.parent
SCHEMAS = _FOLDER / "schemas"


def home() -> Path:
    """Return where a site's files are that does not say it: in the checkout, else in the folder of the process.

    What is installed is replaced by the next release: no place for keys and profiles.
    """
    return Path.cwd() if _INSTALLED else _FOLDER


def settings_file(root: Path, name: str) -> Path:
    """Return ``config/<name>.toml`` below a site's folder; of the defaults those that ship, where it has none.

    A profile is the site's alone, so that a mistyped folder is no reason to run with somebody else's addresses.
    """
    own = root / "config" / f"{name}.toml"
    return _FOLDER / "config" / own.name if name == "default" and not own.is_file() else own
