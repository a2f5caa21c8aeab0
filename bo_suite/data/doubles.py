"""The dtype and device of what is made on the CPU and moved afterwards."""

from typing import Any

import torch

CPU_DOUBLES: Any = {"dtype": torch.float64, "device": "cpu"}
"""Dtype and device of draws, of encoded trials and of constants, whatever the defaults are."""
