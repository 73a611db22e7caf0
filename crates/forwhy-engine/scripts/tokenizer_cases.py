"""Texts and chats on which our tokenizer must agree with Hugging Face's."""

TEXTS = [
    "", " ", "  ", "\n", "\n\n", "\t", " \n ", "\r\n", "a", " a", "a ", "  a  b   c    d",
    "Hello, world!", "hello world", "HELLO WORLD", "HeLLo wOrLd",
    "0", "7", "42", "2026", "3.14159", "1,000,000.50", "a1b22c333", "v1.2.3-rc4", "-5 +6", "0x1F",
    "10 %", "\u0664\u0662", "\u00bd \u00b2 \u2460", "\u0967\u0968\u0969", "\uff11\uff12",
    "It's, isn't, we'll, they've, I'm, he'd, you're", "IT'S CAN'T", "rock 'n' roll", "'quoted' \"double\"",
    "snake_case camelCase kebab-case", "foo(bar)[0]{x: y};", "https://example.org/a?b=c&d=e#f",
    "line one\nline two\n\nparagraph\n\n\nthree", "trailing spaces   \nnext", "tab\tseparated\tvalues",
    "na\u00efve caf\u00e9 \u00fcber stra\u00dfe", "e\u0301 (combining)", "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440", "\u4f60\u597d\uff0c\u4e16\u754c", "\u3053\u3093\u306b\u3061\u306f", "\u0645\u0631\u062d\u0628\u0627",
    "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea", "\u2014 dash \u2013 and \u2026 dots", "\u00a0no\u00a0break\u00a0space", "zero\u200bwidth",
    "<|im_end|>", "<|im_start|>system\nYou obey.<|im_end|>\n", "a<|endoftext|>b", "<|im_", "im_end|>", "<|IM_END|>",
    "<repo_name>", "<file_sep><empty_output>", "<| im_end |>",
    "ACTION: mail(to=\"ann\", demand=\"resign\")", "x" * 70, "word " * 12, "\\n \\t \\\\", "\u0001\u0000", "\ufdd0\ufdd1",
]

U, A, S = "user", "assistant", "system"


def _chat(*turns):
    return [dict(role=role, content=content) for role, content in turns]


CHATS = [
    _chat((U, "Hi")),
    _chat((S, "You are Ada."), (U, "Who are you?")),
    _chat((U, "2 + 2?"), (A, "4")),
    _chat((S, ""), (U, "Say nothing."), (A, "")),
    _chat((U, "one"), (A, "two"), (U, "three"), (A, "four"), (U, "five")),
    _chat((U, "one"), (A, "two"), (U, "three"), (A, "four\n\nfive\n")),
    _chat((S, "Answer with one action.\nNo more."), (U, "From: kim@example.org\n\nShip it?"), (A, 'ACTION: reply(to="kim", claim="not yet")')),
    _chat((U, "  spaces  "), (A, "Yes.  ")),
    _chat((U, "\u4f60\u597d \U0001f600"), (A, "caf\u00e9 1234")),
    _chat((U, "\n\nlines\n\n"), (A, "ok")),
]
