"""The command `fovea-gateway`: serves with the settings FOVEA_* until it is told to end, or makes an API key."""

import argparse
import os
import sys
import tempfile

from serving import api_keys, settings


def main() -> None:
    """Run the gateway, or make an API key.

    Ends with exit code 1 and one sentence where a setting is wrong or a port is taken.
    """
    arguments = _arguments()
    if arguments.command == "key":
        _make_key(arguments.name)
    else:
        _serve()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "fovea-gateway", description="Serve with the settings FOVEA_* of the environment, or make an API key."
    )
    commands = parser.add_subparsers(dest="command", metavar="key NAME")
    key = commands.add_parser("key", help="make an API key: its entry goes to standard output, the key to the terminal")
    key.add_argument("name", metavar="NAME", help="whose key it is; for the log and the metrics")
    return parser.parse_args()


def _make_key(name: str) -> None:
    """Write the entry for FOVEA_API_KEYS_FILE to standard output, and the key, which is kept nowhere, beside it."""
    try:
        key, entry = api_keys.make(name)
    except ValueError:
        sys.exit(f"{name!r} is not a name of at most 64 letters, digits, '.', '_' and '-'")
    print(f"the key of {name}, shown this once: {key}", file=sys.stderr)
    print(entry)


def _serve() -> None:
    try:
        chosen = settings.read()
    except ValueError as error:
        sys.exit(str(error))
    if chosen.workers > 1 and "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        # prometheus_client decides when it is imported whether its values are shared between processes.
        folder = tempfile.TemporaryDirectory(prefix="fovea-metrics-")
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder.name
    from serving import memory, server

    memory.give_back_large_blocks()
    try:
        server.Gateway(chosen).run()
    except server.PortTakenError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
