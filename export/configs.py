"""Renders every config.pbtxt of the model repository from the spec, and compares what is there with it.

Writes text only: knows neither Triton nor what the models compute.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from clients.types import Canvas, Tier
from export import spec as s
from export.publish import publish

REPOSITORY = Path(__file__).resolve().parent.parent / "model_repository"
_HEADER = "# Written by `python -m export configs` from export/spec.py: change that and render again.\n"


class Word(str):
    """A protobuf enum value, which is written without quotes."""

    __slots__ = ()


def render(spec: s.Spec) -> dict[str, str]:
    """Path below the model repository -> text of that config.pbtxt, for every model."""
    configs = {f"shared/{s.DECODE}": _decode(spec)}
    for tier in Tier:
        configs[f"ensembles/{tier.value}"] = _ensemble(spec, tier)
        configs[f"ensembles/{s.jpeg_name(tier)}"] = _jpeg_ensemble(spec, tier)
    for runtime in s.RUNTIMES.values():
        configs[f"{runtime.name}/{s.POSTPROCESS}"] = _postprocess(spec, runtime)
        for tier in Tier:
            configs[f"{runtime.name}/{s.engine_name(tier)}"] = _engine(spec, runtime, tier)
    return {f"{path}/config.pbtxt": _HEADER + _text(config) for path, config in sorted(configs.items())}


def write(spec: s.Spec, repository: Path = REPOSITORY) -> list[Path]:
    """Write the configs that differ from the spec, with the version folders Triton insists on; returns them.

    Raises ExportError when there is no room; then none has changed.
    """
    changed = differing(spec, repository)
    files: dict[Path, bytes] = {}
    for path, text in render(spec).items():
        target = repository / path
        version = target.parent / "1"
        version.mkdir(parents=True, exist_ok=True)
        if not (version / "model.py").exists():
            (version / ".gitkeep").touch()
        if target in changed:
            files[target] = text.encode()
    publish(files)
    return changed


def differing(spec: s.Spec, repository: Path = REPOSITORY) -> list[Path]:
    """The config files below `repository` that are missing or are not what the spec renders."""
    return [
        repository / path
        for path, text in render(spec).items()
        if not (repository / path).is_file() or (repository / path).read_text(encoding="utf-8") != text
    ]


def rendered_for(repository: Path = REPOSITORY) -> s.Spec | None:
    """The spec that the committed engine configs were rendered with; None where there are none."""
    paths = [repository / "openvino" / s.engine_name(tier) / "config.pbtxt" for tier in Tier]
    if not all(path.is_file() for path in paths):
        return None
    texts = [path.read_text(encoding="utf-8") for path in paths]
    found = re.findall(r"dims: \[(\d+), (\d+)\]", texts[0])
    batches = re.findall(r"^max_batch_size: (\d+)$", "".join(texts), re.MULTILINE)
    if len(found) < 2 or len(batches) != len(texts):
        return None
    (rows, width), (top_k, _) = found[0], found[1]
    return s.Spec(Canvas(int(width), int(rows) * 2 // 3), int(top_k), largest=tuple(map(int, batches)))


def _engine(spec: s.Spec, runtime: s.Runtime, tier: Tier) -> dict[str, Any]:
    model = s.engine(spec, tier)
    return _served(model, runtime, s.engine_queue(spec, runtime, tier), spec.tier(tier).graphs)


def _postprocess(spec: s.Spec, runtime: s.Runtime) -> dict[str, Any]:
    model = s.postprocess(spec)
    return _served(model, runtime, s.postprocess_queue(runtime), (1, 2, 4, 8, 16, model.max_batch))


def _served(model: s.Model, runtime: s.Runtime, queue: s.Queue, graphs: Sequence[int]) -> dict[str, Any]:
    config = _head(model, runtime.backend)
    config["instance_group"] = [{"count": runtime.instances, "kind": Word(runtime.kind)}]
    config["dynamic_batching"] = _batching(queue)
    if runtime.cuda:
        config["optimization"] = {
            "input_pinned_memory": {"enable": True},
            "output_pinned_memory": {"enable": True},
            "cuda": _cuda(model, graphs),
        }
    warmed = graphs if runtime.cuda else (1, model.max_batch)
    config["model_warmup"] = [_warmup(model, batch) for batch in warmed]
    if runtime.parameters:
        config["parameters"] = [{"key": k, "value": {"string_value": v}} for k, v in runtime.parameters]
    return config


def _decode(spec: s.Spec) -> dict[str, Any]:
    config = _head(s.decode(spec), "python")
    config["input"][0]["allow_ragged_batch"] = True
    config["instance_group"] = [{"count": s.DECODE_INSTANCES, "kind": Word("KIND_CPU")}]
    config["dynamic_batching"] = _batching(s.DECODE_QUEUE)
    config["parameters"] = [{"key": "max_pixels", "value": {"string_value": str(s.MAX_PICTURE_PIXELS)}}]
    return config


def _ensemble(spec: s.Spec, tier: Tier) -> dict[str, Any]:
    steps = [_step(s.engine(spec, tier)), _step(s.postprocess(spec))]
    return _routed(s.ensemble(spec, tier), steps)


def _jpeg_ensemble(spec: s.Spec, tier: Tier) -> dict[str, Any]:
    steps = [_step(s.decode(spec)), _step(s.engine(spec, tier)), _step(s.postprocess(spec))]
    return _routed(s.jpeg_ensemble(spec, tier), steps)


def _routed(model: s.Model, steps: list[dict[str, Any]]) -> dict[str, Any]:
    config = _head(model, None)
    config["platform"] = "ensemble"
    config["ensemble_scheduling"] = {"step": steps}
    return config


def _step(model: s.Model) -> dict[str, Any]:
    """Inside an ensemble every tensor keeps its own name."""
    return {
        "model_name": model.name,
        "model_version": -1,
        "input_map": [{"key": t.name, "value": t.name} for t in model.inputs],
        "output_map": [{"key": t.name, "value": t.name} for t in model.outputs],
    }


def _head(model: s.Model, backend: str | None) -> dict[str, Any]:
    head: dict[str, Any] = {"name": model.name}
    if backend is not None:
        head["backend"] = backend
    head["max_batch_size"] = model.max_batch
    head["input"] = [_tensor(t) for t in model.inputs]
    head["output"] = [_tensor(t) for t in model.outputs]
    return head


def _tensor(tensor: s.Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "data_type": Word(f"TYPE_{tensor.dtype}"), "dims": list(tensor.dims)}


def _batching(queue: s.Queue) -> dict[str, Any]:
    batching: dict[str, Any] = {"preferred_batch_size": list(queue.preferred)} if queue.preferred else {}
    batching["max_queue_delay_microseconds"] = queue.delay_us
    batching["default_queue_policy"] = {
        "timeout_action": Word("REJECT"),
        "default_timeout_microseconds": queue.timeout_us,
        "allow_timeout_override": True,
        "max_queue_size": queue.max_size,
    }
    return batching


def _cuda(model: s.Model, sizes: Sequence[int]) -> dict[str, Any]:
    """One graph per size; a batch that lies between two sizes runs in the larger (`graph_lower_bound`)."""
    inputs = [{"key": t.name, "value": {"dim": list(t.dims)}} for t in model.inputs]
    specs = []
    for previous, size in zip((0, *sizes), sizes, strict=False):
        graph: dict[str, Any] = {"batch_size": size, "input": inputs}
        if size - previous > 1:
            graph["graph_lower_bound"] = {"batch_size": previous + 1, "input": inputs}
        specs.append(graph)
    return {"graphs": True, "busy_wait_events": False, "output_copy_stream": True, "graph_spec": specs}


def _warmup(model: s.Model, batch: int) -> dict[str, Any]:
    zeros = {t.name: {"data_type": Word(f"TYPE_{t.dtype}"), "dims": list(t.dims)} for t in model.inputs}
    return {
        "name": f"batch_{batch}",
        "batch_size": batch,
        "inputs": [{"key": name, "value": {**value, "zero_data": True}} for name, value in zeros.items()],
    }


def _text(message: Mapping[str, Any]) -> str:
    return "\n".join(_lines(message, "")) + "\n"


def _lines(message: Mapping[str, Any], indent: str) -> Iterator[str]:
    """Protobuf text format: one field a line, messages in braces, repeated numbers in brackets."""
    for name, value in message.items():
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            for item in value:
                yield from _block(name, item, indent)
        elif isinstance(value, Mapping):
            yield from _block(name, value, indent)
        else:
            yield f"{indent}{name}: {_scalar(value)}"


def _block(name: str, message: Mapping[str, Any], indent: str) -> Iterator[str]:
    yield f"{indent}{name} {{"
    yield from _lines(message, indent + "  ")
    yield f"{indent}}}"


def _scalar(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    if isinstance(value, Word) or not isinstance(value, str):
        return str(value)
    return f'"{value}"'
