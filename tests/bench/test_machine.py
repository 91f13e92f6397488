"""bench/machine.py: what a result says of its machine."""

import json

from paceline.bench.machine import describe


def test_it_is_json_and_tells_what_matters() -> None:
    found = json.loads(json.dumps(describe()))
    assert {"system", "kernel", "cores", "usable_cores", "memory_mib", "python", "load_average"} <= found.keys()
    assert found["usable_cores"]
