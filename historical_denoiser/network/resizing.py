"""Makes a network with trained weights larger or smaller, to be trained on.

Start reading at `resize`.
"""

import itertools
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from historical_denoiser.core.checks import UserError

# Settings that add inputs and outputs, in the order in which the network concatenates them.
GROWING_INPUTS = ("use_floor", "use_steady", "use_short", "use_long")
ATTENDED = "unet_1/decoder_0"  # the group that the attention module takes, and adds to


def resize(model: Any, other: Any) -> None:
    """Copies the weights of a network of another size, as `shrink` or `grow` does.

    Args:
        model: A `unet.TwoStageUnet` with new weights.
        other: Another one; if any of its numbers of channels is larger, it is shrunk.

    Raises:
        UserError: They cannot be copied; nothing is changed.
    """
    for network in (model, other):
        if network.settings.form != "two_stage":
            raise UserError("`weights` must be of a network of just this form: only two-stage "
                            f"networks change their size. Received: form {other.settings.form!r} "
                            f"for {model.settings.form!r}")
    is_larger = any(theirs > ours for theirs, ours in zip(_used_channels(other),
                                                          _used_channels(model), strict=False))
    (shrink if is_larger else grow)(model, other)


def _used_channels(network: Any) -> list[int]:
    return list(network.settings.channels[:network.settings.depth + 1])


def shrink(model: Any, larger: Any) -> None:
    """Copies the most important channels of a network into one that has fewer.

    Convolutions whose outputs are added share a group of channels, of which the same ones are kept:
    those with the largest product of the squared norms of all weights that make a channel and of
    all that take it. The network does not compute the same afterwards and needs training, for which
    `teacher` can be the larger network (after Li et al. 2017, "Pruning filters for efficient
    ConvNets", who use the absolute norm of a single layer).

    Args:
        model: A `unet.TwoStageUnet` with new weights.
        larger: Another one that differs in `channels` alone.

    Raises:
        UserError: They differ in something else; nothing is changed.
    """
    _check_that_only_channels_differ(model, larger)
    kernels = {_name_in_network(variable): _inputs_before_outputs(
        keras.ops.convert_to_numpy(variable), _name_in_network(variable))
        for variable in larger.variables}
    importance = _rate_channels(kernels, larger)

    def keep(group: str | None, count: int) -> np.ndarray:
        """Returns the indices of the channels of a group that are kept."""
        if group not in importance:  # an output or an input of the network
            return np.arange(count)
        return np.sort(np.argsort(-importance[group], kind="stable")[:count])

    for variable in model.variables:
        name = _name_in_network(variable)
        value, (takes, makes) = kernels[name], _channels_of(name, model)
        if value.ndim == 4:
            starts = np.cumsum([0, *_channels_of(name, larger)[0].values()])
            value = value[:, :, np.concatenate([start + keep(group, count) for start, (group, count)
                                                in zip(starts, takes.items(), strict=False)])]
        outputs = variable.shape[-2 if _is_transposed(name) else -1]
        variable.assign(_inputs_before_outputs(value[..., keep(makes, outputs)], name))


def _check_that_only_channels_differ(model: Any, larger: Any) -> None:
    ours, theirs = (dict(vars(network.settings)) for network in (model, larger))
    ours["channels"], theirs["channels"] = _used_channels(model), _used_channels(larger)
    differing = [name for name in ours if name != "channels" and ours[name] != theirs[name]]
    if differing:
        raise UserError("`weights` must be of a network that differs from this one in "
                        "`unet.channels` alone, if any of its numbers is larger. Received: "
                        + ", ".join(f"unet.{name}={theirs[name]}, here {ours[name]}"
                                    for name in differing))
    # Neighbouring levels with as many channels have no projection between them, and so would be one
    # group.
    if any(one == next_one for channels in (ours["channels"], theirs["channels"])
           for one, next_one in itertools.pairwise(channels)) or any(
               count > whole for count, whole
               in zip(ours["channels"], theirs["channels"], strict=True)):
        raise UserError("`unet.channels` must be at most those of `weights`, and differ from level "
                        f"to level in both, where any is smaller. Received: {ours['channels']} "
                        f"for {theirs['channels']}")


def _rate_channels(kernels: Mapping[str, np.ndarray], network: Any) -> dict[str, np.ndarray]:
    """Returns how much each channel matters, by the group that it belongs to.

    Args:
        kernels: The kernels and biases by their names, with inputs before outputs.
        network: The network that they are from.
    """
    made: defaultdict[str, Any] = defaultdict(float)  # squared norms by group, one of each channel
    taken: defaultdict[str, Any] = defaultdict(float)
    for name, value in kernels.items():
        if name.startswith(("attention/attended", "attention/mask")) and (
                not network.settings.use_SAM):
            continue  # these exist, but have no effect
        takes, makes = _channels_of(name, network)
        if makes is not None:
            made[makes] = made[makes] + np.sum(np.square(value), axis=tuple(range(value.ndim - 1)))
        if value.ndim == 4:
            power = np.split(np.sum(np.square(value), axis=(0, 1, 3)),
                             np.cumsum([*takes.values()])[:-1])
            for group, part in zip(takes, power, strict=True):
                taken[group] = taken[group] + part
    return {group: norms * taken[group] for group, norms in made.items()}


def grow(model: Any, older: Any) -> None:
    """Copies the weights of a smaller network into one that has more inputs, outputs or channels.

    Afterwards it computes exactly the same as the smaller network: the weights of new inputs are
    zero, and kernels that only low bins use start as copies of the common kernels. New channels
    keep their initial weights, and so learn from the first step (after Chen, Goodfellow and Shlens
    2016, "Net2Net", sec. 2.3, with zeros in place of divided copies).

    Args:
        model: A `unet.TwoStageUnet` with new weights.
        older: Another one with the same depth, but without some of the views of `model`, or with
            fewer channels.

    Raises:
        UserError: `older` is not a part of `model`; nothing is changed.
    """
    before, now = ([name for name in GROWING_INPUTS if getattr(network.settings, name)]
                   for network in (older, model))
    if before != now[:len(before)] or older.settings.use_fencoding != model.settings.use_fencoding:
        raise UserError("`weights` must be of a network that is a part of this one, with the first "
                        f"of its inputs, {now}. Received: {before}")
    sources = {_name_in_network(variable): variable for variable in older.variables}
    values = []
    for variable in model.variables:
        name = _name_in_network(variable)
        source = sources.get(name, sources.get(name.replace("/low", "/conv" if "/low/" in name
                                                            else "/kernel")))
        if source is None:
            raise UserError(f"`weights` must be of a network that is a part of this one: it has no "
                            f"variable {name}")
        value, initial = (keras.ops.convert_to_numpy(each) for each in (source, variable))
        if value.ndim == 4 and not _is_transposed(name):
            value = _spread_inputs(value, *(_channels_of(name, network)[0]
                                            for network in (older, model)))
        values.append(_widen(value, initial, name))
    for variable, value in zip(model.variables, values, strict=True):
        variable.assign(value)


def _name_in_network(variable: Any) -> str:
    return variable.path.split("/", 1)[1]


def _is_transposed(name: str) -> bool:
    """Returns whether a kernel ends with outputs and inputs; others end with inputs and outputs."""
    return name.endswith("up/kernel")


def _inputs_before_outputs(kernel: np.ndarray, name: str) -> np.ndarray:
    """Exchanges inputs and outputs of a kernel that has them the other way round, or back again."""
    return np.moveaxis(kernel, -1, -2) if _is_transposed(name) else kernel


def _channels_of(name: str, network: Any) -> tuple[dict[str, int], str | None]:
    """Returns which channels a variable takes and makes.

    A group of channels is what one convolution makes, or several whose outputs are added.

    Returns:
        The number of channels of each group that a kernel takes, in their order, and the group that
        it makes; None for an output of the network.
    """
    chosen, (unet, *places) = network.settings, name.split("/")
    counts = chosen.channels
    if unet.startswith("extractor"):
        return network.extractor_inputs, unet
    if unet == "final":
        return {f"unet_{chosen.num_stages}/decoder_0": counts[0]}, None
    if unet == "attention":
        if places[0] == "mask":
            return {"estimate": 2 * chosen.fold_bins}, ATTENDED
        return {ATTENDED: counts[0]}, ATTENDED if places[0] == "attended" else None
    place, layer = places[:2]
    level, own = chosen.depth if place == "bottom" else int(place.split("_")[1]), f"{unet}/{place}"
    if layer == "down":
        return {own: counts[level]}, f"{own}/down"
    if layer in ("up", "projection"):
        below = "bottom" if level + 1 == chosen.depth else f"decoder_{level + 1}"
        return {f"{unet}/{below}": counts[level + 1]}, f"{own}/up"
    if place.startswith("decoder"):
        inputs = [f"{own}/up", f"{unet}/encoder_{level}"]
    elif level > 0:
        inputs = [f"{unet}/encoder_{level - 1}/down"]
    else:
        inputs = ["extractor_1"] if unet == "unet_1" else ["extractor_2", ATTENDED]
    found = re.search(r"dense_(\d+)", name)  # the residual takes what the first one does
    number = int(found[1]) if found else 0
    earlier = [f"{own}/dense_{each}" for each in reversed(range(number))]
    is_inside = found is not None and number < chosen.num_tfc - 1
    return (dict.fromkeys([*earlier, *inputs], counts[level]),
            f"{own}/dense_{number}" if is_inside else own)


def _spread_inputs(kernel: np.ndarray, before: dict[str, int], now: dict[str, int]) -> np.ndarray:
    """Returns a kernel with zeros for new inputs.

    Args:
        kernel: `(height, width, inputs, filters)`.
        before: Number of its inputs of each kind, in their order.
        now: Number of inputs of each kind in the result; new kinds may stand between others.
    """
    for kind, count in before.items():
        if count > now.get(kind, 0):
            raise UserError("`weights` must be of a network that is a part of this one: a "
                            f"layer takes {count} channels of `{kind}`, this one's "
                            f"{now.get(kind, 0)}")
    parts = dict(zip(before, np.split(kernel, np.cumsum([*before.values()])[:-1], axis=2),
                     strict=True))
    empty = kernel[:, :, :0]
    return np.concatenate([np.pad(part, ((0, 0), (0, 0), (0, count - part.shape[2]), (0, 0)))
                           for kind, count in now.items()
                           for part in [parts.get(kind, empty)]], axis=2)


def _widen(value: np.ndarray, initial: np.ndarray, name: str) -> np.ndarray:
    """Returns `value` with zeros for new inputs, and `initial` for new outputs."""
    if value.ndim != initial.ndim or np.any(np.greater(value.shape, initial.shape)):
        raise UserError(f"`weights` must be of a network that is a part of this one. Variable "
                        f"{name}: it has the shape {value.shape}, this one {initial.shape}")
    outputs = -2 if _is_transposed(name) else -1
    wide = initial.copy()
    np.moveaxis(wide, outputs, 0)[: value.shape[outputs]] = 0.0
    wide[tuple(map(slice, value.shape))] = value
    return wide
