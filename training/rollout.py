"""Roll a new version out: canary, comparison with stable, promotion or return."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from training.data.pictures import PictureSet
from training.errors import FoveaError
from training.served import LOAD_TIMEOUT_S, RefusedError, ServedModel
from training.store import CANARY, STABLE, Store
from training.trial import TOLERANCE, Decision, Trial, decide, try_versions

Confirm = Callable[[Decision], bool]


@dataclass(frozen=True)
class Outcome:
    """What became of a rollout."""

    state: Literal["promoted", "rolled back", "left", "nothing new", "rejected before"]
    version: int
    why: str


def rollout(
    store: Store,
    model: str,
    server: str,
    pictures: Callable[[str], PictureSet],
    version: int | None = None,
    tolerance: float = TOLERANCE,
    confirm: Confirm | None = None,
    say: Callable[[str], None] = lambda _: None,
    progress: Callable[[str, int, int], None] | None = None,
    timeout_s: float = LOAD_TIMEOUT_S,
) -> Outcome:
    """Make the newest version the canary, compare it with the stable one, and promote it or take the label off.

    Broken off anywhere, it can be called again and goes on: with the canary that it finds, or with nothing if the
    version is stable or was rejected. The label `stable` moves once at most, to a version that the server has loaded.

    Args:
        store: the model store.
        model: name of the model.
        server: gRPC address of a model server that follows the store, host:port.
        pictures: reads the labelled set, given the recipe on the version's card; called only if there is
            something to compare.
        version: the version to try, also one that was rejected; by default the canary, else the newest.
        tolerance: accuracy that may be lost, in 0..1.
        confirm: asked before the label moves by a decision; without its consent everything stays as it is.
        say: prints a line.
        progress: called as the comparison goes on.
        timeout_s: how long to wait for the server to load a version, and to follow a label.

    Raises:
        FoveaError: what the user can mend.
    """
    labels = store.labels(model)
    candidate = store.candidate(model) if version is None else version
    stable = labels.get(STABLE)
    if candidate == stable:
        return Outcome("nothing new", candidate, "it is stable already")
    if version is None and labels.get(CANARY) != candidate and (move := store.rejected(model).get(candidate)):
        how = "its promotion was rolled back" if move.undoes else "it was given up as a canary"
        return Outcome("rejected before", candidate, f"{how} at {move.at}; name it with --version to try it again")

    with ServedModel(server, model) as served:
        store.list_version(model, candidate)
        say(f"waiting until {server} has loaded version {candidate}")
        served.wait_until_loaded(candidate, timeout_s)
        store.set_label(model, CANARY, candidate)
        say(f"version {candidate} is the canary")
        trial = compare(served, pictures, candidate, stable, progress)
        for line in trial.lines():
            say(line)
        decision = decide(trial, tolerance)
        if confirm is not None and not confirm(decision):
            return Outcome("left", candidate, "it stays the canary; promote or give it up by hand")
        now = store.labels(model)
        if (now.get(CANARY), now.get(STABLE)) != (candidate, stable):
            raise FoveaError(f"somebody else moved the labels of {model!r} during the comparison; nothing was done")
        if not decision.promote:
            store.drop_canary(model, candidate)
            return Outcome("rolled back", candidate, decision.why)
        store.promote(model, candidate)
        served.wait_until_labelled(STABLE, candidate, timeout_s)
        return Outcome("promoted", candidate, decision.why)


def compare(
    served: ServedModel,
    pictures: Callable[[str], PictureSet],
    canary: int,
    stable: int | None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Trial:
    """Compare two loaded versions on the validation pictures of a set; see `try_versions`."""
    if stable is not None:
        served.wait_until_loaded(stable)
    try:
        recipe = served.card(canary).recipe
    except RefusedError:
        recipe = ""
    return try_versions(served, pictures(recipe), canary, stable, progress)
