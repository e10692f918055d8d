"""An EC2 in memory (moto) that fails as a test says."""

from typing import Any

from botocore.validate import ParamValidator


class WatchedEc2:
    """A client of botocore.

    Attributes:
        calls: the operations that were asked for.
        fails: operation → the errors that it raises next.
        loses: operations whose next answer is lost after they were carried out.
    """

    def __init__(self, moto: Any) -> None:
        self.moto = moto
        self.calls: list[str] = []
        self.fails: dict[str, list[Exception]] = {}
        self.loses: dict[str, Exception] = {}

    def __getattr__(self, operation: str) -> Any:
        def call(**values: Any) -> Any:
            self.calls.append(operation)
            if self.fails.get(operation):
                raise self.fails[operation].pop(0)
            name = "".join(word.capitalize() for word in operation.split("_"))
            shape = self.moto.meta.service_model.operation_model(name).input_shape
            report = ParamValidator().validate(values, shape)
            assert not report.has_errors(), report.generate_report()
            answer = getattr(self.moto, operation)(**values)
            if operation in self.loses:
                raise self.loses.pop(operation)
            return answer

        return call
