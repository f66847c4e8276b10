"""Impact measures: value family x baseline x summary x rollout x scale x weight."""
