"""The network in NumPy, written from the paper, independently of `unet.py`; and its checkpoints."""

import numpy as np
import tensorflow as tf

ROOT_KEY, VALUE_KEY = "layer_with_weights-0/", "/.ATTRIBUTES/VARIABLE_VALUE"


class NumpyUnet:
    """The network as the paper describes it.

    Args:
        settings: `UnetConfig`.
        rng: Draws each weight when it is first used.
        weights: Or the weights, under the names that published checkpoints have for them.
    """

    def __init__(self, settings, rng=None, weights=None):
        self.settings, self.rng, self.weights = settings, rng, weights or {}

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
        y, part = np.tile(bias, (rows, columns, 1)), np.empty((rows, columns, filters))
        for row in range(size):
            for column in range(size):
                seen = x[row:row + stride * rows:stride, column:column + stride * columns:stride]
                y += np.matmul(seen[:rows, :columns], kernel[row, column], out=part)
        return y if activation is None else activation(y)

    def transposed_conv(self, name, x, filters):
        kernel = self.weight(f"{name}/kernel", (4, 4, filters, x.shape[-1]))
        y = np.zeros((2 * x.shape[0] + 2, 2 * x.shape[1] + 2, filters))
        for row in range(4):
            for column in range(4):
                y[row:row + 2 * x.shape[0]:2, column:column + 2 * x.shape[1]:2] += (
                    x @ kernel[row, column].T)
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
        position = np.arange(bins) / max(bins - 1, 1)
        channels = [np.cos(2.0**octave * np.pi * position) for octave in range(10)]
        return np.concatenate([x, np.broadcast_to(np.stack(channels, -1), (*x.shape[:2], 10))], -1)

    def compress(self, x):
        z = to_complex(x)
        return to_parts(z * (np.abs(z)**2 + 1e-6)**((self.settings.compression - 1.0) / 2.0))

    def magnitude_and_floor(self, spectrogram):
        """The floor is the least within 121 frames; before it comes a mean over 9 frames."""
        magnitude = (np.sum(spectrogram.astype("float64")**2, -1) + 1e-6)**(
            self.settings.compression / 2.0)
        frames = len(magnitude)
        padded = np.pad(magnitude, ((125, 125), (0, 0)), mode="symmetric")
        taps = np.convolve([1, 1, 1], [1, 0, 0, 1, 0, 0, 1]) / 9.0
        smooth = np.stack([taps @ padded[first:first + 9] for first in range(frames + 242)])
        floor = np.stack([smooth[first:first + 243].min(axis=0) for first in range(frames)])
        return np.stack([magnitude, floor], axis=-1)

    def find_tones(self, x):
        """Tones that go on in the transforms of 32 frames, below `fold_start`; zeros above."""
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
        floor = np.stack([smooth[first:first + 81].min(axis=0) for first in range(len(starts))])
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
            estimates.append(self.estimate(x, self.conv("sam_1/conv2", features, masks, 3), tones))
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
    """Returns how many bins become one, for each folded bin from the lowest up.

    The widest comes at least once, and all bins fit in.
    """
    widths, width, octave_end = [], 1 if start and count > 1 else count, start
    while sum(widths) < bins or width < count:
        if width < count and sum(widths) == octave_end:
            width, octave_end = 2 * width, 2 * octave_end
        widths.append(width)
    return widths


def fold(spectrogram, widths, count):
    frames = len(spectrogram)
    folded, first = np.zeros((frames, len(widths), count, 2)), 0
    for index, width in enumerate(widths):
        part = spectrogram[:, first:first + width]
        folded[:, index, :part.shape[1]] = part
        first += width
    return folded.reshape(frames, len(widths), 2 * count)


def crop(x, shape):
    row, column = ((x.shape[axis] - shape[axis]) // 2 for axis in (0, 1))
    return x[row:row + shape[0], column:column + shape[1]]


def to_complex(x):
    return x[..., 0::2] + 1j * x[..., 1::2]


def to_parts(z):
    return np.stack([z.real, z.imag], axis=-1).reshape(*z.shape[:-1], -1)


def read_checkpoint(prefix):
    """Returns the weights of a published checkpoint as `NumpyUnet` names them."""
    reader = tf.train.load_checkpoint(str(prefix))
    keys = [key for key in reader.get_variable_to_shape_map() if key.startswith(ROOT_KEY)]
    return {key.removeprefix(ROOT_KEY).removesuffix(VALUE_KEY): reader.get_tensor(key)
            for key in keys}


def write_checkpoint(weights, prefix, extra=None):
    """Writes a TensorFlow object-graph checkpoint as `Model.save_weights` of Keras 2 did."""
    tree = {}
    for name, value in weights.items():
        *parents, leaf = f"{ROOT_KEY}{name}".split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = tf.Variable(value)

    def to_node(branch):
        if isinstance(branch, dict):
            return tf.train.Checkpoint(**{name: to_node(leaf) for name, leaf in branch.items()})
        return branch

    to_node(tree | (extra or {})).write(str(prefix))
