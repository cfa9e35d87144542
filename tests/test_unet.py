"""The network against a NumPy one and against stored outputs; its layers; its segments."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import soundfile
import tensorflow as tf
from keras import ops
from numpy_unet import NumpyUnet, read_checkpoint, write_checkpoint
from omegaconf import OmegaConf

import unet
from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE, StftConfig
from historical_denoiser.classical.clicks import remove_clicks
from historical_denoiser.core.checks import UserError
from historical_denoiser.network import resizing
from historical_denoiser.network.stored import read_network_settings
from historical_denoiser.settings import UnetConfig

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"  # see make_golden.py there
REFERENCE = Path(os.environ.get("GOLDEN_DIR", ROOT.parent / "shared" / "golden"),
                 "two_stage_d3_tfc1_sam")  # the whole of it is too large for the repository
TOLERANCE = 1e-4  # of the largest reference value
TINY = {"depth": 2, "channels": [3, 4, 5]}
OPTIONS = {"extractor_kernel": 3, "fold_bins": 4, "compression": 0.3, "output": "mask"}
FORMS = {
    "published": {},
    "three_convolutions": {"num_tfc": 3, "depth": 1},
    "no_projection": {"channels": [4, 4, 4]},
    "one_stage": {"num_stages": 1},
    "no_sam": {"use_SAM": False},
    "no_embeddings": {"use_fencoding": False},
    "even_extractor": {"extractor_kernel": 4},
    "all_options": OPTIONS,
    "shipped": OPTIONS | {"fold_start": 4, "use_floor": True, "use_steady": True},
    "steady_unfolded": {"fold_start": 6, "use_floor": True, "use_steady": True, "output": "mask"},
    "all_options_one_stage": OPTIONS | {"num_stages": 1, "fold_start": 2},
}
# The shipped form, but for its size.
VIEWS = TINY | OPTIONS | {"fold_bins": 8, "fold_start": 8, "use_floor": True, "use_steady": True,
                          "use_short": True, "use_long": True, "own_low": True}


def settings_of(form, **others):
    return UnetConfig(**(VIEWS if form == "views" else TINY | FORMS[form]) | others)


def build(form, rng=None, **others):
    """Builds the network of a form; with an `rng`, every variable gets random values."""
    model = unet.build_model_denoise(settings_of(form, **others))
    if rng is not None:
        randomize(model, rng)
    return model


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def to_numpy(tensors):
    return [ops.convert_to_numpy(tensor) for tensor in tensors]


def assert_close(found, expected, tolerance=TOLERANCE):
    """Compares two arrays, or two lists of them, with the largest expected value as the scale."""
    if isinstance(expected, (list, tuple)):
        for one, other in zip(found, expected, strict=True):
            assert_close(ops.convert_to_numpy(one), ops.convert_to_numpy(other), tolerance)
        return
    assert found.shape == expected.shape
    assert np.max(np.abs(found - expected)) <= tolerance * np.max(np.abs(expected))


def randomize(model, rng):
    """Gives every variable values, also those that start at zero."""
    for variable in model.variables:
        variable.assign(rng.normal(0.0, 0.2, variable.shape))


# ---- against the NumPy network ----


@pytest.fixture
def numpy_and_keras(rng, tmp_path):
    """Returns a function that makes the same network, with random weights, in NumPy and Keras."""
    def make(settings, spectrogram):
        numpy_network = NumpyUnet(settings, rng)
        numpy_network(spectrogram)  # draws the weights
        write_checkpoint(numpy_network.weights, tmp_path / "checkpoint")
        model = unet.build_model_denoise(settings)
        unet.load_weights(model, tmp_path / "checkpoint")
        return numpy_network, model
    return make


def assert_same(numpy_network, model, spectrogram):
    expected, found = numpy_network(spectrogram), to_numpy(model(spectrogram[None]))
    assert len(found) == numpy_network.settings.num_stages
    assert_close([one[0] for one in found], expected)


@pytest.mark.parametrize("form", FORMS)
def test_checkpoint_gives_what_the_numpy_network_gives(form, rng, numpy_and_keras):
    settings = settings_of(form)
    # The steady tones' transform needs more than one window of frames, and something steady.
    frames = 45 if settings.use_steady else 5
    spectrogram = rng.standard_normal((frames, 22, 2)) + rng.standard_normal((1, 22, 2))
    spectrogram = spectrogram.astype("float32")
    assert_same(*numpy_and_keras(settings, spectrogram), spectrogram)


@pytest.mark.parametrize("form", ["published", "shipped"])
def test_odd_sizes_give_what_the_numpy_network_gives(form, rng, numpy_and_keras):
    networks = numpy_and_keras(settings_of(form), np.zeros((4, 9, 2), "float32"))
    for shape in ((1, 1), (1, 7), (2, 1), (7, 2), (9, 30)):
        assert_same(*networks, rng.standard_normal((*shape, 2)).astype("float32"))


# ---- the published form ----


# The reference is another author's checkpoint with its exact outputs. `tests/golden` holds a slice
# of its weights. The outputs there are the NumPy network's, which is written from the paper and
# independent of `unet.py`. That it is right is tested where the whole reference is present.


@pytest.fixture(params=["slice", pytest.param("reference", marks=pytest.mark.slow)])
def golden(request):
    """Settings, folder, input and [stage 2, stage 1] of a checkpoint with known outputs."""
    folder = GOLDEN if request.param == "slice" else REFERENCE
    if not folder.is_dir():
        pytest.skip("the whole reference is not here: GOLDEN_DIR must name its folder")
    return read_golden(folder)


def read_golden(folder):
    arrays = np.load(folder / "golden.npz")
    channels = arrays["channels"].tolist() if "channels" in arrays else UnetConfig().channels
    return (UnetConfig(channels=channels), folder / "checkpoint", arrays["input"],
            [arrays["stage2"], arrays["stage1"]])


def test_golden_outputs(golden):
    settings, checkpoint, inputs, expected = golden
    model = unet.build_model_denoise(settings)
    unet.load_weights(model, checkpoint)
    assert_close(model(inputs), expected)


def test_numpy_network_gives_the_golden_outputs(golden):
    settings, checkpoint, inputs, expected = golden
    outputs = NumpyUnet(settings, weights=read_checkpoint(checkpoint))(inputs[0])
    assert_close(outputs, [other[0] for other in expected])


BACKEND_SCRIPT = """
import sys
from pathlib import Path
import keras, numpy as np
import unet
from historical_denoiser.settings import UnetConfig

unet._initial_kernel = lambda: "zeros"  # weights are loaded; JAX would compile each random draw
for name, settings in eval(sys.argv[1]).items():
    arrays = np.load(Path(sys.argv[2], f"{name}.npz"))
    model = unet.build_model_denoise(settings)
    unet.load_weights(model, Path(sys.argv[2], f"{name}.weights.h5"))
    for index, estimate in enumerate(model.predict_on_batch(arrays["inputs"])):
        expected = arrays[f"output{index}"]
        difference = np.max(np.abs(estimate - expected)) / np.max(np.abs(expected))
        assert difference <= 1e-4, (name, index, difference)
before = model.get_weights()
model.compile("adam", loss=["mae"] * 2)
assert np.all(np.isfinite(model.train_on_batch(arrays["inputs"], [-arrays["inputs"]] * 2)))
assert not any(np.array_equal(old, new) for old, new in zip(before, model.get_weights()))
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_give_the_same(backend, rng, tmp_path):
    """The golden outputs and the shipped form's; that one also takes a training step."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    golden_settings, checkpoint, inputs, expected = read_golden(GOLDEN)
    model = unet.build_model_denoise(golden_settings)
    unet.load_weights(model, checkpoint)
    save_for_backend(tmp_path, "golden", model, inputs, expected)
    model = build("views", rng, depth=1)
    inputs = rng.standard_normal((2, 35, 65, 2)).astype("float32")
    save_for_backend(tmp_path, "shipped", model, inputs, to_numpy(model(inputs)))
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT),
                                # These networks compute in less time than they compile in.
                                "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    settings = repr({"golden": golden_settings, "shipped": settings_of("views", depth=1)})
    result = subprocess.run([sys.executable, "-c", BACKEND_SCRIPT, settings, tmp_path],
                            env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def save_for_backend(folder, name, model, inputs, outputs):
    model.save_weights(folder / f"{name}.weights.h5")
    np.savez(folder / f"{name}.npz", inputs=inputs,
             **{f"output{index}": output for index, output in enumerate(outputs)})


@pytest.mark.parametrize(("depth", "num_tfc", "count"), [(3, 1, 1_880_388), (6, 3, 71_408_196)])
def test_parameter_counts(depth, num_tfc, count, monkeypatch):
    monkeypatch.setattr(unet, "_initial_kernel", lambda: "zeros")  # 71 million draws take seconds
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
    ("channels", ["a"] * 4), ("fold_start", 3), ("use_steady", True),
    ("use_short", True), ("use_long", True), ("own_low", True)])
def test_bad_settings_are_named(name, value):
    with pytest.raises(ValueError, match=r"`unet\.\w+` must be .* Received: unet\.\w+="):
        unet.build_model_denoise(SimpleNamespace(**{name: value}))


# ---- layers ----

LAYERS = {  # each with shapes of its inputs and outputs
    "conv": (unet.SymmetricConv2D(4, 3, activation="elu"), [(2, 5, 7, 3)], [(2, 5, 7, 4)]),
    "split_conv": (unet.SymmetricConv2D(4, 3, split=3), [(2, 5, 7, 3)], [(2, 5, 7, 4)]),
    "extractor_with_profile": (unet.FeatureExtractor(4, 3, split=4), [(2, 5, 9, 2), (2, 1, 9, 6)],
                               [(2, 5, 9, 4)]),
    "strided_conv": (unet.SymmetricConv2D(4, 4, strides=2), [(2, 5, 7, 3)], [(2, 3, 4, 4)]),
    "extractor": (unet.FeatureExtractor(4, 7), [(2, 5, 9, 2)], [(2, 5, 9, 4)]),
    "extractor_without_embeddings": (unet.FeatureExtractor(4, 3, use_fencoding=False),
                                     [(2, 5, 9, 2)], [(2, 5, 9, 4)]),
    "block": (unet.IBlock(4, num_tfc=2), [(2, 5, 7, 3)], [(2, 5, 7, 4)]),
    "upsampling": (unet.UpsamplingConv2D(4), [(2, 3, 4, 3), (2, 3, 4, 4), (2, 5, 8, 1)],
                   [(2, 5, 8, 4)]),
    "encoder_level": (unet.EncoderLevel(4, 6), [(2, 5, 7, 3)], [(2, 3, 4, 6), (2, 5, 7, 4)]),
    "decoder_level": (unet.DecoderLevel(4), [(2, 3, 4, 6), (2, 5, 7, 4)], [(2, 5, 7, 4)]),
    "decoder_level_without_projection": (unet.DecoderLevel(4), [(2, 3, 4, 4), (2, 6, 7, 4)],
                                         [(2, 6, 7, 4)]),
    "encoder_decoder": (unet.EncoderDecoder(2, [3, 4, 5]), [(2, 5, 7, 3)], [(2, 5, 7, 3)]),
    "attention": (unet.SupervisedAttention(), [(2, 5, 7, 4), (2, 5, 7, 2)],
                  [(2, 5, 7, 4), (2, 5, 7, 2)]),
    "attention_mask": (unet.SupervisedAttention("mask", 0.3), [(2, 5, 7, 4), (2, 5, 7, 6)],
                       [(2, 5, 7, 4), (2, 5, 7, 6)]),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name, rng, tmp_path):
    original, shapes, expected = LAYERS[name]
    layer = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(original))
    assert layer.get_config() == original.get_config()
    inputs = [rng.standard_normal(shape).astype("float32") for shape in shapes]
    symbols = [keras.Input((None, None, shape[-1])) for shape in shapes]
    model = keras.Model(symbols, layer(*symbols))
    outputs = keras.tree.flatten(model(inputs))
    assert [tuple(output.shape) for output in outputs] == expected

    # One step moves every weight, though some start at zero.
    randomize(model, rng)
    before = [np.array(variable) for variable in model.get_weights()]
    model.compile("sgd", loss=["mse"] * len(outputs), run_eagerly=True)
    targets = [rng.standard_normal(shape).astype("float32") for shape in expected]
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


@pytest.mark.parametrize("form", ["published", "shipped"])
def test_model_is_saved_whole_and_as_weights(form, rng, tmp_path):
    model = build(form, rng, depth=1)
    inputs = rng.standard_normal((1, 5, 9, 2)).astype("float32")
    expected = to_numpy(model(inputs))
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    fresh = build(form, depth=1)
    unet.load_weights(fresh, tmp_path / "model.weights.h5")
    for other in (keras.models.load_model(tmp_path / "model.keras"), fresh):
        for one, two in zip(expected, to_numpy(other(inputs)), strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.slow
@pytest.mark.parametrize(("form", "optimizer", "shape"), [
    ("published", keras.optimizers.SGD(1.0), (2, 6, 25, 2)),
    ("shipped", keras.optimizers.SGD(1.0), (2, 6, 25, 2)),
    # Adam moves every weight that has a gradient, however small, by about the same amount.
    ("views", keras.optimizers.Adam(1e-3), (2, 20, 65, 2))])
def test_training_moves_every_weight(form, optimizer, shape, rng):
    keras.utils.set_random_seed(1)
    model = build(form, depth=1)
    before = model.get_weights()
    model.compile(optimizer, loss=["mse"] * 2, run_eagerly=True)
    inputs, target = rng.standard_normal((2, *shape)).astype("float32")
    for _ in range(3):  # a mask that starts at zero hides some weights from the first step
        assert np.all(np.isfinite(model.train_on_batch(inputs, [target] * 2)))
    unmoved = [variable.path for variable, old in zip(model.variables, before, strict=True)
               if np.array_equal(old, variable)]
    assert not unmoved


@pytest.mark.parametrize(("form", "tolerance"), [
    ("all_options_one_stage", 0.0), ("shipped", 0.0), ("views", 1e-6)])
def test_fresh_mask_network_returns_its_input(form, tolerance, rng):
    model = build(form)
    inputs = rng.standard_normal((2, 20, 65, 2)).astype("float32")
    outputs = model(inputs)
    assert isinstance(outputs, list) and len(outputs) == model.settings.num_stages
    for output in to_numpy(outputs):
        np.testing.assert_allclose(output, inputs, rtol=0.0, atol=tolerance)


def test_silence_has_finite_gradients(rng):
    model = build("shipped", rng, depth=1)
    silence = tf.zeros((1, 4, 9, 2))
    with tf.GradientTape() as tape:
        tape.watch(silence)
        loss = tf.add_n([tf.reduce_sum(tf.square(out - 0.1)) for out in model(silence)])
    gradients = tape.gradient(loss, [silence, *model.trainable_variables])
    assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.slow
@pytest.mark.parametrize(("form", "bins", "tolerance", "shapes"), [
    ("published", None, 1e-5, ((1, 1, 1), (1, 1, 7), (2, 6, 23))),
    ("shipped", None, 1e-5, ((1, 1, 1), (1, 1, 7), (2, 6, 23))),
    ("views", 65, 1e-4, ((2, 1, 65), (2, 6, 65), (2, 40, 65)))])
def test_sizes_may_be_unknown_while_tracing(form, bins, tolerance, shapes, rng, tmp_path):
    model = build(form, rng, depth=1)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    traced = tf.function(lambda inputs: loaded(inputs),
                         input_signature=[tf.TensorSpec((None, None, bins, 2))])
    for shape in shapes:
        inputs = rng.standard_normal((*shape, 2)).astype("float32")
        assert_close(traced(inputs), model(inputs), tolerance)


# ---- further views ----


def test_low_bins_have_kernels_of_their_own(rng):
    layer = unet.SymmetricConv2D(4, 3, split=3)
    inputs = rng.standard_normal((1, 5, 7, 2)).astype("float32")
    before = ops.convert_to_numpy(layer(inputs))
    layer.low.kernel.assign(2.0 * layer.low.kernel)
    changed = np.any(before != ops.convert_to_numpy(layer(inputs)), axis=(0, 1, 3))
    assert changed.tolist() == [True] * 3 + [False] * 4


@pytest.mark.slow
def test_a_network_grown_from_an_older_one_computes_the_same(rng):
    added = ("use_short", "use_long", "own_low", "use_profile")
    without = dict.fromkeys(added, False) | {"depth": 1}
    older = build("views", rng, **without)
    inputs = rng.standard_normal((2, 20, 65, 2)).astype("float32")
    for names in (added[:1], added[1:], added):
        model = build("views", **without | dict.fromkeys(names, True))
        resizing.grow(model, older)
        assert_close(model(inputs), older(inputs), 1e-4)
    # The profile of the older network stays behind new views.
    profile = rng.random((2, 1, 65, 2)).astype("float32")
    profiled = without | {"use_profile": True}
    older = build("views", rng, **profiled)
    model = build("views", use_profile=True, depth=1)
    resizing.grow(model, older)
    assert_close(model([inputs, profile]), older([inputs, profile]), 1e-4)
    # New channels have weights, but nothing takes them yet.
    wider = build("views", **profiled | {"channels": [4, 6, 8], "depth": 2, "num_tfc": 2})
    older = build("views", rng, **profiled | {"channels": [3, 4, 5], "depth": 2, "num_tfc": 2})
    resizing.grow(wider, older)
    assert_close(wider([inputs, profile]), older([inputs, profile]), 1e-4)
    kernel = ops.convert_to_numpy(wider.unets[0].bottom.dense[0].conv.kernel)
    assert np.all(np.any(kernel, axis=(0, 1, 2)))
    older = build("views", rng, **profiled)
    # Inputs that the older network has, but not first, would have other places.
    with pytest.raises(UserError, match="with the first of its inputs.*'use_long'"):
        resizing.grow(build("views", depth=1), build("views", depth=1, use_short=False))
    for model, change in ((older, {"channels": [3, 5]}),
                          (build("views", rng, **profiled | {"depth": 2}), {})):
        before = model.get_weights()
        with pytest.raises(UserError, match="must be of a network that is a part of this one"):
            resizing.grow(model, build("views", **profiled | change))
        assert all(map(np.array_equal, before, model.get_weights()))


def test_a_network_shrinks_to_the_channels_that_matter(rng):
    form = {"depth": 2, "num_tfc": 2, "use_profile": True, "own_low": True}
    small, large = {"channels": [4, 6, 7]}, {"channels": [6, 7, 9]}
    inputs = rng.standard_normal((1, 6, 65, 2)).astype("float32")
    whole = build("views", rng, **form | small)
    larger = build("views", **form | large)
    resizing.grow(larger, whole)  # nothing takes the new channels
    for variable in larger.variables:  # the same network with its channels in reverse
        name, value = variable.path.split("/", 1)[1], ops.convert_to_numpy(variable)
        if "/dense_0/" in name and "unet_1/encoder_1" in name:
            variable.assign(value[..., ::-1])
        elif "unet_1/encoder_1/block/dense_1" in name and name.endswith("kernel"):
            variable.assign(np.concatenate([value[:, :, 6::-1], value[:, :, 7:]], axis=2))
    assert_close(larger(inputs), whole(inputs), 1e-4)
    model = build("views", **form | small)
    resizing.resize(model, larger)
    assert_close(model(inputs), whole(inputs), 1e-4)


@pytest.mark.parametrize(("change", "message"), [
    ({"channels": [4, 6], "use_profile": True}, "alone.* Received: unet.use_profile=False, here"),
    ({"channels": [4, 6, 7], "depth": 2}, "alone.* Received: unet.depth=1, here 2"),
    ({"channels": [4, 4]}, r"differ from level to level in both.* Received: \[4, 4\] for \[6, 8\]"),
    ({"channels": [4, 9]}, "must be at most those of `weights`"),
    (None, "only two-stage networks change their size. Received: form 'two_stage' for 'mask'"),
])
def test_a_network_that_cannot_shrink_is_left_alone(rng, change, message):
    larger = build("views", rng, depth=1, channels=[6, 8, 9])
    model = unet.build_model_denoise(UnetConfig(form="mask", depth=1, channels=[4, 6]))
    if change is not None:
        model = build("views", **{"depth": 1} | change)
    before = model.get_weights()
    with pytest.raises(UserError, match=message):
        resizing.resize(model, larger)
    assert all(map(np.array_equal, before, model.get_weights()))


# ---- a profile of the noise ----


def test_a_profile_grows_into_a_network_without_effect(rng):
    older, model = build("shipped", rng, depth=1), build("shipped", use_profile=True, depth=1)
    resizing.grow(model, older)
    inputs = rng.standard_normal((2, 6, 23, 2)).astype("float32")
    profile = rng.random((2, 1, 23, 2)).astype("float32")
    for given in (inputs, [inputs, profile]):
        assert_close(model(given), older(inputs), 1e-5)
    with pytest.raises(ValueError, match="this network has no `unet.use_profile`"):
        older([inputs, profile])
    with pytest.raises(UserError, match="a layer takes 8 channels of `profile`, this one's 0"):
        resizing.grow(older, model)


def test_a_profile_has_an_effect_whatever_the_number_of_frames(rng, tmp_path):
    model = build("views", rng, use_profile=True, depth=1, num_stages=1)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    traced = tf.function(lambda *inputs: loaded(list(inputs)), input_signature=[
        tf.TensorSpec((None, None, 65, 2)), tf.TensorSpec((None, 1, 65, 2))])
    for frames in (1, 20):
        inputs = rng.standard_normal((2, frames, 65, 2)).astype("float32")
        profile = rng.random((2, 1, 65, 2)).astype("float32")
        with_profile, blind = to_numpy(model([inputs, profile])), to_numpy(model(inputs))
        assert_close(traced(inputs, profile), with_profile, 1e-4)
        assert_close(model([inputs, 0.0 * profile]), blind, 1e-5)  # zeros mean no profile
        assert np.any(np.abs(with_profile[0] - blind[0]) > 0.1)
        # Each item of a batch has its own profile.
        swapped = to_numpy(model([inputs[::-1], profile[::-1]]))
        assert_close(swapped[0][::-1], with_profile[0], 1e-4)


# ---- segments of a recording ----


@pytest.mark.slow
def test_segments_of_the_shipped_network_have_no_seams():
    """Audio beyond the context hardly changes what a segment returns.

    Noise floor and steady tones look back and ahead for up to 2 s each, the convolutions for less.
    RMS and peak of the difference on this recording, without its clicks: -87 and -66 dB with 1.75 s
    of context, -82 and -62 dB with 1.5 s, -69 and -48 dB with 1.25 s. With its clicks it was
    -47 and -17 dB in a larger network with 1.25 s, which alone lowers one by 7 or by 5 dB.
    """
    conf = OmegaConf.load(ROOT / "conf" / "conf.yaml")
    model = unet.build_model_denoise(conf.unet)
    shipped = ROOT / "pretrained" / "best.weights.h5"
    unet.load_weights(model, shipped)
    stft = StftConfig(**conf.stft)
    predict = dsp.in_spectral_domain(lambda spectra: ops.convert_to_numpy(model(spectra)[0]),
                                     stft.win_size, stft.hop_size, stft.highpass_hz)
    audio, _ = soundfile.read(ROOT / "examples" / "noisy.flac", 9 * SAMPLE_RATE, dtype="float32")
    audio = remove_clicks(audio)
    whole = predict(audio[None])
    segments = np.concatenate(list(dsp.stream_in_segments(
        predict, [audio[None]], 3 * SAMPLE_RATE,
        round(read_network_settings(shipped).context_seconds * SAMPLE_RATE),
        stft.hop_size * 2**conf.unet.depth)), axis=-1)
    difference = segments - whole
    assert np.std(difference) < 10.0**(-67 / 20) * np.std(whole)
    assert np.max(np.abs(difference)) < 10.0**(-50 / 20) * np.max(np.abs(whole))
