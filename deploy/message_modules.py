"""Copy the message modules that the gateway imports out of TensorFlow's wheel, and nothing else of it.

Usage: message_modules.py WHEEL SITE_PACKAGES

SITE_PACKAGES holds `serving` and tensorflow-serving-api. `serving.wire` is imported with the wheel itself on the search
path, and what it asked for is copied; so the selection follows the code.
"""

import sys
import zipfile
from pathlib import Path


def imported_from(wheel: Path) -> set[str]:
    """Return the names of the modules below `tensorflow` that the import of `serving.wire` looks for."""
    asked_for: set[str] = set()
    sys.addaudithook(lambda event, args: asked_for.add(args[0]) if event == "import" else None)
    sys.path.append(str(wheel))
    import serving.wire  # noqa: F401

    return {name for name in asked_for if name.startswith("tensorflow.")}


def main(wheel: Path, site_packages: Path) -> None:
    """Copy the modules, and the wheel's licence beside them."""
    sys.path.insert(0, str(site_packages.resolve()))
    modules = {f"{name.replace('.', '/')}.py" for name in imported_from(wheel)}
    with zipfile.ZipFile(wheel) as archive:
        licences = {name for name in archive.namelist() if ".dist-info/" in name and "LICENSE" in name}
        for name in sorted((modules | licences) & set(archive.namelist())):
            archive.extract(name, site_packages)
            print(name)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
