"""Numbers as a reader wants them."""

from __future__ import annotations

from datetime import UTC, datetime

_MINUS = "\N{MINUS SIGN}"


def number(value: float) -> str:
    """A number at the precision a reader needs: 1,234, 12.5, 0.0312."""
    if value == int(value) and abs(value) < 1e15:
        shown = f"{int(value):,}"
    else:
        shown = f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3g}"
    return shown.replace("-", _MINUS)


def decimals(value: float) -> str:
    """A similarity or a rate, to be compared down a column: 0.312."""
    return f"{value:.3f}".replace("-", _MINUS)


def signed(value: float) -> str:
    """A difference with its sign."""
    sign = {True: "+", False: _MINUS}[value > 0] if value else ""
    return sign + number(abs(value))


def percent(share: float) -> str:
    """A share, 0 to 1, in percent; what is not quite nothing or all never reads as if it were."""
    if 0 < share < 0.001:
        return "<0.1%"
    if 0.999 < share < 1:
        return ">99.9%"
    return f"{100 * share:.1f}%" if share not in (0, 1) else f"{share:.0%}"


def moment(when: datetime) -> str:
    """A date and time that means the same everywhere."""
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def counted(n: int, one: str, many: str | None = None) -> str:
    """``1 item``, ``2 items``."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"
