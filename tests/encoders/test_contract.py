"""Contracts of every encoder that can be built without downloads."""

import gc
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import FunctionType, MappingProxyType, ModuleType
from typing import Final, get_args

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tests.encoders.tiny import RESNET, openclip_folder, openclip_model, transformers_clip, transformers_siglip
from tests.fakes import FakeEncoder
from vlm_ood.digests import digest_of_weights
from vlm_ood.encoders import Encoder, load_encoder
from vlm_ood.encoders.outputs import PATCHES, POOLED, Attention, Capability, Outputs
from vlm_ood.errors import CapabilityError, ParameterError, UnknownNameError, VectorError
from vlm_ood.types import ImageFeatures

TIMM: Final = {"timm_model_name": "resnet10t", "timm_model_pretrained": False, "image_size": 64}


def openclip(folder: Path) -> str:
    return str(openclip_folder(folder, openclip_model()))


def openclip_resnet(folder: Path) -> str:
    return str(openclip_folder(folder, openclip_model(RESNET), RESNET))


def openclip_timm(folder: Path) -> str:
    return str(openclip_folder(folder, openclip_model(TIMM, custom_text=True), TIMM, custom_text=True))


def clip(folder: Path) -> str:
    transformers_clip(folder)
    return str(folder)


def siglip(folder: Path) -> str:
    transformers_siglip(folder)
    return str(folder)


MAKERS: Final[Mapping[str, Callable[[Path], str]]] = MappingProxyType(
    {
        "embedded": lambda _: "embedded",
        "openclip": openclip,
        "openclip_resnet": openclip_resnet,
        "openclip_timm": openclip_timm,
        "clip": clip,
        "siglip": siglip,
    }
)


@pytest.fixture(scope="module", params=[*MAKERS, "fake"])
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    """Each encoder in turn; whatever the tests asked of it, its weights are as they were."""
    if request.param == "fake":
        yield FakeEncoder()
        return
    made = load_encoder(MAKERS[request.param](tmp_path_factory.mktemp("encoder")), device="cpu")
    before = weights_of(made)
    yield made
    assert weights_of(made) == before


def sizes(encoder: Encoder) -> list[tuple[int, int] | None]:
    """The own size and two others, where the encoder takes others."""
    height, width = encoder.preprocessing.height, encoder.preprocessing.width
    others = [(2 * height, width), (height, 2 * width)]
    return [None, *(others if "sizes" in encoder.capabilities else [])]


def possible(encoder: Encoder) -> Iterator[Outputs]:
    """Requests of every kind that the encoder can give, one by one and all at once."""
    attentions = get_args(Attention) if "vv" in encoder.capabilities else ("value",)
    for size, attention in itertools.product(sizes(encoder)[:2], attentions):
        each = [
            Outputs(patches=True, attention=attention, size=size),
            Outputs(stages=(1, 3), attention=attention, size=size),
            Outputs(windows=(1, 2), size=size),
            Outputs(patches=True, stages=(1, 2), windows=(2,), attention=attention, size=size),
        ]
        yield from (outputs for outputs in each if outputs.needs <= encoder.capabilities)
    yield POOLED


def noise(encoder: Encoder, outputs: Outputs = POOLED, n: int = 3) -> Tensor:
    own = encoder.preprocessing.height, encoder.preprocessing.width
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (n, 3, *(outputs.size or own)), dtype=torch.uint8, generator=generator)


def tensors(features: ImageFeatures) -> dict[str, Tensor]:
    given = {"pooled": features.pooled}
    if features.patches is not None:
        given["patches"] = features.patches
    stages = {f"stage {number}": tokens for number, tokens in features.stages.items()}
    return given | stages | {f"windows {side}": vectors for side, vectors in features.windows.items()}


def assert_close(one: ImageFeatures, other: ImageFeatures) -> None:
    """Within 1e-6 of the largest value, which is at most 1 but for stages."""
    assert (one.grid, one.stage_grids) == (other.grid, other.stage_grids)
    pairs = tensors(one), tensors(other)
    assert pairs[0].keys() == pairs[1].keys()
    for name, left in pairs[0].items():
        assert (left - pairs[1][name]).abs().max() <= 1e-6 * max(1.0, float(left.abs().max())), name


def test_what_is_asked_for_is_given_and_nothing_else(encoder: Encoder) -> None:
    for outputs in possible(encoder):
        features = encoder.encode_pixels(noise(encoder, outputs), outputs)
        wanted = {"pooled"} | ({"patches"} if outputs.patches else set())
        wanted |= {f"stage {number}" for number in outputs.stages} | {f"windows {side}" for side in outputs.windows}
        assert tensors(features).keys() == wanted
        assert outputs.missing_in(features) == []
        assert outputs.local or features.grid is None
        assert all(tensor.dtype == torch.float32 for tensor in tensors(features).values())
        for name, tensor in tensors(features).items():
            assert name.startswith("stage") or (tensor.norm(dim=-1) - 1).abs().max() < 1e-6
            assert name.startswith("stage") or tensor.shape[-1] == encoder.dim


def test_one_thing_is_the_same_whatever_else_is_asked_for(encoder: Encoder) -> None:
    for outputs in possible(encoder):
        pixels = noise(encoder, outputs)
        plain = encoder.encode_pixels(pixels, Outputs(size=outputs.size))
        assert torch.equal(encoder.encode_pixels(pixels, outputs).pooled, plain.pooled)


def test_features_do_not_depend_on_the_batch(encoder: Encoder) -> None:
    for outputs in possible(encoder):
        pixels = noise(encoder, outputs, 3)
        together = encoder.encode_pixels(pixels, outputs)
        reversed_ = encoder.encode_pixels(pixels.flip(0), outputs)[[2, 1, 0]]
        by_two = ImageFeatures.concatenate(list(encoder.encode_batches(iter(pixels), outputs, batch_size=2)))
        assert_close(together, reversed_)
        assert_close(together, by_two)


def test_an_image_goes_through_the_preprocessing_of_its_size(encoder: Encoder) -> None:
    values = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    for size in sizes(encoder):
        outputs = Outputs(size=size)
        pixels = (encoder.preprocessing if size is None else encoder.preprocessing.at(size))(values)
        expected = encoder.encode_pixels(pixels[None], outputs)
        assert_close(encoder.encode_images([Image.fromarray(values)], outputs), expected)


def test_patches_are_a_short_word_for_outputs(encoder: Encoder) -> None:
    if "patches" not in encoder.capabilities:
        pytest.skip("no patches")
    image = Image.new("RGB", (40, 40), "green")
    assert_close(encoder.encode_images([image], patches=True), encoder.encode_images([image], PATCHES))


def test_what_cannot_be_given_is_named_with_what_can(encoder: Encoder) -> None:
    asked: dict[Capability, Outputs] = {
        "patches": PATCHES,
        "stages": Outputs(stages=(1,)),
        "windows": Outputs(windows=(1,)),
        "vv": Outputs(stages=(1,), attention="vv"),
        "sizes": Outputs(size=(512, 512)),
    }
    assert asked.keys() | {"text_gradients"} == set(get_args(Capability))
    for name, outputs in asked.items():
        if name not in encoder.capabilities:
            offered = ", ".join(sorted(encoder.capabilities - {"text_gradients"})) or "pooled features only"
            with pytest.raises(CapabilityError, match=rf"gives no .*{name}.*; it gives {offered}"):
                encoder.encode_pixels(noise(encoder, outputs), outputs)


def test_an_unknown_stage_is_named_with_the_range(encoder: Encoder) -> None:
    if "stages" not in encoder.capabilities:
        pytest.skip("no stages")
    outputs = Outputs(stages=(1, 99))
    with pytest.raises(CapabilityError, match=r"has the blocks 1 to \d+, not \[99\]"):
        encoder.encode_pixels(noise(encoder), outputs)
    with pytest.raises(CapabilityError, match=r"has the blocks 1 to \d+, not \[99\]"):
        encoder.encode_images([Image.new("RGB", (8, 8))], outputs)


def test_pixels_of_another_size_are_refused(encoder: Encoder) -> None:
    height, width = encoder.preprocessing.height, encoder.preprocessing.width
    pixels = torch.zeros(1, 3, 2 * height, width, dtype=torch.uint8)
    with pytest.raises(VectorError, match=rf"pixels of {2 * height}x{width}, but .* {height}x{width}"):
        encoder.encode_pixels(pixels)


@pytest.mark.parametrize("name", ["openclip", "clip", "siglip"])
def test_calls_in_any_order_of_sizes_give_the_same_and_leave_the_network_as_it_was(name: str, tmp_path: Path) -> None:
    made = MAKERS[name](tmp_path)
    seen: dict[tuple[int, int] | None, str] = {}
    for order in itertools.permutations(sizes(load_encoder(made, device="cpu"))):
        encoder = load_encoder(made, device="cpu")
        before = weights_of(encoder)
        for size in (*order, *order):
            features = encoder.encode_pixels(noise(encoder, Outputs(size=size)), Outputs(size=size))
            assert seen.setdefault(size, features.digest) == features.digest
        assert weights_of(encoder) == before


def test_no_hook_is_left(encoder: Encoder) -> None:
    for outputs in possible(encoder):
        encoder.encode_pixels(noise(encoder, outputs), outputs)
    encoder.encode_text(["a cat"])
    for module in itertools.chain.from_iterable(network.modules() for network in networks(encoder)):
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def weights_of(encoder: Encoder) -> set[str]:
    return {digest_of_weights(network.state_dict()) for network in networks(encoder)}


def networks(encoder: Encoder) -> list[nn.Module]:
    """Every network that the encoder reaches, through attributes and closures."""
    found: dict[int, nn.Module] = {}
    seen: set[int] = set()
    waiting: list[object] = [encoder]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, type | ModuleType):
            continue
        seen.add(id(thing))
        if isinstance(thing, nn.Module):
            found[id(thing)] = thing
        else:
            waiting += gc.get_referents(thing.__closure__ if isinstance(thing, FunctionType) else thing)
    assert found or isinstance(encoder, FakeEncoder)
    return list(found.values())


@pytest.mark.parametrize("name", MAKERS)
def test_the_digest_follows_the_precision(name: str, tmp_path: Path) -> None:
    made = MAKERS[name](tmp_path)
    digests = [load_encoder(made, device="cpu", dtype=dtype).digest for dtype in ("fp32", "fp32", "bf16")]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("name", ["openclip", "openclip_resnet", "openclip_timm"])
def test_the_digest_of_an_openclip_model_follows_weights_and_preprocessing(name: str, tmp_path: Path) -> None:
    folder = Path(MAKERS[name](tmp_path))
    _check_digests(folder, folder / "open_clip_model.safetensors", folder / "open_clip_config.json", "mean")


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_the_digest_of_a_transformers_model_follows_weights_and_preprocessing(name: str, tmp_path: Path) -> None:
    folder = Path(MAKERS[name](tmp_path))
    _check_digests(folder, folder / "model.safetensors", folder / "preprocessor_config.json", "image_mean")


def _check_digests(folder: Path, weights: Path, config: Path, mean: str) -> None:
    from safetensors.torch import load_file, save_file

    digests = [load_encoder(str(folder), device="cpu").digest]
    tensors = load_file(weights)
    tensors[sorted(name for name in tensors if "visual" in name or "vision" in name)[0]].view(-1)[0] += 1e-3
    save_file(tensors, weights)
    digests.append(load_encoder(str(folder), device="cpu").digest)
    described = json.loads(config.read_text())
    described.get("preprocess_cfg", described)[mean] = [0.1, 0.2, 0.3]
    config.write_text(json.dumps(described))
    digests.append(load_encoder(str(folder), device="cpu").digest)
    assert len(set(digests)) == 3


def test_a_precision_and_a_backend_are_known_by_name() -> None:
    assert load_encoder("embedded", device="cpu", precision="bf16").dtype == torch.bfloat16
    assert load_encoder("embedded", device="cpu", dtype="bf16", backend="torch").dtype == torch.bfloat16
    with pytest.raises(UnknownNameError, match="backend 'onnx'"):
        load_encoder("embedded", backend="onnx")


@pytest.mark.parametrize("device", ["gpu", "", "cpu:x"])
def test_an_unknown_device_is_refused_by_name(device: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown device"):
        load_encoder("random:ViT-B-32", device=device)


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "mps"])
def test_a_device_that_the_machine_lacks_is_refused(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ParameterError, match=f"device={device}: torch finds 0 devices"):
        load_encoder("random:ViT-B-32", device=device)


def test_the_preprocessing_of_another_size_has_another_digest(encoder: Encoder) -> None:
    own = encoder.preprocessing
    other = own.at((2 * own.height, 3 * own.width))
    assert (other.height, other.width) == (2 * own.height, 3 * own.width)
    assert other.digest != own.digest
    assert own.at((own.height, own.width)).digest == own.digest
    assert replace(other, height=own.height, width=own.width, resize=own.resize) == own
