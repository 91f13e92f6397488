"""bench/machine.py: what a result says of its machine."""

import json

import pytest

from paceline.bench.machine import describe


def test_it_is_json_and_tells_what_matters() -> None:
    found = json.loads(json.dumps(describe()))
    assert {"system", "kernel", "cores", "usable_cores", "memory_mib", "python", "load_average"} <= found.keys()
    assert found["usable_cores"]


def test_what_cannot_be_found_out_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **_more: object) -> None:
        raise OSError(2, "No such file or directory")

    monkeypatch.setattr("os.getloadavg", refuse)
    monkeypatch.setattr("builtins.open", refuse)
    found = describe()
    assert not {"load_average", "processor"} & found.keys()
    assert found["cores"]
