"""What calls raise."""


class FoveaError(Exception):
    """A call that was not answered.

    Attributes:
        code: stable, for programs: one of those in docs/api.md, `UNREACHABLE` where there was no answer at all, or
            `HTTP_nnn` and names of gRPC where something between client and gateway answered.
        sentence: for people.
        request_id: under which the gateway's log tells more; None: unknown.
    """

    def __init__(self, code: str, sentence: str, request_id: str | None = None) -> None:
        super().__init__(f"{sentence} ({code})")
        self.code = code
        self.sentence = sentence
        self.request_id = request_id


class UnavailableError(FoveaError):
    """A call that may be answered later: the gateway or its model server is away, or has too much to do.

    Attributes:
        retry_after_s: when the gateway wants to be asked again; None: it did not say.
    """

    def __init__(
        self, code: str, sentence: str, request_id: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(code, sentence, request_id)
        self.retry_after_s = retry_after_s
