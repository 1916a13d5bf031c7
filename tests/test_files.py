"""Files are there whole, as they were before, or not at all."""

import pytest

from skelcl.files import whole


def test_a_file_takes_its_name_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "table.csv"
    with whole(path) as part:
        part.write_text("half")
        assert part.suffix == ".csv"
        assert not path.exists()
        part.write_text("all")
    assert path.read_text() == "all"

    def fail():
        with whole(path) as part:
            part.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "all"
    assert list(path.parent.iterdir()) == [path]
