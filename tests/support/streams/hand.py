"""A hand on mouse and keys over the svg "picture" of a page in a browser; and what such tests ask of any page."""

from __future__ import annotations

from typing import Any


class Hand:
    """The mouse over the picture, in the units of its viewBox, and the keys."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def on_screen(self, x: float, y: float) -> tuple[int, int]:
        """Return where a point of the picture is in the window."""
        script = (
            "const p = new DOMPoint(arguments[0], arguments[1])"
            ".matrixTransform(document.getElementById('picture').getScreenCTM()); return [p.x, p.y]"
        )
        left, top = self.driver.execute_script(script, x, y)
        return round(left), round(top)

    def drag(self, *points: tuple[float, float]) -> None:
        """Press at the first point, move by the others, halfway too, and let go; one point is a click."""
        from selenium.webdriver.common.action_chains import ActionChains

        chain = ActionChains(self.driver, duration=0)
        pointer = chain.w3c_actions.pointer_action
        pointer.move_to_location(*self.on_screen(*points[0]))
        pointer.pointer_down()
        for start, end in zip(points, points[1:], strict=False):
            for share in (0.5, 1.0):
                middle = [a + share * (b - a) for a, b in zip(start, end, strict=True)]
                pointer.move_to_location(*self.on_screen(*middle))
        pointer.pointer_up()
        chain.w3c_actions.perform()

    def press(self, *keys: str) -> None:
        """Press keys one after the other."""
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def text(self, name: str) -> str:
        """Return the text of the element with this id."""
        return text_of(self.driver, name)


def text_of(driver: Any, name: str) -> str:
    """Return the text of the element with this id."""
    return str(driver.execute_script("return document.getElementById(arguments[0]).textContent", name))


def complaints(driver: Any) -> list[str]:
    """Return errors and warnings of the console since the last call, but what it says of a test's reading of pixels."""
    entries = [entry["message"] for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    return [line for line in entries if "willReadFrequently" not in line]
