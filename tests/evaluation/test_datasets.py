from pathlib import Path

import pytest

from tests.fakes import save_picture
from vlm_ood.errors import ClassNamesError, InputError
from vlm_ood.evaluation.datasets import named_path, read_id_set, read_ood_set


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("bright_red/a.png", "bright_red/deep/b.png", "blue/c.png", "loose.png", ".hidden/d.png"):
        save_picture(tmp_path / "id" / name, "red")
    (tmp_path / "id" / "blue" / "notes.txt").write_text("not a picture")
    return tmp_path / "id"


def test_subfolders_are_classes_and_underscores_spaces(folder: Path) -> None:
    files, classes = read_id_set(folder)

    assert classes == ("blue", "bright red")
    assert files.images == ("blue/c.png", "bright_red/a.png", "bright_red/deep/b.png", "loose.png")
    assert files.labels == (0, 1, 1, -1)


def test_given_classes_set_the_order_of_the_labels(folder: Path) -> None:
    files, classes = read_id_set(folder, ["green", "Bright Red", "blue"])

    assert classes == ("green", "Bright Red", "blue")
    assert files.labels == (2, 1, 1, -1)


def test_folders_named_otherwise_take_the_given_names_in_sorted_order(folder: Path) -> None:
    assert read_id_set(folder, ["azure", "crimson"])[0].labels == (0, 1, 1, -1)


def test_one_misspelt_folder_is_an_error_and_not_a_shift(folder: Path) -> None:
    with pytest.raises(ClassNamesError, match="1 of 2 class folders are not among the 2 class names: bright_red"):
        read_id_set(folder, ["blue", "bright rde"])


def test_linked_class_folders_are_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "blue").symlink_to(folder / "blue", target_is_directory=True)

    assert read_id_set(tmp_path / "linked")[0].images == ("blue/c.png",)


def test_a_flat_folder_needs_class_names(tmp_path: Path) -> None:
    save_picture(tmp_path / "a.png", "red")

    assert read_id_set(tmp_path, ["red"])[0].labels == (-1,)
    with pytest.raises(ClassNamesError, match="no subfolders"):
        read_id_set(tmp_path)


def test_openood_lists_are_read_with_spaces_missing_labels_and_a_data_root(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("val/a.png 1\n\nval/two words.png 0\nval/bare.png\nval/ood.png -1\n")

    files, _ = read_id_set(tmp_path / "list.txt", ["x", "y"], tmp_path / "root")

    assert files.images == ("val/a.png", "val/two words.png", "val/bare.png", "val/ood.png")
    assert files.labels == (1, 0, -1, -1)
    assert files.files[0] == tmp_path / "root" / "val" / "a.png"
    assert read_ood_set(f"far={tmp_path / 'list.txt'}").files[0] == tmp_path / "val" / "a.png"


def test_a_label_beyond_the_class_names_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.png 2\n")

    with pytest.raises(ClassNamesError, match="label 2, but there are 2 class names"):
        read_id_set(tmp_path / "list.txt", ["x", "y"])
    with pytest.raises(ClassNamesError, match="--classes @FILE"):
        read_id_set(tmp_path / "list.txt")


def test_an_ood_folder_may_have_any_depth(folder: Path) -> None:
    files = read_ood_set(str(folder))

    assert files.name == "id"
    assert len(files) == 4
    assert set(files.labels) == {-1}


def test_a_path_with_an_equals_sign_is_still_a_path(tmp_path: Path) -> None:
    odd = tmp_path / "a=b"
    odd.mkdir()

    assert named_path(str(odd)) == ("a=b", odd)
    assert named_path(f"name={odd}") == ("name", odd)


@pytest.mark.parametrize("read", [read_id_set, lambda path: read_ood_set(str(path))])
def test_a_missing_place_is_named(read: object, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere is neither a folder nor a list file"):
        read(tmp_path / "nowhere")  # type: ignore[operator]
