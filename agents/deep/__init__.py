"""Deep Q-agents on JAX: one update function, a driver for compiled levels and one for any Gymnasium environment."""
