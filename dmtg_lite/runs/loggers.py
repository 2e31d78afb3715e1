"""Loggers: whoever wants to hear of records as they reach a run's history; TensorBoard is one.

They hear between two steps, a few times a second at most, and of numbers that have left the device
already, so that no step waits for them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dmtg_lite.runs.history import History
from dmtg_lite.runs.parallel import world

_PIXELS = 16  # of an entry of the probabilities, in each direction


class LoggerWarning(UserWarning):
    """A logger failed, and the run goes on without it."""


@dataclass(frozen=True, slots=True)
class News:
    """What a run has recorded since the last news of it.

    Args:
        run: Which run of a method, or part of one: ``"pretrain"``, ``"main"``, ``"pairs0"``.
        folder: The run folder, with all else that is kept of the run; None where nothing is.
        history: These records only, one at least. A run that went on from a checkpoint may tell of
            steps again that were told of before it was killed.
        encoder_macs: Multiply-adds of the encoders in this part of the run so far.
    """

    run: str
    folder: Path | None
    history: History
    encoder_macs: int


Logger = Callable[[News], None]
"""Any function of `News`. If it has a method ``close``, that is called when a run ends."""


class Log:
    """The loggers of one run.

    A logger that fails at its first news ends the run, since it never worked; one that fails later
    is left out with a `LoggerWarning`: all that it would be told is in the history too, and hours
    of training are worth more.
    """

    def __init__(
        self, loggers: Iterable[Logger] = (), run: str = "main", folder: str | Path | None = None
    ) -> None:
        # of several processes that train one run, the first writes
        self._loggers = list(loggers) if world().is_first else []
        for one in self._loggers:
            if not callable(one):
                raise ValueError(f"`loggers` must be functions of `News`, got {one!r} among them.")
        self.run, self.folder = run, None if folder is None else Path(folder)
        self._n_told = 0
        self._have_worked: set[int] = set()  # by id

    def begin(self, history: History) -> Log:
        """Tell of what comes after what is there, of which others told before a kill."""
        self.close()
        self._n_told = len(history)
        return self

    def tell(self, history: History, encoder_macs: int) -> None:
        """Hand on the records that are new."""
        if not self._loggers or len(history) <= self._n_told:
            return
        new = history.slice(self._n_told)
        news = News(self.run, self.folder, new, encoder_macs)
        self._n_told += len(new)
        for logger in tuple(self._loggers):
            try:
                logger(news)
                self._have_worked.add(id(logger))
            except Exception as error:
                if id(logger) not in self._have_worked:
                    raise
                self._loggers.remove(logger)
                last = int(news.history.steps[-1])
                warnings.warn(
                    f"the logger {_name(logger)} failed at step {last} and is left out, the run "
                    f"goes on: {type(error).__name__}: {error}",
                    LoggerWarning,
                    stacklevel=2,
                )

    def close(self) -> None:
        """The run ends, or begins anew."""
        for logger in self._loggers:
            getattr(logger, "close", lambda: None)()

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def as_log(loggers: Iterable[Logger] | Log, folder: str | Path | None = None) -> Log:
    """The loggers of a run of its own, or those that are one's already."""
    return loggers if isinstance(loggers, Log) else Log(loggers, folder=folder)


def _name(logger: Logger) -> str:
    return getattr(logger, "__name__", type(logger).__name__)


class TensorBoard:
    """Event files for TensorBoard, in ``tensorboard/`` of each run folder (needs the extra).

    Losses and validation losses a task, tau, entropy (1 uniform, 0 one-hot), encoder cost in 1e9
    multiply-adds, and softmax(S) as a picture, a row a task. ``tensorboard --logdir FOLDER`` shows
    them. Steps that a resumed run takes again replace those from before the kill.

    Args:
        folder: Where they go instead, a folder a run; needed by a run that has no folder.

    Raises:
        ImportError: If tensorboard is not installed.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise ImportError(
                "logging for TensorBoard needs that package, which is not installed. Run: pip "
                'install "dmtg-lite[tensorboard]"'
            ) from error
        self._open, self.folder = SummaryWriter, folder
        self._writers: dict[Path, Any] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return TensorBoard, (self.folder,)  # another process opens files of its own

    def __call__(self, news: News) -> None:
        writer, new = self._find(news), news.history
        for i, step in enumerate(new.steps.tolist()):
            for name, loss in zip(new.task_names, new.task_losses[i], strict=True):
                writer.add_scalar(f"loss/{name}", float(loss), step)
            writer.add_scalar("assignment/entropy", float(new.entropy[i]), step)
            writer.add_scalar("assignment/tau", float(new.tau[i]), step)
        for step, losses in zip(new.validation_steps.tolist(), new.validation_losses, strict=True):
            for name, loss in zip(new.task_names, losses, strict=True):
                writer.add_scalar(f"validation_loss/{name}", float(loss), step)
        last = int(new.steps[-1])
        writer.add_scalar("cost/encoder_gmacs", news.encoder_macs / 1e9, last)
        picture = np.kron(np.nan_to_num(new.probabilities[-1]), np.ones((_PIXELS, _PIXELS)))
        writer.add_image("assignment/probabilities", picture, last, dataformats="HW")
        writer.flush()

    def _find(self, news: News) -> Any:
        folder = self.folder or (news.folder and news.folder / "tensorboard")
        if folder is None:
            raise ValueError(
                "TensorBoard has nowhere to write: this run keeps no folder. Give it one, as in "
                "Saving(folder), or name one: TensorBoard(folder)."
            )
        folder = Path(folder) / news.run
        if folder not in self._writers:
            first = int(news.history.steps[0])
            self._writers[folder] = self._open(str(folder), purge_step=first)
        return self._writers[folder]

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()


LOGGERS: dict[str, Callable[[], Logger]] = {"tensorboard": TensorBoard}
"""Those that a command knows by name."""
