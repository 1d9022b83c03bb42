"""Machine translation by the Transformer of "Attention is all you need" (Vaswani et al. 2017, arXiv:1706.03762).

    p(y | x) = p(y_1 | x) p(y_2 | x, y_1) ...    6 + 6 layers of width 512, sinusoidal positions, PyTorch's own layers

The encoder reads the English sentence x. The decoder reads the German words so far, and the encoder at every layer; it
predicts the next word. The sentences are numbers: 42 is "forty two" in English but "zwei und vierzig" in German, so
the model has to learn an order as well as words. It never sees 100 of the 1,000 numbers, on which it is then tested.

`python examples/translation.py` has the sizes of the paper, 44 million parameters, which is slow without a GPU.
`python examples/translation.py 400 64 2` makes 400 steps with width 64 and 2 + 2 layers: half a minute on one core,
after which 99 of the 100 numbers are right.
"""

import math
import sys
import warnings

import torch
import torch.nn.functional as F
from torch import nn

warnings.filterwarnings("ignore", "enable_nested_tensor")  # a shortcut of PyTorch's that is of no use here
UNITS = {
    "en": "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen",
    "de": "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn "
    "siebzehn achtzehn neunzehn",
}
TENS = {
    "en": "twenty thirty forty fifty sixty seventy eighty ninety",
    "de": "zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig",
}


def words(n, language):
    """The number n, 0 ... 999, as a list of words."""
    units, tens = UNITS[language].split(), TENS[language].split()
    if n >= 100:
        hundred = [units[n // 100], "hundred" if language == "en" else "hundert"]
        return hundred + (words(n % 100, language) if n % 100 else [])
    if n < 20:
        return [units[n]]
    ten, one = tens[n // 10 - 2], units[n % 10]
    if n % 10 == 0:
        return [ten]
    return [ten, one] if language == "en" else [one, "und", ten]


WORDS = ["", "<start>", "<end>", *sorted({word for n in range(1000) for lang in UNITS for word in words(n, lang)})]
PAD, START, END, LENGTH = 0, 1, 2, 7


def symbols(language):
    """(1000, 7): start, words, end, and padding."""
    rows = [[START, *map(WORDS.index, words(n, language)), END] for n in range(1000)]
    return torch.tensor([row + [PAD] * (LENGTH - len(row)) for row in rows])


def sinusoids(length, width):
    """(length, width): sin and cos of position / 10000^(2i / width)."""
    angle = torch.arange(length)[:, None] * torch.exp(-math.log(10_000) * torch.arange(0, width, 2) / width)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


class Translator(nn.Module):
    def __init__(self, width=512, layers=6):
        super().__init__()
        self.embed = nn.Embedding(len(WORDS), width)  # a vector for each word: the number of a word means nothing
        self.register_buffer("positions", sinusoids(LENGTH, width))
        self.net = nn.Transformer(width, 8, layers, layers, 4 * width, dropout=0.1, batch_first=True, norm_first=True)
        self.head = nn.Linear(width, len(WORDS))
        nn.init.normal_(self.embed.weight, std=width**-0.5)

    def enter(self, x):
        return self.embed(x) * self.embed.embedding_dim**0.5 + self.positions[: x.shape[1]]

    def forward(self, x, y):
        """x (B, S) the sentence, y (B, L) the translation so far -> (B, L, words) logits of what follows."""
        future = torch.ones(y.shape[1], y.shape[1], dtype=torch.bool).triu(1)  # position i may not read j > i
        h = self.net(self.enter(x), self.enter(y), tgt_mask=future, src_key_padding_mask=x == PAD,
                     memory_key_padding_mask=x == PAD)  # fmt: skip
        return self.head(h)


def loss(model, x, y):
    """-log p(y | x) in nats a word: the decoder reads y without its last word and predicts y without its first."""
    return F.cross_entropy(model(x, y[:, :-1]).flatten(0, 1), y[:, 1:].flatten(), ignore_index=PAD)


@torch.no_grad()
def translate(model, x):
    """The likeliest next word, until the end of the sentence."""
    model.eval()
    y = torch.full((len(x), 1), START)
    for _ in range(LENGTH - 1):
        word = model(x, y)[:, -1].argmax(-1, keepdim=True)
        word[((y == END) | (y == PAD)).any(1)] = PAD
        y = torch.cat([y, word], dim=1)
    return y


def train(model, x, y, steps=1000, batch=64):
    """Adam, whose rate rises for 200 steps and then falls with the root of the step, as in the paper."""
    width = model.embed.embedding_dim
    optimiser = torch.optim.Adam(model.parameters(), 0.3 * width**-0.5 / 200**0.5, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda i: min((i + 1) / 200, (200 / (i + 1)) ** 0.5))
    model.train()
    for step in range(steps):
        rows = torch.randint(len(x), (batch,))
        value = loss(model, x[rows], y[rows])
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step:5}  {value.item():.4f} nats per word", flush=True)


if __name__ == "__main__":
    torch.manual_seed(0)
    steps, width, layers = [*map(int, sys.argv[1:]), *[1000, 512, 6][len(sys.argv) - 1 :]]
    model, x, y = Translator(width, layers), symbols("en"), symbols("de")
    order = torch.randperm(1000)
    train(model, x[order[100:]], y[order[100:]], steps)
    new = order[:100]
    said = translate(model, x[new])
    for n, row in list(zip(new.tolist(), said, strict=True))[:5]:
        print(n, " ".join(words(n, "en")), "->", " ".join(WORDS[i] for i in row if i > END))
    print(f"{int((said == y[new]).all(1).sum())} of 100 numbers that it had never seen are right")
