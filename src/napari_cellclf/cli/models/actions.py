"""What the actions of ``cellclf models`` are declared on."""

from __future__ import annotations

import argparse
from typing import TypeAlias

#: What ``add_subparsers`` returns; argparse has no public name for it.
Actions: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
