"""The published levels: one file per set of rules, maps in `levels/`. Importing registers them all."""

from impactrl.levels import register_level

__all__: list[str] = []

register_level("Options", "impactrl.envs.sokoban:Options")
register_level("Interference", "impactrl.envs.interference:Interference")
register_level("Offset", "impactrl.envs.conveyor:Offset", time_limit=20)
register_level("Box", "impactrl.envs.sokoban:Box")
register_level("ConveyorVase", "impactrl.envs.conveyor:ConveyorVase")
