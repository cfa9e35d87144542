"""A user's mistake ends in one line; a mistake of the program keeps its traceback."""

from pathlib import Path

import pytest
from small_corpus import composed

from historical_denoiser.core.checks import UserError
from historical_denoiser.core.command_line import keys_of, read_arguments, run_main
from historical_denoiser.run.inputs import find_recordings

ODD_NAMES = ["two words.wav", "a=b.wav", "it's (1) [x] {y}.wav", 'say "hi", Zoe\u0308.wav',
             "back\\slash.wav", "${seed}.wav", "\\${seed}\\.wav", "tab\tand\nline.wav",
             "-dash.wav", "~tilde.wav", "null", "???", "weights=x.wav", "\u042f\u4e2d.wav"]


@pytest.mark.parametrize("error", [UserError("the value is wrong"), OSError("the disk is full"),
                                   ValueError("shapes differ"), KeyError("name")])
def test_a_mistake_of_the_user_is_one_line_and_others_keep_their_traceback(error):
    def fail():
        raise error

    is_users = isinstance(error, UserError | OSError)
    with pytest.raises(SystemExit if is_users else type(error)) as caught:
        run_main(fail)
    assert caught.value.args == ((f"error: {error}",) if is_users else error.args)


def test_keys_of_overrides():
    assert keys_of(["unet.depth=3", "+a.b=1=2", "~c", "++d="]) == {"unet.depth", "a.b", "c", "d"}
    assert keys_of(["stft={highpass_hz:0,hop_size: 256}"]) == {
        "stft", "stft.highpass_hz", "stft.hop_size"}


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("form", ["arguments", "key"])
def test_names_mean_themselves(tmp_path, monkeypatch, name, form):
    monkeypatch.chdir(tmp_path)
    names = [name] if form == "key" else [name, "other one.wav"]
    for file in names:
        (tmp_path / file).touch()
    cfg = composed(*[f"inference.audio={name}"] if form == "key" else names)
    assert find_recordings(cfg.inference.audio) == [Path(file) for file in names]


@pytest.mark.parametrize(("arguments", "overrides", "names"), [
    (["seed=1"], ["seed=1"], {}),
    (["seed=1.wav", "seed=2"], ["seed=2"], {"inference.audio": ["seed=1.wav"]}),
    (["gone.wav", "--config-name", "conf_paper", "lr=1", "b.wav", "unet.channels=[1,2]"],
     ["lr=1", "unet.channels=[1,2]", "--config-name", "conf_paper"],
     {"inference.audio": ["gone.wav", "b.wav"]}),
    (["--cfg", "job", "--config-name=conf_paper"], ["--cfg", "job", "--config-name=conf_paper"],
     {}),
    (["weights=my runs/${x}.h5"], ["weights=my runs/${x}.h5"], {}),  # for Hydra: no such file
    (["weights=my runs/a.h5", "inference.output_dir=~/x"], [],
     {"weights": "my runs/a.h5", "inference.output_dir": f"{Path.home()}/x"}),
    (["inference.replay_curve=500,-13.7", "inference.speed=78.26>80"], [],
     {"inference.replay_curve": "500,-13.7", "inference.speed": "78.26>80"}),
    (["weights=null", "dset=folders"], ["weights=null", "dset=folders"], {}),
    (["inference.audio=[a.wav,b c.wav]"], [], {"inference.audio": ["a.wav", "b c.wav"]}),
    (["inference.audio=['a,b.wav',c.wav]"], ["inference.audio=['a,b.wav',c.wav]"], {}),
    (["=.wav", "weights="], ["weights="], {"inference.audio": ["=.wav"]}),
    (["--", "=", "seed=", "--help"], [], {"inference.audio": ["=", "seed=", "--help"]}),
    (["+inference.audio=a b.wav"], [], {"inference.audio": "a b.wav"}),
])
def test_file_names_and_settings_are_distinguished(tmp_path, monkeypatch, arguments, overrides,
                                                   names):
    monkeypatch.chdir(tmp_path)
    for name in ("seed=1.wav", "=.wav"):
        (tmp_path / name).touch()
    assert read_arguments(arguments) == (overrides, names)


@pytest.mark.parametrize(("arguments", "message"), [
    (["inferense.denoising_strength=1"], "Did you mean `inference.denoising_strength`"),
    (["+inference.misspelt=1"], "inference.misspelt=1' is neither a file nor a setting"),
    (["++inference.strength=1"], "Did you mean `inference.denoising_strength`"),
    (["strength=0.5"], "Did you mean `inference.denoising_strength`"),
    (["inference.strength_band=0.5"], "Did you mean `inference.strength_per_band`"),
    (["my=take.wav"], "'my=take.wav' is neither a file nor a setting"),
    (["unet.depth.x=1"], "neither a file nor a setting"),
    (["--frobnicate"], "'--frobnicate' is neither a file nor an option"),
    (["--config-name"], "must be followed by a value"),
    (["a.wav", "inference.audio=b.wav"], "not both"),
    (["a.wav", "seed", "=", "1"], "'=': write key=value without spaces"),
    (["a.wav", "seed", "=1"], "'=1': write key=value without spaces"),
    (["seed=", "1", "a.wav"], "'seed=': write key=value without spaces"),
    (["a.wav", "inference.noise_profile=[12.5,", "14]"], "write the list without spaces"),
    (["inference.strength_per_band=[[0,", "0.4],", "[300,", "1]]"], "the list without spaces"),
])
def test_mistyped_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        read_arguments(arguments)
