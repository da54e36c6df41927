"""The command `fovea`."""

import errno
import os
import sys

import typer

from training.cli import compare, data, demo, explain, models, rollout, train, watch
from training.cli.console import console
from training.errors import FoveaError, WorkerLostError

# Keras reads it when it is imported, which the commands do only when they need it.
os.environ["KERAS_BACKEND"] = "tensorflow"

app = typer.Typer(help="Train, publish and roll out small-data picture classifiers.", no_args_is_help=True)
app.add_typer(data.app, name="data")
app.add_typer(models.app, name="store")
for command in (
    train.train,
    train.recipes,
    train.publish,
    train.pretrain,
    compare.compare,
    explain.explain,
    explain.evaluate_explanations,
    models.models,
    models.promote,
    models.canary,
    models.rollback,
    rollout.compare_versions,
    rollout.rollout,
    demo.demo,
):
    app.command()(command)
# What `fovea watch` does not know it gives to `fovea train`.
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(watch.watch)


def main() -> None:
    """Run the command line; what a user can mend ends in one sentence and exit code 1."""
    try:
        app()
    except WorkerLostError as error:
        console.print(f"fovea: {error}", style="red", soft_wrap=True, markup=False)
        # At a normal exit TensorFlow's threads would wait for the lost worker, and complain.
        os._exit(1)
    except FoveaError as error:
        _end(str(error))
    except KeyboardInterrupt:
        _end("interrupted", 130)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            _end(f"no space is left on the disk, writing {error.filename or 'a temporary file'}")
        if error.errno in (errno.EACCES, errno.EROFS, errno.EEXIST, errno.ENOTDIR) or isinstance(
            error, FileExistsError
        ):
            _end((error.strerror and f"{error.filename}: {error.strerror}") or str(error))
        raise


def _end(sentence: str, code: int = 1) -> None:
    console.print(f"fovea: {sentence}", style="red", soft_wrap=True, markup=False)
    sys.exit(code)
