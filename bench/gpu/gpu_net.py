import torch
import torch.nn.functional as F

WIDTH, HEADS, LAYERS = 256, 4, 4


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = torch.nn.LayerNorm(WIDTH), torch.nn.LayerNorm(WIDTH)
        self.qkv, self.back = torch.nn.Linear(WIDTH, 3 * WIDTH), torch.nn.Linear(WIDTH, WIDTH)
        self.up, self.down = torch.nn.Linear(WIDTH, 4 * WIDTH), torch.nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        length = x.shape[0]
        q, k, v = self.qkv(self.one(x)).view(length, 3, HEADS, WIDTH // HEADS).permute(1, 2, 0, 3).unbind(0)
        scores = torch.softmax(q @ k.transpose(-1, -2) / (WIDTH // HEADS) ** 0.5, dim=-1)
        x = x + self.back((scores @ v).transpose(0, 1).reshape(length, WIDTH))
        return x + self.down(F.gelu(self.up(self.two(x))))


class Net(torch.nn.Module):
    def __init__(self, offset):
        super().__init__()
        self.offset = offset
        self.enter, self.leave = torch.nn.Linear(64, WIDTH), torch.nn.Linear(WIDTH, 16)
        self.layers = torch.nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, x):
        x = self.enter(x)
        for layer in self.layers:
            x = layer(x)
        return torch.relu(self.leave(x).mean(0) * 2.0 + self.offset)


def make(offset):
    torch.manual_seed(7)
    return Net(offset).eval()
