"""Divides command lines into file names and settings, and reports a user's mistake in one line.

Start reading at `run_main` and `read_arguments`.
"""

import copy
import difflib
import functools
import itertools
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from historical_denoiser.core import interrupts
from historical_denoiser.core.checks import UserError, reason_of
from historical_denoiser.core.resources import CONF

HELP_END = """\
--cfg job prints all settings with their values, --cfg job --package inference those of
one part. Change any with key=value, a group with group=option.
"""
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
SCHEMA_NAME = "schema"  # Hydra's name of the configuration with all settings

CONFIG_FOLDER = re.compile(r"provider=main, path=file://(.*)")  # in Hydra's error messages
# Additions to Hydra's messages, by words in them.
HINTS = {"Ambiguous value": "; decimals have a point (0.5), lists stand in brackets ([1,2])",
         "converted to Float": "; expected is a number, as 0.5",
         "converted to Integer": "; expected is a whole number",
         "not a valid bool": "; expected is true or false",
         "is not a ListConfig": "; expected is a list in brackets, as [1,2]"}

USER_ERRORS = (UserError, OSError, HydraException, OmegaConfBaseException, YAMLError)


class NamesFormatter(logging.Formatter):
    """Writes control characters in file names as `\\n` and `\\x1b`."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the message; control characters in arguments that are paths are escaped."""
        args = record.args
        if isinstance(args, tuple):
            record = copy.copy(record)
            record.args = tuple(printable(str(value)) if isinstance(value, PurePath) else value
                                for value in args)
        return super().format(record)


def printable(text: str) -> str:
    """Returns a text with its control characters as Python's escape sequences."""
    return CONTROL.sub(lambda match: repr(match[0])[1:-1], text)


def known_keys() -> list[str]:
    """Returns every key of the configuration: `unet`, `unet.depth`, ..."""
    keys = []

    def walk(node: DictConfig, prefix: str) -> None:
        for key in node:
            keys.append(prefix + str(key))
            if not OmegaConf.is_missing(node, key) and isinstance(node[key], DictConfig):
                walk(node[key], f"{keys[-1]}.")

    walk(ConfigStore.instance().load(f"{SCHEMA_NAME}.yaml").node, "")
    return keys


def closest_key(key: str) -> str:
    """Returns " Did you mean `...`?" for a mistyped key; empty if no key is similar."""
    keys, last = known_keys(), key.split(".")[-1]
    # For a shortened name, as `strength` for `denoising_strength`, other keys look more similar.
    shortened = [known for known in keys if known.split(".")[-1].endswith(f"_{last}")]
    matches = (shortened if len(shortened) == 1 else []) or difflib.get_close_matches(
        key, keys, n=1) or [known for known in keys if known.split(".")[-1] == last]
    return f" Did you mean `{matches[0]}`?" if matches else ""


def describe_error(error: BaseException) -> str:
    """Returns an error's message on one line."""
    if isinstance(error, OverrideParseException):
        return f"cannot read the argument {error.override!r}: {str(error).splitlines()[0]}"
    if isinstance(error, MissingConfigException):
        return str(error).splitlines()[0].rstrip(".") + _list_options(error)
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        lines = [str(error).split("\n")[0]]
        if error.__cause__ is not None:
            lines.append(str(error.__cause__).split("\n")[0])
        text = ": ".join(dict.fromkeys(lines))  # the cause often repeats the message
        text += next((hint for words, hint in HINTS.items() if words in text), "")
        override = re.match(r"Could not override '([\w.]+)'", text)
        return text + (closest_key(override[1]) if override else "")
    return " ".join(reason_of(error).split("\n"))


def _list_options(error: MissingConfigException) -> str:
    """Returns "; there is ..." with the options of a group, or the existing configurations."""
    names, folder = error.options, CONFIG_FOLDER.search(str(error))
    if names is None and folder:
        names = sorted(path.stem for path in Path(folder[1]).glob("conf*.yaml"))
    return f"; there is {', '.join(names)}" if names else ""


def exit_on_user_error(task: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a function: a user's mistake becomes one line on stderr and exit status 1.

    It must be inside of `hydra.main`, or Hydra writes lines of its own about the error.
    """

    @functools.wraps(task)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return task(*args, **kwargs)
        except USER_ERRORS as error:
            sys.exit(f"error: {printable(describe_error(error))}")

    return guarded


def answer_help(usage: str) -> None:
    """Ends the program if `--help` is asked for; prints `usage` and the groups of settings first.

    Hydra's own help takes two seconds more, as it copies all settings for each group.
    """
    if not {"--help", "-h"}.isdisjoint(itertools.takewhile("--".__ne__, sys.argv[1:])):
        groups = sorted({path.parent for path in CONF.glob("*/*.yaml")})
        lines = [f"{group.name}: {', '.join(sorted(path.stem for path in group.glob('*.yaml')))}"
                 for group in groups]
        sys.stdout.write("\n".join([usage.strip(), "", HELP_END, *lines, ""]))
        sys.exit()


def run_main(main: Callable[[], Any], usage: str = "") -> None:
    """Runs an entry point; a user's mistake becomes one line on stderr and exit status 1.

    Args:
        main: The entry point.
        usage: What `--help` prints first, unless `main` answers it.
    """
    if usage:
        answer_help(usage)
    # With this variable Hydra raises its own errors instead of printing them over several lines.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    interrupts.raise_again()
    try:
        exit_on_user_error(main)()
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted\n")
        sys.exit(130)  # the status of a program that Ctrl-C ended


FLAGS = frozenset(["--hydra-help", "--version", "--resolve", "--run", "-r",
                   "--multirun", "-m", "--shell-completion", "-sc", "--info", "-i"])
FLAGS_WITH_VALUE = frozenset(["--cfg", "-c", "--package", "-p", "--config-path", "-cp",
                              "--config-name", "-cn", "--config-dir", "-cd",
                              "--experimental-rerun"])
FILES_KEY = "inference.audio"
PROFILE_KEY = "inference.noise_profile"  # a file name, or two numbers in brackets
# Settings that Hydra must not parse: names of files and archives, 500,-13.7 and 78.26>80.
NAME_KEYS = (FILES_KEY, PROFILE_KEY, "inference.output_dir", "inference.keep_clicks", "weights",
             "output", "path_experiment", "inference.replay_curve", "inference.transfer_curve",
             "inference.speed", "inference.archive")
OVERRIDE = re.compile(r"(?P<prefix>\+{0,2}|~)(?P<key>[A-Za-z_$][\w$./@:-]*)(=(?P<value>.*))?",
                      re.ASCII | re.DOTALL)


def read_arguments(arguments: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Divides a command line into arguments for Hydra and names, which are taken literally.

    Args:
        arguments: The command line without the program's name.

    Returns:
        Overrides and flags for Hydra, and the settings that are names of files, by their keys.

    Raises:
        UserError: An option or key does not exist, or files are given in two ways.
    """
    _refuse_spaces(arguments)
    files, overrides, flags = _sort_arguments(arguments)
    other_schema = ("--config-dir", "-cd", "--config-path", "-cp")
    if not any(flag.startswith(other_schema) for flag in flags):
        for override in overrides:
            _check_key(override)
    if files and FILES_KEY in keys_of(override[0] for override in overrides):
        raise UserError(f"give the files either by their names alone or as {FILES_KEY}=..., "
                        f"not both. Received: {files[0]!r} and {FILES_KEY}")
    composed: list[str] = []
    names: dict[str, Any] = {FILES_KEY: files} if files else {}
    for override in overrides:
        value = _literal_name(override)
        if value is None:
            composed.append(override[0])
        else:
            names[override["key"]] = value
    return composed + flags, names


def _refuse_spaces(arguments: list[str]) -> None:
    """Raises UserError if a `key=value` contains spaces.

    Its parts would be taken for files, and the other files would be denoised without the setting.
    """
    words = arguments[:arguments.index("--")] if "--" in arguments else arguments
    for place, word in enumerate(words):
        match = OVERRIDE.fullmatch(word)
        value, rest = match and match["value"], words[place + 1:]
        is_cut_off = value == "" and rest and not (rest[0].startswith("-") or is_override(rest[0]))
        if os.path.lexists(word):
            continue
        if word.startswith("=") or is_cut_off:
            raise UserError(f"{word!r}: write key=value without spaces around `=`")
        if value and value[0] == "[" and value.count("[") > value.count("]") and any(
                other.endswith("]") and not os.path.lexists(other) for other in rest):
            raise UserError(f"{word!r}: write the list without spaces, or key=[...] in quotes")


def _sort_arguments(arguments: list[str]) -> tuple[list[str], list[re.Match[str]], list[str]]:
    """Returns the files, overrides (as matches of `OVERRIDE`) and Hydra's flags.

    An argument that exists as a file is a file; of the others, `key=value` is a setting. Any other
    argument is a missing file, which is reported later. After `--` all arguments are files.
    """
    files: list[str] = []
    overrides: list[re.Match[str]] = []
    flags: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        flag = argument.split("=")[0]
        if argument == "--":
            files.extend(rest)
        elif argument in FLAGS or (flag in FLAGS_WITH_VALUE and flag != argument):
            flags.append(argument)
        elif argument in FLAGS_WITH_VALUE:
            value = next(rest, None)
            if value is None:
                raise UserError(f"{argument} must be followed by a value")
            flags.extend([argument, value])
        elif argument == "-" or os.path.lexists(argument):  # the first is standard input
            files.append(argument)
        elif argument.startswith("-"):
            raise UserError(f"{argument!r} is neither a file nor an option; see --help")
        elif override := _match_override(argument):
            overrides.append(override)
        else:
            files.append(argument)
    return files, overrides, flags


def is_override(argument: str) -> bool:
    """Whether an argument has the form of a setting: `key=value`, `+key=value` or `~key`."""
    return _match_override(argument) is not None


def _match_override(argument: str) -> re.Match[str] | None:
    match = OVERRIDE.fullmatch(argument)
    return match if match and (match["value"] is not None or match["prefix"] == "~") else None


def keys_of(overrides: Iterable[str]) -> set[str]:
    """Returns the keys of overrides: `unet.depth` of `+unet.depth=3` and of `unet={depth:3}`."""
    keys = set()
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        keys.add(key)
        if value.startswith("{"):
            keys |= {f"{key}.{name.strip()}" for name in re.findall(r"[{,]\s*(\w+)\s*:", value)}
    return keys


def _check_key(override: re.Match[str]) -> None:
    """Raises UserError if the key of `key=value` is not in the configuration."""
    key = override["key"]
    parents = [known for known in known_keys() if key == known or key.startswith(f"{known}.")]
    group = "@" in key or key.split(".")[0].split("/")[0] == "hydra"
    # The only keys below a setting are indices of lists.
    below = key[len(parents[-1]) + 1 :] if parents else ""
    if group or (parents and (not below or below.isdecimal())):
        return
    raise UserError(f"{override[0]!r} is neither a file nor a setting.{closest_key(key)}")


def _literal_name(override: re.Match[str]) -> str | list[str] | None:
    """Returns the value of a setting in `NAME_KEYS`; None if Hydra has to parse the override."""
    name, value = override["key"], override["value"]
    if name not in NAME_KEYS or override["prefix"] == "~" or not value:
        return None
    in_brackets = value[0] == "[" and value[-1] == "]" and not os.path.lexists(value)
    if in_brackets and name == FILES_KEY and not re.search(r"['\"]", value):
        return [_at_home(item.strip()) for item in value[1:-1].split(",") if item.strip()]
    in_quotes = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    if not os.path.lexists(value) and (
            value.lower() == "null" or in_quotes or "${" in value
            or (in_brackets and name in (FILES_KEY, PROFILE_KEY))):
        return None
    return _at_home(value)


def _at_home(name: str) -> str:
    """Expands a leading `~`, which shells do only at the start of an argument."""
    return name if os.path.lexists(name) else os.path.expanduser(name)
