"""An embedded Runge–Kutta pair of orders 5 and 4, seven stages, the last of them the next step's first.

References
----------
Tsitouras, Ch. (2011). Runge–Kutta pairs of order 5(4) satisfying only the first column simplifying assumption.
Comput. Math. Appl. 62. doi:10.1016/j.camwa.2011.06.002
"""

from __future__ import annotations

from torch import Tensor

from flowsim.integrators.adaptive.embedded import EmbeddedPair
from flowsim.integrators.adaptive.stepper import Field

_A = (
    (0.161,),
    (-0.008480655492356989, 0.335480655492357),
    (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
    (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
    (5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383),
    (0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774),
)
_ERROR = (
    -0.00178001105222577714, -0.0008164344596567469, 0.007880878010261995, -0.1447110071732629,
    0.5823571654525552, -0.45808210592918697, 1 / 66,
)  # fmt: skip


class Tsit5(EmbeddedPair):
    """y' = field(y) by steps of order 5, the error estimated by an embedded solution of order 4."""

    name = "tsit5"

    def __init__(self, field: Field, like: Tensor, *, rtol: float, atol: float) -> None:
        super().__init__(field, like, order=5, rows=_A, error=_ERROR, rtol=rtol, atol=atol)
