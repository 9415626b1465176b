"""Where recordings and real media lie: beside the checkout, never in it."""

from pathlib import Path

SHARED = Path(__file__).resolve().parents[2] / "shared"
