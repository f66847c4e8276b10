"""The published levels: one file per set of rules, maps in `levels/`. Importing registers them all."""

from impactrl.levels import register_level

__all__: list[str] = []

# Turner, Hadfield-Menell and Tadepalli (2020)
register_level("Options", "impactrl.envs.sokoban:Options")
register_level("Damage", "impactrl.envs.dog:Damage")
register_level("Correction", "impactrl.envs.off_switch:Correction")
register_level("Offset", "impactrl.envs.conveyor:Offset", time_limit=20)
register_level("OffsetSushi", "impactrl.envs.conveyor:OffsetSushi", time_limit=20)
register_level("Interference", "impactrl.envs.interference:Interference")
register_level("Vase", "impactrl.envs.fragile:Vase")
register_level("Burning", "impactrl.envs.fragile:Burning")
register_level("BurningOnFire", "impactrl.envs.fragile:BurningOnFire")
# Krakovna et al. (2019, 2020)
register_level("Box", "impactrl.envs.sokoban:Box")
register_level("Sokocoin1", "impactrl.envs.sokoban:Sokocoin1", vector=False)
register_level("Sokocoin2", "impactrl.envs.sokoban:Sokocoin2")
register_level("Sokocoin3", "impactrl.envs.sokoban:Sokocoin3", vector=False)
register_level("ConveyorVase", "impactrl.envs.conveyor:ConveyorVase")
register_level("ConveyorSushi", "impactrl.envs.conveyor:ConveyorSushi")
register_level("SushiGoal", "impactrl.envs.conveyor:SushiGoal")
register_level("SushiGoal2", "impactrl.envs.conveyor:SushiGoal2")
# Shah et al. (2019), "Preferences implicit in the state of the world"
register_level("VaseRoom", "impactrl.envs.rooms:VaseRoom", time_limit=20)
register_level("FarVaseRoom", "impactrl.envs.rooms:FarVaseRoom", time_limit=20)
register_level("ToyTrain", "impactrl.envs.trains:ToyTrain", time_limit=20)
register_level("Apples", "impactrl.envs.apples:Apples", time_limit=20)
register_level("BatteriesEasy", "impactrl.envs.trains:BatteriesEasy", time_limit=20)
register_level("BatteriesHard", "impactrl.envs.trains:BatteriesHard", time_limit=20)
