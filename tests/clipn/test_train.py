from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.multiprocessing.spawn import spawn

from tests.clipn.workers import PLAN, first_gradients, train_in_group
from vlm_ood.clipn.data import read_pairs
from vlm_ood.clipn.files import load_no_tower
from vlm_ood.clipn.group import Group
from vlm_ood.clipn.no_tower import NoTower
from vlm_ood.clipn.pairs import Pairs
from vlm_ood.clipn.train import Step, Trainer, train
from vlm_ood.encoders.clip import ClipEncoder
from vlm_ood.errors import CheckpointError, InputError, ParameterError
from vlm_ood.io.files import read_tensors

PROMPTS = ["a photo of something red.", "a cat"]


class InterruptionError(Exception):
    """What a test raises to stop a training."""


@pytest.fixture
def pairs(colour_table: Path) -> Pairs:
    return read_pairs([colour_table])


def same(left: NoTower, right: NoTower) -> bool:
    ours, theirs = left.state_dict(), right.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_one_process_trains_and_the_loss_goes_down(encoder: ClipEncoder, pairs: Pairs) -> None:
    steps: list[Step] = []
    train(encoder, pairs, replace(PLAN, epochs=6, learning_rate=3e-3), progress=steps.append)
    assert [step.step for step in steps] == list(range(1, 13))
    assert sum(step.loss for step in steps[-2:]) < 0.8 * sum(step.loss for step in steps[:2])
    assert all(step.loss == pytest.approx(0.5 * (step.yes + step.no + step.opposite), rel=1e-5) for step in steps)


def test_training_leaves_the_encoder_and_the_global_generators_as_they_were(encoder: ClipEncoder, pairs: Pairs) -> None:
    before = encoder.encode_text(["a photo of a cat."])
    random_state = torch.get_rng_state()
    train(encoder, pairs, replace(PLAN, epochs=1))
    assert torch.equal(encoder.encode_text(["a photo of a cat."]), before)
    assert torch.equal(torch.get_rng_state(), random_state)


def test_the_learning_rate_is_a_cosine_and_gains_and_biases_don_t_decay(encoder: ClipEncoder, pairs: Pairs) -> None:
    trainer = Trainer(encoder, pairs, PLAN, Group())
    rates = [trainer.optimiser.param_groups[0]["lr"] / PLAN.learning_rate for _ in trainer.run()]
    assert rates == pytest.approx([1.0, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5])
    decaying, others = trainer.optimiser.param_groups
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.2, 0.0)
    assert {parameter.ndim for parameter in others["params"]} == {1}
    assert 1 not in {parameter.ndim for parameter in decaying["params"]}


def test_a_resumed_training_equals_an_uninterrupted_one_bit_by_bit(
    encoder: ClipEncoder, pairs: Pairs, tmp_path: Path
) -> None:
    plan = replace(PLAN, checkpoint_every=1)

    def stop(step: Step) -> None:
        if step.step == 3:
            raise InterruptionError

    whole: list[Step] = []
    uninterrupted = train(encoder, pairs, plan, progress=whole.append)
    with pytest.raises(InterruptionError):
        train(encoder, pairs, plan, folder=tmp_path, progress=stop)
    rest: list[Step] = []
    resumed = train(encoder, pairs, plan, folder=tmp_path, progress=rest.append)
    assert rest == whole[3:]
    assert same(resumed, uninterrupted)
    assert same(load_no_tower(tmp_path / "no_tower.safetensors", encoder), resumed)


def test_a_finished_training_is_not_done_again(encoder: ClipEncoder, pairs: Pairs, tmp_path: Path) -> None:
    first = train(encoder, pairs, PLAN, folder=tmp_path)
    steps: list[Step] = []
    assert same(train(encoder, pairs, PLAN, folder=tmp_path, progress=steps.append), first)
    assert steps == []


def test_a_state_of_another_training_is_refused_and_says_what_differs(
    encoder: ClipEncoder, pairs: Pairs, tmp_path: Path
) -> None:
    train(encoder, pairs, PLAN, folder=tmp_path)
    with pytest.raises(CheckpointError, match=r"learning_rate: 0\.001 there, 0\.1 here"):
        train(encoder, pairs, replace(PLAN, learning_rate=0.1), folder=tmp_path)


@pytest.mark.slow
def test_two_processes_train_as_one_does_though_one_of_them_can_read_nothing_of_a_batch(
    encoder: ClipEncoder, pairs: Pairs, colour_table: Path, tmp_path: Path
) -> None:
    for caption in next(Trainer(encoder, pairs, PLAN, Group(1, 2)).batches.run(0, 1, 1, 2)).captions:
        (colour_table.parent / f"{caption.split()[-1][:-1]}.png").write_bytes(b"broken")
    folder = tmp_path / "two"
    folder.mkdir()
    spawn(train_in_group, args=(2, str(colour_table), str(folder)), nprocs=2)  # type: ignore[no-untyped-call]
    expected = first_gradients(encoder, pairs, Group())
    for rank in range(2):
        gradients, _ = read_tensors(folder / f"gradients-{rank}.safetensors")
        torch.testing.assert_close(gradients, expected, rtol=1e-4, atol=1e-6)
    steps: list[Step] = []
    alone = train(encoder, pairs, PLAN, progress=steps.append)
    together = load_no_tower(folder / "no_tower.safetensors", encoder)
    assert steps[-1].broken == 4  # two in each epoch
    with torch.no_grad():
        torch.testing.assert_close(together(PROMPTS), alone(PROMPTS), rtol=0, atol=1e-3)
        assert (alone(PROMPTS) - encoder.encode_text(PROMPTS)).abs().max() > 1e-2


def test_a_broken_picture_is_skipped_and_counted(encoder: ClipEncoder, pairs: Pairs, colour_table: Path) -> None:
    (colour_table.parent / "blue.png").write_bytes(b"broken")
    steps: list[Step] = []
    train(encoder, pairs, PLAN, progress=steps.append)
    assert len(steps) == 4
    assert steps[-1].broken == 2  # once an epoch


def test_a_batch_of_broken_pictures_stops_the_training_with_the_reason(
    encoder: ClipEncoder, pairs: Pairs, colour_table: Path
) -> None:
    for picture in colour_table.parent.glob("*.png"):
        picture.unlink()
    with pytest.raises(InputError, match=r"fewer than two of the 4 pairs of batch 1.*no such file"):
        train(encoder, pairs, PLAN)


def test_a_batch_larger_than_the_table_or_not_to_be_shared_is_refused(encoder: ClipEncoder, pairs: Pairs) -> None:
    with pytest.raises(ParameterError, match="9 is more than the 8 pairs"):
        train(encoder, pairs, replace(PLAN, batch_size=9))
    with pytest.raises(ParameterError, match="no multiple of the 3 processes"):
        Trainer(encoder, pairs, PLAN, Group(0, 3))


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch_size": 1},
        {"learning_rate": 0.0},
        {"crop_share": (1.0, 0.9)},
        {"seed": -1},
    ],
)
def test_a_value_out_of_its_range_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        replace(PLAN, **wrong)


def test_reduced_precision_keeps_weights_and_losses_in_fp32(encoder: ClipEncoder, pairs: Pairs) -> None:
    steps: list[Step] = []
    tower = train(encoder, pairs, replace(PLAN, epochs=1, precision="bf16"), progress=steps.append)
    assert {value.dtype for value in tower.state_dict().values()} == {torch.float32}
    exact: list[Step] = []
    train(encoder, pairs, replace(PLAN, epochs=1), progress=exact.append)
    assert steps[0].loss == pytest.approx(exact[0].loss, rel=0.02)


@pytest.mark.gpu
def test_a_gpu_trains_as_a_cpu_does(encoder: ClipEncoder, pairs: Pairs) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    from tests.clipn.tiny import tiny_architecture
    from vlm_ood.encoders.openclip import load_openclip

    with tiny_architecture():
        on_gpu = load_openclip("random:tiny", torch.device("cuda"), torch.float32)
    there, here = train(on_gpu, pairs, PLAN), train(encoder, pairs, PLAN)
    for name, value in there.state_dict().items():
        torch.testing.assert_close(value.cpu(), here.state_dict()[name], rtol=0, atol=1e-3)
