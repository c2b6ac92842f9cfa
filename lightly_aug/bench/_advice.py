"""What to change in a loader, from the times that were measured."""

import math
from typing import Final

from lightly_aug.bench._times import LoaderTimes

__all__ = ["advise"]

_WAITS: Final = 0.1
"""Share of a batch's time that the main process may wait before the loader counts as too slow."""
_TINY: Final = 0.005
"""Seconds of work a batch below which a process of its own does not pay."""


def advise(times: LoaderTimes) -> tuple[str, ...]:
    """Return what to change, one sentence each, the places with most to gain first.

    Args:
        times: The times.

    Returns:
        Sentences; none if nothing stands out.
    """
    rules = (
        _wait_for_files,
        _decode_smaller,
        _return_paths,
        _add_workers,
        _drop_workers,
        _send_less,
        _render_late,
        _render_in_workers,
        _fuse,
        _enlarge_batches,
        _pin,
        _keep_workers,
    )
    return tuple(text for rule in rules if (text := rule(times)))


def _too_slow(times: LoaderTimes) -> bool:
    """Whether the main process waits for the loader; always without a step, since then it does nothing else."""
    return times.waited > _WAITS * times.seconds


def _sent(times: LoaderTimes) -> float:
    """Return the seconds of the transport; 0 if they are not reliable."""
    return times.seconds_of("transport") if times.transport_is_reliable else 0.0


def _wait_for_files(times: LoaderTimes) -> str | None:
    if not (_too_slow(times) and times.blocked > max(_TINY, 0.3 * times.work)):
        return None
    return (
        f"A worker waits {_ms(times.blocked)} of {_ms(times.work)} ms a batch for files, not for the processor: copy "
        f"them to a local disk, store them in shards, or take more workers than the {times.cores} cores."
    )


def _decode_smaller(times: LoaderTimes) -> str | None:
    target = 2 * times.view_side
    if times.samples == "PIL" or not _decodes_too_much(times, times.seconds_of("read", "decode")):
        return None
    return (
        f"decode={target}: images of {times.image_side} pixels are read for views of {times.view_side}; with this "
        f"option of the collate function they shrink while they are decoded ({_ms(times.seconds_of('decode'))} of "
        f"{_ms(times.work)} ms a batch)."
    )


def _return_paths(times: LoaderTimes) -> str | None:
    spent = times.seconds_of("dataset")
    if not (_too_slow(times) and times.samples == "PIL" and spent > max(_TINY, 0.4 * times.work)):
        return None
    smaller = f", and decode={2 * times.view_side} shrinks them" if _decodes_too_much(times, spent) else ""
    return (
        f"Return paths from the dataset, as ImageFolder(folder, loader=str) does: it opens the images itself, which "
        f"takes {_ms(spent)} of {_ms(times.work)} ms a batch; the collate function then decodes them{smaller}."
    )


def _decodes_too_much(times: LoaderTimes, spent: float) -> bool:
    large = times.view_side > 0 and times.image_side >= 4 * times.view_side
    return large and spent > 0.3 * times.work and _too_slow(times)


def _add_workers(times: LoaderTimes) -> str | None:
    if not _too_slow(times) or times.work < _TINY or _sent(times) > times.work:
        return None
    busy = times.seconds_of("device", "step")
    wanted = times.cores if not times.seconds_of("step") else min(times.cores, math.ceil(times.work / busy))
    if wanted <= times.workers or (times.workers == 0 and times.cores == 1):
        return None
    return (
        f"num_workers={wanted}: one process takes {_ms(times.work)} ms to make a batch, and this machine has "
        f"{times.cores} cores."
    )


def _drop_workers(times: LoaderTimes) -> str | None:
    if times.workers > times.cores and times.blocked < 0.1 * times.work:
        return (
            f"num_workers={times.cores}: workers compute and hardly wait for files, so more of them than the "
            f"{times.cores} cores only hold memory."
        )
    sent = _sent(times)
    if times.workers and sent > times.work and times.work < _TINY:
        return (
            f"num_workers=0: making a batch takes {_ms(times.work)} ms, and sending it to the main process "
            f"{_ms(sent)} ms."
        )
    enough = max(1, math.ceil(1.25 * times.work / times.seconds))
    if times.seconds_of("step") and not _too_slow(times) and 2 * enough < times.workers:
        return (
            f"num_workers={enough} is enough: the step takes {_ms(times.seconds_of('step'))} ms, and one worker makes "
            f"a batch in {_ms(times.work)} ms. Each worker holds batches in memory."
        )
    return None


def _send_less(times: LoaderTimes) -> str | None:
    sent = _sent(times)
    if not (times.workers and times.render == "worker" and times.dtype == "torch.float32" and _too_slow(times)):
        return None
    if sent <= max(_TINY, 0.25 * (sent + times.work)):
        return None
    return (
        f"Views of 16 bits, View(…, dtype=torch.bfloat16), halve what workers send, which takes {_ms(sent)} ms a batch "
        'now; render="late" sends the images instead.'
    )


def _render_late(times: LoaderTimes) -> str | None:
    spent = times.seconds_of("render")
    if times.render != "worker" or times.device == "cpu" or spent <= 0.3 * times.work or not _too_slow(times):
        return None
    return f'render="late" renders on {times.device}: workers spend {_ms(spent)} of {_ms(times.work)} ms a batch on it.'


def _render_in_workers(times: LoaderTimes) -> str | None:
    spent = times.seconds_of("device")
    if times.render != "late" or times.device != "cpu" or times.cores < 3 or not times.workers:
        return None
    if spent <= max(_TINY, 1.5 * times.work / times.workers):
        return None
    return (
        f'render="worker": the main process renders {_ms(spent)} ms a batch, while {times.workers} workers need '
        f"{_ms(times.work / times.workers)} ms for the rest."
    )


def _fuse(times: LoaderTimes) -> str | None:
    rendered = times.seconds_of("render") if times.render == "worker" else times.seconds_of("device")
    whole = times.work if times.render == "worker" else times.seconds
    if not times.unfused or rendered <= 0.3 * whole:
        return None
    return (
        f"Built-in operations in place of {times.unfused}: the reference engine renders these, and rendering takes "
        f"{_ms(rendered)} ms a batch."
    )


def _enlarge_batches(times: LoaderTimes) -> str | None:
    fixed = times.seconds_of("draw", "collate")
    if not times.render or times.batch_size >= 16 or fixed <= 0.3 * times.work or not _too_slow(times):
        return None
    return (
        f"Batches of 16 or more: what a batch costs whatever its size is {_ms(fixed)} of {_ms(times.work)} ms in "
        f"batches of {times.batch_size:.0f}."
    )


def _pin(times: LoaderTimes) -> str | None:
    if times.pin_memory or not times.device.startswith("cuda") or times.seconds_of("device") <= 0.05 * times.seconds:
        return None
    return (
        "pin_memory=True: batches are copied to the device from ordinary memory, which the main process waits for "
        f"(of {_ms(times.seconds_of('device'))} ms a batch on the device)."
    )


def _keep_workers(times: LoaderTimes) -> str | None:
    if not times.workers or times.persistent_workers or not times.epoch:
        return None
    if times.starting <= max(0.5, 0.1 * times.epoch * times.seconds):
        return None
    return (
        f"persistent_workers=True: workers start in {times.starting:.1f} s, and an epoch takes "
        f"{times.epoch * times.seconds:.1f} s."
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.{int(seconds < 0.01)}f}"
