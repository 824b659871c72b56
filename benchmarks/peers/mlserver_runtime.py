"""A runtime class of our own for MLServer; its settings stand in files beside the model's name."""

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.peers.function import Function


class Elbound(MLModel):
    async def load(self) -> bool:
        assert self.settings.parameters is not None
        assert self.settings.parameters.uri is not None
        self.function = Function(self.settings.parameters.uri)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        found = self.function(NumpyCodec.decode_input(payload.inputs[0]))
        outputs = [NumpyCodec.encode_output(name, values) for name, values in found.items()]
        return InferenceResponse(model_name=self.name, outputs=outputs)
