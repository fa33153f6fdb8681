"""`cpt-ray`: one command, one pipeline per word."""

from __future__ import annotations

import difflib
import functools
import gc
import importlib
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from types import ModuleType

from pydantic import BaseModel
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cpt_ray.compat.ray import unwrapped
from cpt_ray.errors import UserError, first_line, refused
from cpt_ray.options import Options

from .stopping import supervised

OVERRIDE = re.compile(r"^[~+]{0,2}[A-Za-z_][\w./@]*=")
"""What is not of this shape on the command line is the pipeline's free text, the option that its module calls FREE."""

LOGS = "CPT_RAY_LOGS"
"""In the environment: `json` has each line of the log be a JSON object, for machines that read them."""

GROUPS = {
    "Everything at once": ["demo", "doctor"],
    "Corpora": ["crawl", "text_pairs", "code_pairs", "labelled_pairs", "hard_negatives", "dedup", "quality_model"],
    "Look": ["inspect", "trace", "lineage", "explain", "audit"],
    "Models": ["pretrain", "train", "sweep", "plan"],
    "Use": ["evaluate", "compare", "embed", "search", "serve"],
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `cpt-ray <pipeline> key=value ...`; returns the exit code (2: the user's mistake)."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        _help()
        return 0
    if words[0] == "--version":
        from cpt_ray import __version__

        print(f"cpt-ray {__version__}")
        return 0
    typed = words.pop(0)
    name = typed.replace("-", "_")
    try:
        if name not in _pipelines():
            close = difflib.get_close_matches(name.lower(), _pipelines(), n=1)
            named = f"did you mean {_word(close[0])}? There are" if close else "one of"
            raise UserError(f"there is no pipeline {typed!r}", fix=f"{named} {', '.join(map(_word, _pipelines()))}")
        return run(name, _declared(name).PipelineOptions, functools.partial(_start, name), words)
    except UserError as error:
        return _say(error)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if (told := refused(unwrapped(error))) is not None:
            return _say(told)
        if not _as_json():
            raise
        set_up_logging()
        logging.getLogger("cpt_ray").exception("%s", first_line(error))
        return 1


def _as_json() -> bool:
    return os.environ.get(LOGS) == "json"


def _say(error: UserError) -> int:
    """The error as the log has it; returns the exit code."""
    if _as_json():
        set_up_logging()
        logging.getLogger("cpt_ray").error("%s", error)
    else:
        Console(stderr=True).print(f"[bold red]error[/] {escape(str(error))}", highlight=False, soft_wrap=True)
    return 2


def command(*before: str) -> int:
    """What `cpt-ray` does: `main` in a process that can be stopped at any moment."""
    ended = supervised(functools.partial(main, [*before, *sys.argv[1:]]))
    gc.freeze()  # else Python looks over all that was imported once more as the process ends
    return ended


def run(name: str, options: type[Options], start: Callable[..., object], words: Sequence[str]) -> int:
    """Compose the options from `words`, then run the pipeline, or print its help or configuration."""
    from . import config

    words = ["--help" if word == "-h" else word for word in words]
    flags = {word for word in words if word.startswith("--")}
    unknown = flags - {"--help", "--print-config"}
    if unknown:
        raise UserError(f"unknown flag {sorted(unknown)[0]}", fix="options are written key=value; see --help")
    if "--help" in flags:
        _pipeline_help(name, options)
        return 0
    rest = [word for word in words if word not in flags]
    overrides = [word for word in rest if OVERRIDE.match(word)]
    free = [word for word in rest if word not in overrides]
    text = " ".join(free)
    takes = getattr(sys.modules[options.__module__], "FREE", None)
    if free and takes is None:
        raise UserError(f"{_word(name)} takes no free text: {text!r}", fix="options are written key=value")
    value = free if takes and config.takes_many(options, takes) else text
    given = {takes: value} if takes and free else {}
    try:
        composed = config.load(name, options, overrides, given)
    except UserError:
        if "--print-config" in flags:
            print(config.show(config.plain(name, options, overrides, given)), end="")
        raise
    if "--print-config" in flags:
        print(config.show(composed), end="")
        return 0
    set_up_logging()
    share_the_machine()
    ended = start(composed)
    return ended if isinstance(ended, int) else 0


class JsonLines(logging.Formatter):
    """A record as one line of JSON: time (UTC), level, logger, message, and where there was one, the error."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def script(name: str) -> None:
    """What `python -m pipelines.<name>` does."""
    sys.exit(command(name))


def set_up_logging() -> None:
    """Our own log lines to standard error, one JSON object each where CPT_RAY_LOGS=json; other packages' only when they
    warn."""
    handler: logging.Handler
    if _as_json():
        handler = logging.StreamHandler()
        handler.setFormatter(JsonLines())
        logging.getLogger().handlers = [handler]  # what others warn of, too
    elif sys.stderr.isatty():
        handler = RichHandler(console=Console(stderr=True), show_path=False, show_level=False, log_time_format="%X")
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    own = logging.getLogger("cpt_ray")
    own.handlers, own.propagate = [handler], False
    own.setLevel(logging.INFO)


def share_the_machine() -> None:
    """Threads that wait sleep, here and in the processes that Ray starts from here: a spinning one takes a core from what
    else runs on the machine. The libraries read this when they are loaded, which is after options are composed."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("KMP_BLOCKTIME", "0")


def _pipelines() -> list[str]:
    return [name for names in GROUPS.values() for name in names]


def _word(name: str) -> str:
    return name.replace("_", "-")


def _declared(name: str) -> ModuleType:
    """The module of a pipeline's options, which is light: help and configuration need no more."""
    return importlib.import_module(f".options.{name}", __package__)


def _start(name: str, options: Options) -> object:
    """Look at what it reads, and only then import and run the pipeline."""
    from cpt_ray.memory import uncollected

    with uncollected():
        from . import reads

        reads.check_options(getattr(_declared(name), "READS", {}), options)
        pipeline = importlib.import_module(f".{name}", __package__)
    return pipeline.run(options)


def _kind(options: type[BaseModel]) -> str:
    return str(options.model_fields["kind"].default)


def _help() -> None:
    console = Console()
    console.print("[bold]cpt-ray[/] turns raw web text and source code into embedding models, end to end, on Ray.\n")
    console.print("Usage: cpt-ray PIPELINE \\[key=value ...] \\[--print-config] \\[--help]\n")
    for title, names in GROUPS.items():
        console.print(f"[bold]{title}[/]")
        table = Table(box=None, show_header=False, padding=(0, 2))
        table.add_column(style="cyan", min_width=14)
        table.add_column()
        for name in names:
            table.add_row(_word(name), (_declared(name).__doc__ or "").partition("\n")[0])
        console.print(table)
        console.print()
    console.print("Everything a pipeline makes is kept; run the same command again and it goes on where it stopped.")


def _pipeline_help(name: str, options: type[Options]) -> None:
    from . import config

    console = Console()
    text = sys.modules[options.__module__].__doc__ or ""
    console.print(f"[bold]cpt-ray {_word(name)}[/]  {escape(text.strip())}\n", highlight=False)
    table = Table(box=None, padding=(0, 2))
    table.add_column("key", style="cyan", no_wrap=True)
    table.add_column("default", overflow="fold", max_width=28)
    table.add_column("what it is", overflow="fold")
    for key, (default, description) in config.keys(options).items():
        table.add_row(key, Text(default), Text(description))  # brackets are no markup here
    console.print(table, highlight=False)
    for key, several in config.kinds(options).items():
        listed = config.takes_many(options, key)
        example = f"a list of kinds, as in {key}=\\[{{kind: {_kind(several[0])}, ...}}]"
        console.print(
            f"\n{key}: {example if listed else f'a kind, as in {key}.kind={_kind(several[0])}'}", highlight=False
        )
        for one in several:
            console.print(f"\n  [cyan]kind: {_kind(one)}[/]  {escape((one.__doc__ or '').strip())}", highlight=False)
            table = Table(box=None, padding=(0, 2), show_header=False)
            for inner, (default, description) in config.keys(one).items():
                if inner != "kind":
                    table.add_row("", inner, Text(default), Text(description))
            console.print(table, highlight=False)
    for group, files in config.choices(name).items():
        console.print(f"\n{group}=... chooses a file of conf/: {', '.join(files)}", highlight=False)


if __name__ == "__main__":
    sys.exit(command())
