"""LitServe with the same emulated model, codec and batches of 8 as ours: `litserve_stub.py PORT`."""

import sys
from typing import Any

import litserve
from fastapi import Request, Response
from numpy.typing import NDArray

from model.interface.codec import decode, encode_png
from tests.ids import ids_to_rgb
from tests.service.emulated import standard


class Stub(litserve.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002
        self.predictor = standard()

    def decode_request(self, request: Request) -> NDArray[Any]:
        return decode(request["image"].file.read(), 40_000_000)

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def predict(self, images: list[Any]) -> list[Any]:
        return self.predictor.predict(images)

    def unbatch(self, output: list[Any]) -> list[Any]:
        return output

    def encode_response(self, answer: Any) -> Response:
        return Response(encode_png(ids_to_rgb(answer.segment_ids)), media_type="image/png")


if __name__ == "__main__":
    api = Stub(max_batch_size=8, batch_timeout=0.005)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=60)
    server.run(port=int(sys.argv[1]), host="127.0.0.1", log_level="error", generate_client_file=False)
