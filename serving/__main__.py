"""The command `fovea-gateway`: reads its settings from FOVEA_* and serves until it is told to end."""

import os
import sys
import tempfile

from serving import settings


def main() -> None:
    """Run the gateway.

    Ends with exit code 1 and one sentence where a setting is wrong or a port is taken.
    """
    try:
        chosen = settings.read()
    except ValueError as error:
        sys.exit(str(error))
    if chosen.workers > 1 and "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        # prometheus_client decides when it is imported whether its values are shared between processes.
        folder = tempfile.TemporaryDirectory(prefix="fovea-metrics-")
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder.name
    from serving import server

    try:
        server.Gateway(chosen).run()
    except server.PortTakenError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
