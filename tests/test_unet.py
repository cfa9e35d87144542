"""The network against a NumPy one, its layers, and the reading of weights."""

import dataclasses
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import h5py
import keras
import numpy as np
import pytest
from keras import ops
from omegaconf import OmegaConf

import unet
from config import UnetConfig

ROOT = Path(__file__).resolve().parent.parent
# The published form's checkpoint and outputs are too large for the repository.
GOLDEN = Path(os.environ.get("GOLDEN_DIR", ROOT.parent / "shared" / "golden"))
GOLDEN_RUN = GOLDEN / "two_stage_d3_tfc1_sam"
TOLERANCE = 1e-4  # of the largest reference value
TINY = {"depth": 2, "channels": [3, 4, 5]}
OPTIONS = {"extractor_kernel": 3, "fold_bins": 4, "compression": 0.3, "output": "mask"}
FORMS = {
    "golden": {},
    "two_convolutions": {"num_tfc": 2},
    "three_convolutions": {"num_tfc": 3, "depth": 1},
    "no_projection": {"channels": [4, 4, 4]},
    "one_stage": {"num_stages": 1},
    "no_sam": {"use_SAM": False},
    "no_embeddings": {"use_fencoding": False},
    "folded": {"fold_bins": 3},
    "mask": {"output": "mask"},
    "compressed": {"compression": 0.3},
    "even_extractor": {"extractor_kernel": 4},
    "floor": {"use_floor": True},
    "all_options": OPTIONS,
    "octaves": OPTIONS | {"fold_start": 4, "use_floor": True},
    "steady": OPTIONS | {"fold_start": 4, "use_steady": True},
    "steady_unfolded": {"fold_start": 6, "use_floor": True, "use_steady": True, "output": "mask"},
    "all_options_one_stage": OPTIONS | {"num_stages": 1, "fold_start": 2},
}


def settings_of(form):
    return UnetConfig(**(TINY | FORMS[form]))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def to_numpy(tensors):
    return [ops.convert_to_numpy(tensor) for tensor in tensors]


def assert_close(found, expected, tolerance=TOLERANCE):
    assert found.shape == expected.shape
    assert np.max(np.abs(found - expected)) <= tolerance * np.max(np.abs(expected))


def randomize(model, rng):
    """Gives every variable values, also those that start at zero."""
    for variable in model.variables:
        variable.assign(rng.normal(0.0, 0.2, variable.shape))


# ---- the same network in NumPy, one sum at a time ----


class Reference:
    """The network as the paper's text has it; weights are made when first asked for.

    `weights` then holds each variable under the name that the published checkpoints have for it.
    """

    def __init__(self, settings, rng):
        self.settings, self.rng, self.weights = settings, rng, {}

    def weight(self, name, shape):
        if name not in self.weights:
            self.weights[name] = self.rng.normal(0.0, 0.2, shape).astype("float32")
        return self.weights[name].astype("float64")

    @staticmethod
    def elu(x):
        return np.where(x > 0.0, x, np.expm1(np.minimum(x, 0.0)))

    def conv(self, name, x, filters, size, stride=1, activation=None):
        kernel = self.weight(f"{name}/kernel", (size, size, x.shape[-1], filters))
        bias = self.weight(f"{name}/bias", (filters,))
        before, after = size // 2, size // 2 - (1 - size % 2)
        x = np.pad(x, ((before, after), (before, after), (0, 0)), mode="symmetric")
        rows, columns = ((length - size) // stride + 1 for length in x.shape[:2])
        y = np.zeros((rows, columns, filters))
        for row in range(rows):
            for column in range(columns):
                window = x[row * stride:row * stride + size, column * stride:column * stride + size]
                y[row, column] = np.einsum("ijc,ijcf->f", window, kernel) + bias
        return y if activation is None else activation(y)

    def transposed_conv(self, name, x, filters):
        kernel = self.weight(f"{name}/kernel", (4, 4, filters, x.shape[-1]))
        y = np.zeros((2 * x.shape[0] + 2, 2 * x.shape[1] + 2, filters))
        for row in range(x.shape[0]):
            for column in range(x.shape[1]):
                square = np.einsum("ijfc,c->ijf", kernel, x[row, column])
                y[2 * row:2 * row + 4, 2 * column:2 * column + 4] += square
        return self.elu(y + self.weight(f"{name}/bias", (filters,)))

    def block(self, name, x, filters):
        seen, y = x, None
        for index in range(self.settings.num_tfc):
            seen = x if y is None else np.concatenate([y, seen], axis=-1)
            y = self.conv(f"{name}/tfc/H/{index}", seen, filters, 3, activation=self.elu)
        return y + self.conv(f"{name}/conv2d_res", x, filters, 1)

    def unet(self, stage, x):
        depth, channels = self.settings.depth, self.settings.channels
        skips = []
        for level in range(depth):
            name = f"encoder_s{stage}/eblocks/{level}"
            skips.append(self.block(f"{name}/i_block", x, channels[level]))
            x = self.conv(f"{name}/conv2d_2", skips[-1], channels[level + 1], 4, 2, self.elu)
        x = self.block(f"encoder_s{stage}/i_block", x, channels[depth])
        for level in reversed(range(depth)):
            name = f"decoder_s{stage}/dblocks/{level}"
            transposed = self.transposed_conv(f"{name}/tconv_1", x, channels[level])
            nearest = x.repeat(2, axis=0).repeat(2, axis=1)
            if nearest.shape[-1] != channels[level]:
                nearest = self.conv(f"{name}/projection", nearest, channels[level], 1,
                                    activation=self.elu)
            x = crop(transposed, nearest.shape) + nearest
            x = np.concatenate([crop(x, skips[level].shape), skips[level]], axis=-1)
            x = self.block(f"{name}/i_block", x, channels[level])
        return x

    def embed(self, x):
        if not self.settings.use_fencoding:
            return x
        bins = x.shape[1]
        place = np.arange(bins) / max(bins - 1, 1)
        channels = [np.cos(2.0**octave * np.pi * place) for octave in range(10)]
        return np.concatenate([x, np.broadcast_to(np.stack(channels, -1), (*x.shape[:2], 10))], -1)

    def compress(self, x):
        z = to_complex(x)
        return to_parts(z * (np.abs(z)**2 + 1e-6)**((self.settings.compression - 1.0) / 2.0))

    def magnitude_and_floor(self, spectrogram):
        """The smallest within 121 frames of a mean with the weights 1 2 3 3 3 ... over 9."""
        magnitude = (np.sum(spectrogram.astype("float64")**2, -1) + 1e-6)**(
            self.settings.compression / 2.0)
        frames = len(magnitude)
        padded = np.pad(magnitude, ((125, 125), (0, 0)), mode="symmetric")
        taps = np.convolve([1, 1, 1], [1, 0, 0, 1, 0, 0, 1]) / 9.0
        smooth = np.stack([taps @ padded[place:place + 9] for place in range(frames + 242)])
        floor = np.stack([smooth[place:place + 243].min(axis=0) for place in range(frames)])
        return np.stack([magnitude, floor], axis=-1)

    def find_tones(self, x):
        """What recurs in the transforms of 32 frames, below `fold_start`; zeros above."""
        single, frames = self.settings.fold_start, len(x)
        z = to_complex(x)[:, :, 0]
        window = np.sin(np.pi * (np.arange(32) + 0.5) / 32)[:, None]**2
        starts = 4 * np.arange(max(0, int(np.ceil((frames - 32) / 4))) + 1)
        padded = np.zeros((starts[-1] + 32, single), complex)
        padded[:frames] = z[:, :single]
        spectra = np.stack([np.fft.fft(padded[start:start + 32] * window, axis=0)
                            for start in starts]) / np.sqrt(32)
        levels = np.sqrt(np.abs(spectra)**2 + 1e-6)
        levels_around = np.pad(levels, ((41, 41), (0, 0), (0, 0)), mode="symmetric")
        smooth = sum(levels_around[shift:shift + len(starts) + 80] for shift in range(3)) / 3
        floor = np.stack([smooth[place:place + 81].min(axis=0) for place in range(len(starts))])
        spectra = spectra * np.minimum(2.0 * floor / levels, 1.0)
        total, weight = np.zeros_like(padded), np.zeros((len(padded), 1))
        for start, spectrum in zip(starts, spectra, strict=True):
            total[start:start + 32] += np.fft.ifft(spectrum, axis=0) * np.sqrt(32) * window
            weight[start:start + 32] += window**2
        tones = np.zeros(x.shape[:2], complex)
        tones[:, :single] = (total / np.maximum(weight, 0.1 * weight.max()))[:frames]
        return to_parts(tones[..., None])

    def estimate(self, x, residual, tones):
        if self.settings.output == "mask":
            mask, parts = to_complex(residual), x.shape[-1] // 2
            residual = to_complex(x) * mask[..., :parts]
            if tones is not None:
                residual[..., :1] += to_complex(tones) * mask[..., parts:]
            residual = to_parts(residual)
        return x + residual

    def __call__(self, spectrogram):
        """Maps `(frames, bins, 2)` to the list of estimates."""
        chosen, filters = self.settings, self.settings.channels[0]
        frames, bins, _ = spectrogram.shape
        widths = fold_widths(bins, chosen.fold_bins, chosen.fold_start)
        x = fold(spectrogram, widths, chosen.fold_bins)
        seen = self.compress(x)
        if chosen.use_floor:
            levels = self.magnitude_and_floor(spectrogram)
            seen = np.concatenate([seen, fold(levels, widths, chosen.fold_bins)], axis=-1)
        tones, masks = None, x.shape[-1]
        if chosen.use_steady:
            tones, masks = self.find_tones(x), masks + 2
            seen = np.concatenate([seen, self.compress(tones)], axis=-1)
        seen = self.embed(seen)
        size = chosen.extractor_kernel
        features = self.unet(1, self.conv("conv2d_1", seen, filters, size, activation=self.elu))
        estimates = []
        if chosen.num_stages == 2:
            attended = self.conv("sam_1/conv1", features, filters, 3)
            estimates.append(self.estimate(
                x, self.conv("sam_1/conv2", features, masks, 3), tones))
            mask = self.conv("sam_1/conv3", self.compress(estimates[0]), filters, 3,
                             activation=lambda y: 0.5 + 0.5 * np.tanh(0.5 * y))
            if chosen.use_SAM:
                features = attended * mask + features
            own = self.conv("conv2d_2", seen, filters, size, activation=self.elu)
            features = self.unet(2, np.concatenate([own, features], axis=-1))
        final = self.conv("finalblock/conv2", features, masks, 3)
        estimates.insert(0, self.estimate(x, final, tones) if chosen.output == "mask" else final)
        kept = np.arange(chosen.fold_bins) < np.array(widths)[:, None]
        return [estimate.reshape(frames, len(widths), -1, 2)[:, kept][:, :bins]
                for estimate in estimates]


def fold_widths(bins, count, start):
    """Returns how many bins become one, from the lowest up, until the widest comes and all fit."""
    widths, width, octave_end = [], 1 if start and count > 1 else count, start
    while sum(widths) < bins or width < count:
        if width < count and sum(widths) == octave_end:
            width, octave_end = 2 * width, 2 * octave_end
        widths.append(width)
    return widths


def fold(spectrogram, widths, count):
    frames = len(spectrogram)
    folded, first = np.zeros((frames, len(widths), count, 2)), 0
    for place, width in enumerate(widths):
        part = spectrogram[:, first:first + width]
        folded[:, place, :part.shape[1]] = part
        first += width
    return folded.reshape(frames, len(widths), 2 * count)


def crop(x, shape):
    row, column = ((x.shape[axis] - shape[axis]) // 2 for axis in (0, 1))
    return x[row:row + shape[0], column:column + shape[1]]


def to_complex(x):
    return x[..., 0::2] + 1j * x[..., 1::2]


def to_parts(z):
    return np.stack([z.real, z.imag], axis=-1).reshape(*z.shape[:-1], -1)


def write_checkpoint(weights, prefix, extra=None):
    """Writes a TensorFlow object-graph checkpoint as `Model.save_weights` of Keras 2 did."""
    tf = pytest.importorskip("tensorflow")
    tree = {}
    for name, value in weights.items():
        *parents, leaf = f"layer_with_weights-0/{name}".split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = tf.Variable(value)

    def to_node(branch):
        if isinstance(branch, dict):
            return tf.train.Checkpoint(**{name: to_node(leaf) for name, leaf in branch.items()})
        return branch

    to_node(tree | (extra or {})).write(str(prefix))


@pytest.mark.parametrize("form", FORMS)
def test_checkpoint_gives_what_the_numpy_network_gives(form, rng, tmp_path):
    reference = Reference(settings_of(form), rng)
    # Half tones, so that there is something steady; more than one window of the tones' transform.
    frames = 45 if reference.settings.use_steady else 5
    spectrogram = rng.standard_normal((frames, 22, 2)) + rng.standard_normal((1, 22, 2))
    spectrogram = spectrogram.astype("float32")
    expected = reference(spectrogram)
    write_checkpoint(reference.weights, tmp_path / "checkpoint")
    model = unet.build_model_denoise(settings_of(form))
    unet.load_weights(model, tmp_path / "checkpoint")
    found = to_numpy(model(spectrogram[None]))
    assert len(found) == len(expected) == settings_of(form).num_stages
    for one, other in zip(found, expected, strict=True):
        assert_close(one[0], other)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 1), (7, 2), (9, 30)])
@pytest.mark.parametrize("form", ["golden", "octaves", "steady"])
def test_odd_sizes_give_what_the_numpy_network_gives(form, shape, rng, tmp_path):
    reference = Reference(dataclasses.replace(settings_of(form), use_fencoding=shape[1] > 1), rng)
    spectrogram = rng.standard_normal((*shape, 2)).astype("float32")
    expected = reference(spectrogram)
    write_checkpoint(reference.weights, tmp_path / "checkpoint")
    model = unet.build_model_denoise(reference.settings)
    unet.load_weights(model, tmp_path / "checkpoint")
    for one, other in zip(to_numpy(model(spectrogram[None])), expected, strict=True):
        assert_close(one[0], other)


# ---- the published form ----


@pytest.fixture(scope="module")
def golden_model():
    if not GOLDEN_RUN.is_dir():
        pytest.skip("the golden files are not here: set GOLDEN_DIR to their folder")
    pytest.importorskip("tensorflow")
    model = unet.build_model_denoise(SimpleNamespace())
    unet.load_weights(model, GOLDEN_RUN / "checkpoint")
    return model


def test_golden_outputs(golden_model):
    golden = np.load(GOLDEN_RUN / "golden.npz")
    found = to_numpy(golden_model(golden["input"]))
    for name, estimate in zip(("stage2", "stage1"), found, strict=True):
        assert_close(estimate, golden[name])


def test_numpy_network_has_the_published_names(rng):
    if not GOLDEN_RUN.is_dir():
        pytest.skip("the golden files are not here: set GOLDEN_DIR to their folder")
    reference = Reference(UnetConfig(), rng)
    reference(np.zeros((1, 2, 2)))
    names = {f"layer_with_weights-0/{name}/.ATTRIBUTES/VARIABLE_VALUE {list(value.shape)}"
             for name, value in reference.weights.items()}
    lines = (GOLDEN_RUN / "variables.txt").read_text(encoding="utf-8").splitlines()
    assert names == {line for line in lines if not line.startswith("_")}


BACKEND_SCRIPT = """
import sys
import keras, numpy as np
import unet
from config import UnetConfig
settings, weights, arrays = eval(sys.argv[1]), sys.argv[2], np.load(sys.argv[3])
model = unet.build_model_denoise(settings)
unet.load_weights(model, weights)
for index, estimate in enumerate(model.predict_on_batch(arrays["input"])):
    expected = arrays[f"output{index}"]
    difference = np.max(np.abs(estimate - expected)) / np.max(np.abs(expected))
    assert difference <= 1e-4, (index, difference)
noise = np.random.default_rng(0).standard_normal(arrays["input"].shape).astype("float32")
model.compile("adam", loss=["mae"] * settings.num_stages)
assert np.all(np.isfinite(model.train_on_batch(noise, [noise] * settings.num_stages)))
"""


def run_on_backend(backend, folder, settings, model, inputs, outputs):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    model.save_weights(folder / "model.weights.h5")
    np.savez(folder / "arrays.npz", input=inputs,
             **{f"output{index}": output for index, output in enumerate(outputs)})
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", BACKEND_SCRIPT, repr(settings), folder / "model.weights.h5",
         folder / "arrays.npz"], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("backend", ["jax", "torch"])
@pytest.mark.parametrize("form", ["golden", "octaves", "steady"])
def test_other_backends_give_the_same(backend, form, rng, tmp_path):
    settings = settings_of(form)
    model = unet.build_model_denoise(settings)
    randomize(model, rng)
    inputs = rng.standard_normal((2, 35, 21, 2)).astype("float32")
    run_on_backend(backend, tmp_path, settings, model, inputs, to_numpy(model(inputs)))


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_golden_outputs_on_other_backends(backend, golden_model, tmp_path):
    golden = np.load(GOLDEN_RUN / "golden.npz")
    run_on_backend(backend, tmp_path, UnetConfig(), golden_model, golden["input"],
                   [golden["stage2"], golden["stage1"]])


@pytest.mark.parametrize(("depth", "num_tfc", "count"), [
    (3, 1, 1_880_388), (3, 2, 3_309_764), (4, 3, 10_938_948), (6, 3, 71_408_196)])
def test_parameter_counts(depth, num_tfc, count):
    model = unet.build_model_denoise(SimpleNamespace(depth=depth, num_tfc=num_tfc))
    assert model.count_params() == count


# ---- settings ----


def test_settings_from_any_object():
    model = unet.build_model_denoise(OmegaConf.create(TINY | {"num_stages": 1}))
    assert model.settings == UnetConfig(**TINY, num_stages=1)
    assert unet.build_model_denoise(SimpleNamespace(**TINY)).settings == UnetConfig(**TINY)


@pytest.mark.parametrize(("name", "value"), [
    ("depth", 0), ("depth", 7), ("num_tfc", 0), ("num_stages", 3), ("channels", [4, 0, 4, 4]),
    ("extractor_kernel", 0), ("fold_bins", 0), ("compression", 0.0), ("output", "phase"),
    ("activation", "eluu"), ("depth", "deep"), ("depth", True), ("channels", 8),
    ("channels", ["a"] * 4), ("fold_start", 3), ("use_steady", True)])
def test_bad_settings_are_named(name, value):
    with pytest.raises(ValueError, match=r"`unet\.\w+` must be .* Received: unet\.\w+="):
        unet.build_model_denoise(SimpleNamespace(**{name: value}))


# ---- layers ----

LAYERS = {
    "conv": (unet.SymmetricConv2D(4, 3, activation="elu"), [(2, 5, 7, 3)]),
    "strided_conv": (unet.SymmetricConv2D(4, 4, strides=2), [(2, 5, 7, 3)]),
    "extractor": (unet.FeatureExtractor(4, 7), [(2, 5, 9, 2)]),
    "extractor_without_embeddings": (unet.FeatureExtractor(4, 3, use_fencoding=False),
                                     [(2, 5, 9, 2)]),
    "block": (unet.IBlock(4, num_tfc=2), [(2, 5, 7, 3)]),
    "upsampling": (unet.UpsamplingConv2D(4), [(2, 3, 4, 3)]),
    "encoder_level": (unet.EncoderLevel(4, 6), [(2, 5, 7, 3)]),
    "decoder_level": (unet.DecoderLevel(4), [(2, 3, 4, 6), (2, 5, 7, 4)]),
    "decoder_level_without_projection": (unet.DecoderLevel(4), [(2, 3, 4, 4), (2, 6, 7, 4)]),
    "encoder_decoder": (unet.EncoderDecoder(2, [3, 4, 5]), [(2, 5, 7, 3)]),
    "attention": (unet.SupervisedAttention(), [(2, 5, 7, 4), (2, 5, 7, 2)]),
    "attention_mask": (unet.SupervisedAttention("mask", 0.3), [(2, 5, 7, 4), (2, 5, 7, 6)]),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name, rng, tmp_path):
    original, shapes = LAYERS[name]
    layer = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(original))
    assert layer.get_config() == original.get_config()
    inputs = [rng.standard_normal(shape).astype("float32") for shape in shapes]
    symbols = [keras.Input((None, None, shape[-1])) for shape in shapes]
    model = keras.Model(symbols, layer(*symbols))
    outputs = model(inputs)
    expected = layer.compute_output_shape(*shapes)
    found = [tuple(output.shape) for output in outputs] if isinstance(outputs, list) \
        else tuple(outputs.shape)
    assert found == expected

    # One step moves every weight, though some start at zero.
    outputs = outputs if isinstance(outputs, list) else [outputs]
    randomize(model, rng)
    before = [np.array(variable) for variable in model.get_weights()]
    model.compile("sgd", loss=["mse"] * len(outputs), run_eagerly=True)
    targets = [rng.standard_normal(output.shape).astype("float32") for output in outputs]
    assert np.all(np.isfinite(model.train_on_batch(inputs, targets)))
    for old, new in zip(before, model.get_weights(), strict=True):
        assert not np.array_equal(old, new)

    model.save(tmp_path / "layer.keras")
    loaded = keras.models.load_model(tmp_path / "layer.keras")
    for one, other in zip(keras.tree.flatten(model(inputs)), keras.tree.flatten(loaded(inputs)),
                          strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(one), ops.convert_to_numpy(other))


@pytest.mark.parametrize("make", [
    lambda: unet.SymmetricConv2D(0), lambda: unet.SymmetricConv2D(4, 0),
    lambda: unet.IBlock(4, num_tfc=0), lambda: unet.EncoderDecoder(3, [4, 4, 4])])
def test_layers_name_bad_arguments(make):
    with pytest.raises(ValueError, match=r"`\w+` must be .* Received: \w+="):
        make()


# ---- the whole model ----


@pytest.mark.parametrize("form", ["golden", "one_stage", "no_sam", "all_options"])
def test_model_is_saved_whole_and_as_weights(form, rng, tmp_path):
    model = unet.build_model_denoise(settings_of(form))
    randomize(model, rng)
    inputs = rng.standard_normal((1, 5, 9, 2)).astype("float32")
    expected = to_numpy(model(inputs))
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    fresh = unet.build_model_denoise(settings_of(form))
    unet.load_weights(fresh, tmp_path / "model.weights.h5")
    for other in (keras.models.load_model(tmp_path / "model.keras"), fresh):
        for one, two in zip(expected, to_numpy(other(inputs)), strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("form", ["golden", "all_options", "steady"])
def test_training_moves_every_weight(form, rng):
    model = unet.build_model_denoise(settings_of(form))
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(1.0), loss=["mse"] * 2, run_eagerly=True)
    inputs, target = rng.standard_normal((2, 2, 6, 25, 2)).astype("float32")
    for _ in range(3):  # what a mask that starts at zero hides moves later
        assert np.all(np.isfinite(model.train_on_batch(inputs, [target] * 2)))
    unmoved = [variable.path for variable, old in zip(model.variables, before, strict=True)
               if np.array_equal(old, variable)]
    assert not unmoved


@pytest.mark.parametrize("num_stages", [1, 2])
@pytest.mark.parametrize("fold_bins", [1, 4])
def test_fresh_mask_network_returns_its_input(num_stages, fold_bins, rng):
    settings = UnetConfig(**TINY, num_stages=num_stages, fold_bins=fold_bins, output="mask",
                          compression=0.3)
    inputs = rng.standard_normal((2, 3, 11, 2)).astype("float32")
    outputs = unet.build_model_denoise(settings).predict_on_batch(inputs)
    assert isinstance(outputs, list) and len(outputs) == num_stages
    for output in outputs:
        np.testing.assert_array_equal(output, inputs)


def test_silence_has_finite_gradients(rng):
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("gradients are taken with TensorFlow here")
    model = unet.build_model_denoise(settings_of("all_options"))
    randomize(model, rng)
    silence = tf.zeros((1, 4, 9, 2))
    with tf.GradientTape() as tape:
        tape.watch(silence)
        loss = tf.add_n([tf.reduce_sum(tf.square(out - 0.1)) for out in model(silence)])
    gradients = tape.gradient(loss, [silence, *model.trainable_variables])
    assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("form", ["golden", "octaves", "steady"])
def test_sizes_may_be_unknown_while_tracing(form, rng):
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("only TensorFlow traces with unknown sizes")
    model = unet.build_model_denoise(settings_of(form))
    randomize(model, rng)
    traced = tf.function(lambda inputs: model(inputs),
                         input_signature=[tf.TensorSpec((None, None, None, 2))])
    for shape in ((1, 1, 1), (1, 1, 7), (2, 6, 23)):
        inputs = rng.standard_normal((*shape, 2)).astype("float32")
        for one, other in zip(to_numpy(traced(inputs)), to_numpy(model(inputs)), strict=True):
            assert_close(one, other, 1e-5)


# ---- refused weights ----


@pytest.fixture(params=["checkpoint", "model.weights.h5"])
def write_weights(request, rng, tmp_path):
    """Returns a function that stores a network with one change and returns the path."""
    def write(change=None, **settings):
        settings = UnetConfig(**(TINY | settings))
        path = tmp_path / request.param
        if request.param == "checkpoint":
            reference = Reference(settings, rng)
            reference(np.zeros((1, 4, 2)))
            weights = reference.weights
            if change is not None:
                name, value = change
                weights.pop(name) if value is None else weights.update({name: value})
            write_checkpoint(weights, path)
        else:
            unet.build_model_denoise(settings).save_weights(path)
            if change is not None:
                name, value = change
                with h5py.File(path, "a") as file:
                    stored = "final/conv/vars/1" if name == "finalblock/conv2/bias" else name
                    if stored in file:
                        del file[stored]
                    if value is not None:
                        file[stored] = value
        return path
    return write


@pytest.mark.parametrize(("change", "message"), [
    (("finalblock/conv2/bias", np.zeros(3, "float32")), r"expected .*\(2,\).* found .*\(3,\)"),
    (("finalblock/conv2/bias", None), r"expected .*\(2,\).* found nothing"),
    (("finalblock/conv9/bias", np.zeros(3, "float32")), r"conv9.*expected nothing.*\(3,\)"),
])
def test_mismatch_is_named_and_changes_nothing(change, message, write_weights):
    model = unet.build_model_denoise(SimpleNamespace(**TINY))
    before = model.get_weights()
    with pytest.raises(ValueError, match=rf"`path` must .*final.*{message}.* Received: path="):
        unet.load_weights(model, write_weights(change))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("settings", [
    {"depth": 1}, {"num_tfc": 2}, {"num_stages": 1}, {"channels": [3, 4, 6]},
    {"use_fencoding": False}, {"extractor_kernel": 3}])
def test_weights_of_another_network_are_refused(settings, write_weights):
    path = write_weights(**settings)
    with pytest.raises(ValueError, match=r"Variable .*: expected .*, found .*"):
        unet.load_weights(unet.build_model_denoise(SimpleNamespace(**TINY)), path)


def test_missing_and_broken_files(tmp_path):
    model = unet.build_model_denoise(SimpleNamespace(**TINY))
    for name in ("none.weights.h5", "none"):
        with pytest.raises(FileNotFoundError, match="Received: path=.*none"):
            unet.load_weights(model, tmp_path / name)
    (tmp_path / "broken.weights.h5").write_bytes(b"not HDF5")
    with pytest.raises(ValueError, match="Received: path=.*broken"):
        unet.load_weights(model, tmp_path / "broken.weights.h5")


@pytest.mark.parametrize("damage", ["no_data", "short_data", "no_index_content"])
def test_incomplete_checkpoints_are_named(damage, rng, tmp_path):
    reference = Reference(UnetConfig(**TINY), rng)
    reference(np.zeros((1, 4, 2)))
    write_checkpoint(reference.weights, tmp_path / "checkpoint")
    (data,) = tmp_path.glob("checkpoint.data*")
    if damage == "no_data":
        data.unlink()
    elif damage == "short_data":
        data.write_bytes(data.read_bytes()[:100])
    else:
        (tmp_path / "checkpoint.index").write_bytes(b"")
    model = unet.build_model_denoise(SimpleNamespace(**TINY))
    before = model.get_weights()
    with pytest.raises(ValueError, match="complete TensorFlow checkpoint.*Received: path="):
        unet.load_weights(model, tmp_path / "checkpoint")
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_state_of_an_optimizer_is_not_a_weight(rng, tmp_path):
    tf = pytest.importorskip("tensorflow")
    reference = Reference(UnetConfig(**TINY), rng)
    reference(np.zeros((1, 4, 2)))
    write_checkpoint(reference.weights, tmp_path / "checkpoint",
                     {"optimizer": {"iter": tf.Variable(1)}})
    model = unet.build_model_denoise(SimpleNamespace(**TINY))
    unet.load_weights(model, tmp_path / "checkpoint")
    np.testing.assert_array_equal(model.final.conv.bias,
                                  reference.weights["finalblock/conv2/bias"])


def test_fresh_mask_over_folded_octaves_changes_nothing(rng):
    model = unet.build_model_denoise(SimpleNamespace(
        depth=2, channels=[3, 4, 5], fold_bins=4, fold_start=4, output="mask", compression=0.3))
    inputs = rng.standard_normal((1, 5, 33, 2)).astype(np.float32)
    for output in model.predict_on_batch(inputs):
        np.testing.assert_allclose(output, inputs, atol=1e-6)
