"""`python -m demo screenshots`: the live wall in Debian's Chromium, both themes and a phone, into docs/images."""

from __future__ import annotations

import asyncio
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients.config import load_settings
from clients.errors import FleetError
from clients.fleet import run_fleet
from demo.run import CONFIG, free_port, with_cameras

CHROMIUM = "/usr/bin/chromium"
IMAGES = Path("docs/images")
_CROSSING = ((0.2, 0.42), (0.65, 0.42), (0.75, 0.7), (0.1, 0.7))
_KERB = ((0.55, 0.85), (0.8, 0.45))


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture: what is open, in which theme, on how large a screen, in CSS pixels."""

    name: str
    page: str
    theme: str
    size_px: tuple[int, int]
    scale: float = 1.0


SHOTS = (
    Shot("wall-dark", "#/", "dark", (1440, 760)),
    Shot("wall-light", "#/", "light", (1440, 760)),
    Shot("wall-camera-dark", "#/camera/cam02", "dark", (1440, 1010)),
    Shot("wall-camera-light", "#/camera/cam02", "light", (1440, 1010)),
    Shot("wall-phone-dark", "#/", "dark", (390, 844), 1.5),
    Shot("wall-phone-light", "#/camera/cam02", "light", (390, 844), 1.5),
)


def take(clips: list[Path], seconds: float) -> dict[str, Any]:
    """Run the demo's cameras, let `seconds` pass, take the pictures. Raises FleetError without a browser."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    if not Path(CHROMIUM).exists():
        raise FleetError(f"{CHROMIUM} is not there; on Debian: apt-get install chromium")
    return asyncio.run(_taken(clips, seconds))


async def _taken(clips: list[Path], seconds: float) -> dict[str, Any]:
    settings = with_cameras(load_settings(CONFIG), clips)
    zones = {"zones": ({"name": "crossing", "points": _CROSSING},), "lines": ({"name": "kerb", "points": _KERB},)}
    cameras = tuple(
        type(camera).model_validate(camera.model_dump(exclude_unset=True) | (zones if camera.id == "cam02" else {}))
        for camera in settings.cameras
    )
    web = settings.web.model_copy(update={"port": free_port(settings.web)})
    fleet = asyncio.create_task(run_fleet(settings.model_copy(update={"web": web, "cameras": cameras})))
    try:
        paths = await _shots(f"http://{web.host}:{web.port}", seconds)
    finally:
        fleet.cancel()
        await asyncio.gather(fleet, return_exceptions=True)
    return {"pictures": [str(path) for path in paths]}


async def _shots(url: str, seconds: float) -> list[Path]:
    from playwright.async_api import async_playwright

    paths = []
    async with async_playwright() as play:
        browser = await play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = await browser.new_page()
        await page.goto(f"{url}/docs", wait_until="commit")
        while not (await page.request.get(f"{url}/readyz")).ok:  # noqa: ASYNC110 - another server's state
            await asyncio.sleep(0.2)
        await asyncio.sleep(seconds)
        for shot in SHOTS:
            width, height = shot.size_px
            context = await browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme="dark" if shot.theme == "dark" else "light",
                device_scale_factor=shot.scale,
            )
            page = await context.new_page()
            await page.goto(f"{url}/{shot.page}")
            await page.locator(".veil").last.wait_for(state="hidden")
            await asyncio.sleep(8)  # trails grow, figures settle
            path = IMAGES / f"{shot.name}.jpg"
            await page.screenshot(path=path, type="jpeg", quality=86)
            paths.append(path)
            await context.close()
        await browser.close()
    return paths
