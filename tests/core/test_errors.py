from __future__ import annotations

import inspect

import pytest

from napari_cellclf import errors

ALL = [
    member
    for _, member in inspect.getmembers(errors, inspect.isclass)
    if member.__module__ == errors.__name__
]


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_every_error_belongs_to_the_tree_and_to_its_drawing(error):
    assert issubclass(error, errors.CellclfError)
    assert error.__name__ in (errors.__doc__ or "")
    assert error.__doc__


def test_the_drawing_shows_no_error_that_is_not_there():
    drawn = {
        word.strip("()")
        for line in (errors.__doc__ or "").splitlines()
        for word in line.split()
        if word.strip("()").endswith("Error") and word.strip("()") != "ValueError"
    }
    assert drawn == {error.__name__ for error in ALL}


def test_bad_input_is_a_value_error_too():
    assert issubclass(errors.InputError, ValueError)
    assert issubclass(errors.AxesError, errors.ImageError)
    assert not issubclass(errors.CancelledError, errors.InputError)
