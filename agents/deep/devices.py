"""Where a program runs."""

import jax

from impactrl.errors import ImpactError, require_one_of

__all__ = ["DEVICES", "device_named"]

DEVICES = ("cpu", "gpu")


def device_named(kind: str) -> jax.Device:
    """The first device of a kind.

    Raises:
        ImpactError: there is none here.
    """
    require_one_of("device", kind, DEVICES)
    try:
        return jax.devices(kind)[0]
    except RuntimeError:
        here = ", ".join(sorted({device.platform for device in jax.devices()}))
        raise ImpactError(
            f"no {kind} is here, only {here}: use device='cpu', or install jax with support for your {kind} "
            "(pip install 'jax[cuda12]')"
        ) from None
