"""Run lmjudge under FSDP on CPUs, over gloo: accelerate itself gives FSDP to accelerators alone."""

import sys
from typing import Any

from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

made = AcceleratorState.__init__


def on_cpu(self: Any, *given: Any, fsdp_plugin: Any = None, **options: Any) -> None:
    made(self, *given, fsdp_plugin=fsdp_plugin, **options)
    if fsdp_plugin is not None:
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin


if __name__ == "__main__":
    AcceleratorState.__init__ = on_cpu
    from lmjudge.cli import main

    sys.exit(main(sys.argv[1:]))
