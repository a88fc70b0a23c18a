import json
import os
import time

import torch
from gpu_net import make


class Handler:
    def initialize(self, context):
        gpu = context.system_properties.get("gpu_id")
        self.device = torch.device("cuda:%s" % gpu if gpu is not None and torch.cuda.is_available() else "cpu")
        self.net = torch.compile(make(OFFSET).to(self.device))

    def handle(self, data, context):
        return [self.answer(row.get("body") or row.get("data")) for row in data]

    def answer(self, body):
        from torch._dynamo.utils import counters

        request = json.loads(body) if isinstance(body, (bytes, bytearray, str)) else body
        began = time.monotonic()
        with torch.no_grad():
            y = self.net(torch.tensor(request["x"], dtype=torch.float32, device=self.device)).cpu().tolist()
        found = {name: {k: v for k, v in counters[name].items() if "cache" in k} for name in ("inductor", "aot_autograd")}
        said = {"pid": os.getpid(), "offset": OFFSET, "s": round(time.monotonic() - began, 3), **found}
        print("GPUCHECK " + json.dumps({**said, "dir": os.environ.get("TORCHINDUCTOR_CACHE_DIR"), "triton": os.environ.get("TRITON_CACHE_DIR")}))
        return {"y": y, "on": self.device.type}
