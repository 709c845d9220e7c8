"""How long a batch takes, learned while serving."""


class BatchTime:
    """The line `a * n + b` through the times of recent batches of n images, all of one padded size.

    Least squares whose memory fades: a device that slows down or recovers is followed within some twenty batches.

    Args:
        memory: share of their weight that earlier batches keep with each new one.
    """

    def __init__(self, memory: float = 0.9) -> None:
        self._memory = memory
        self._weight = self._n = self._nn = self._t = self._nt = 0.0

    def learn(self, images: int, seconds: float) -> None:
        """Add the time of one batch."""
        for name, value in (("_weight", 1.0), ("_n", images), ("_nn", images**2), ("_t", seconds)):
            setattr(self, name, self._memory * getattr(self, name) + value)
        self._nt = self._memory * self._nt + images * seconds

    def doubt(self) -> None:
        """Lower the estimate by a tenth.

        Called when the estimate alone refused work: otherwise one slow batch would refuse all work to come.
        """
        self._t *= 0.9
        self._nt *= 0.9

    def seconds(self, images: int) -> float:
        """Expected time of a batch; 0 while none was measured."""
        if not self._weight:
            return 0.0
        mean_n, mean_t = self._n / self._weight, self._t / self._weight
        variance = self._nn / self._weight - mean_n**2
        if variance < 1e-3:  # one size of batch so far: the time of a smaller one is at best in proportion
            return mean_t * images / mean_n
        slope = max(0.0, (self._nt / self._weight - mean_n * mean_t) / variance)
        slope = min(slope, mean_t / mean_n)  # a negative time for no images is noise
        return mean_t + slope * (images - mean_n)
