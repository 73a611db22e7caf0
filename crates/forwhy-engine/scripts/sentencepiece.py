"""Writes tests/fixtures/sentencepiece.json: small tokenizers of the forms in which those of
sentencepiece (Llama 2, Mistral, TinyLlama) stand in a tokenizer.json, and what transformers makes of
texts, chats and ids with them.

    python sentencepiece.py OUT.json        (transformers 5.23, tokenizers 0.23)

All have one vocabulary: 3 control tokens, 256 bytes, the characters of the text and what is merged of
them. A form changes the steps before and after it, and the flags of added tokens.
"""

import copy
import json
import sys
import tempfile
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from transformers.tokenization_utils_base import generate_merges

from tokenizer_cases import CHATS, TEXTS
from tiny_llama import TEXT

HERE = Path(__file__)
SPACE = "\u2581"
CONTROL = ["<unk>", "<s>", "</s>"]
# A few chat words, so that markers are whole tokens as in the real vocabularies.
WORDS = " [INST] [/INST] <<SYS>> <</SYS>> <|user|> <|assistant|> <|system|> user assistant \n" * 6

# TinyLlama's and Zephyr's, and that of the first Mistral model.
ZEPHYR = (
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + "
    "message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + "
    "message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n"
    "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n{% if loop.last and "
    "add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)
FIRST_MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != "
    "(loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate "
    "user/assistant/user/assistant/...') }}{% endif %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ message['content'] + eos_token + ' ' }}{% else %}{{ raise_exception('Only user and "
    "assistant roles are supported!') }}{% endif %}{% endfor %}"
)
# Contents with control tokens on both sides, and text and spaces between control tokens.
NEXT_TO_CONTROL = (
    "{{ bos_token }}  {{ eos_token }}{% for m in messages %}{{ bos_token + m['content'] + eos_token }} x"
    "{{ bos_token }} y {{ eos_token + bos_token }}{% endfor %}"
)


def jinja(name):
    return (HERE.with_name("templates") / f"{name}.jinja").read_text()


TEMPLATES = dict(
    llama2=jinja("llama2"), mistral=jinja("mistral"), zephyr=ZEPHYR, first_mistral=FIRST_MISTRAL,
    next_to_control=NEXT_TO_CONTROL,
)

MORE_TEXTS = [
    "\u2581", "\u2581a", " \u2581 a", "a\u2581b", "   ", "    a", "the  old   ferry    left", "The", " The", "  The",
    "The old ferry left the harbour", "<unk>", "<s>", "</s>", " </s>", "a <s>b</s> c", "<0x0A>", "<0x41>b",
    "\ttab\r\n", "\ue000\ufffd", "[INST] Hi [/INST] there", "<tool>", "a <tool> b", "a<tool>b", "<tool> <tool>x",
]


def vocabulary():
    """Vocabulary and merges, the latter in the order that scores of the pieces give."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always", split=True)
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=CONTROL + [f"<0x{b:02X}>" for b in range(256)],
                                  limit_alphabet=300, show_progress=False)
    tok.train_from_iterator([TEXT * 4 + WORDS], trainer)
    vocab = json.loads(tok.to_str())["model"]["vocab"]
    vocab.pop("\n", None)  # a byte, as in the real ones
    texts = sorted(vocab, key=vocab.get) + [SPACE * 2, SPACE * 3, SPACE * 4]
    vocab = {text: i for i, text in enumerate(texts)}
    scores = {text: -float(i) for i, text in enumerate(texts)}
    steps = CONTROL + [f"<0x{b:02X}>" for b in range(256)]
    merges = generate_merges(vocab, scores, steps)
    return vocab, scores, [list(pair) for pair in merges]


def added(id, content, **flags):
    token = dict(id=id, content=content, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    return token | flags


PREPEND = {"type": "Prepend", "prepend": SPACE}
REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
BACK = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
DECODER = {"type": "Sequence", "decoders": [
    BACK, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
BARE_DECODER = {"type": "Sequence", "decoders": DECODER["decoders"][:3]}


def metaspace(scheme, split):
    return {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": split}


def legacy():
    return dict(normalizer={"type": "Sequence", "normalizers": [PREPEND, REPLACE]}, pre_tokenizer=None)


def with_first(scheme, split=False):
    return dict(normalizer=None, pre_tokenizer=metaspace(scheme, split))


def forms(size):
    """name -> what differs from the common file."""
    tool = added(size, "<tool>", special=False)
    control = [added(i, text) for i, text in enumerate(CONTROL)]
    mistral = [added(size + i, text) for i, text in enumerate(
        ["[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]"])]
    flagged = [control[0], added(1, "<s>", rstrip=True), added(2, "</s>", lstrip=True), added(size, "<tool>", single_word=True)]
    return dict(
        llama2=legacy(),
        llama2_tool=legacy() | dict(added_tokens=control + [tool]),
        llama2_normalized=legacy() | dict(
            added_tokens=[t | dict(normalized=True) for t in control] + [tool | dict(normalized=True)]),
        llama2_flags=legacy() | dict(added_tokens=flagged),
        mistral3=with_first("first") | dict(added_tokens=control + mistral),
        mistral3_legacy=legacy() | dict(added_tokens=control + mistral),
        first_split=with_first("first", True) | dict(added_tokens=control + [tool]),
        first_flags=with_first("first") | dict(added_tokens=flagged),
        always=with_first("always") | dict(added_tokens=control + [tool]),
        always_split=with_first("always", True) | dict(
            added_tokens=control + [tool | dict(normalized=True)],
            decoder={"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always", "split": True}),
        never=with_first("never") | dict(decoder=BARE_DECODER),
        no_prefix=dict(normalizer=REPLACE, pre_tokenizer=None, decoder=BARE_DECODER),
        fused_unknown=legacy() | dict(byte_fallback=False, fuse_unk=True),
        unknown=legacy() | dict(byte_fallback=False, fuse_unk=False, ignore_merges=True),
    )


def tokenizer_json(vocab, merges, form):
    model = dict(type="BPE", dropout=None, unk_token="<unk>", continuing_subword_prefix=None,
                 end_of_word_suffix=None, fuse_unk=True, byte_fallback=True, ignore_merges=False)
    changed = {key: form[key] for key in ("byte_fallback", "fuse_unk", "ignore_merges") if key in form}
    begin = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
             "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
             "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}}
    return dict(version="1.0", truncation=None, padding=None,
                added_tokens=form.get("added_tokens", [added(i, text) for i, text in enumerate(CONTROL)]),
                normalizer=form["normalizer"], pre_tokenizer=form["pre_tokenizer"], post_processor=begin,
                decoder=form.get("decoder", DECODER), model=model | changed | dict(vocab=vocab, merges=merges))


def chats():
    rows = list(CHATS) + [
        [dict(role="user", content="a </s> b<s>"), dict(role="assistant", content="</s>")],
        [dict(role="user", content="The"), dict(role="assistant", content="old ferry"), dict(role="user", content=" left")],
        [dict(role="system", content="Be brief."), dict(role="user", content="Hi"), dict(role="assistant", content="Hi. "),
         dict(role="user", content="\U0001f600")],
    ]
    return rows


def smuggles(messages):
    return any(token in m["content"] for m in messages for token in CONTROL)


def chat_rows(tok, template):
    """Ids of chats in which no content contains a control token: transformers would obey it."""
    rows = []
    for index, messages in enumerate(chats()):
        if smuggles(messages):
            continue
        for prompt in (False, True):
            try:
                ids = tok.apply_chat_template(messages, chat_template=template, add_generation_prompt=prompt,
                                              tokenize=True, return_dict=False)
            except Exception as error:
                if "roles" not in str(error):
                    raise
                continue
            rows.append(dict(chat=index, prompt=prompt, ids=ids))
    return rows


def case(name, file, texts):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        path.write_text(json.dumps(file))
        tok = PreTrainedTokenizerFast(tokenizer_file=str(path), bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    decoded = lambda ids: tok.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    if any(t["special"] for t in file["added_tokens"][3:]):
        templates = ["mistral", "next_to_control"]
    else:
        templates = ["llama2", "zephyr", "first_mistral", "next_to_control"]
    by_template = {t: chat_rows(tok, TEMPLATES[t]) for t in templates}
    # Half characters, characters of bytes, spaces behind control tokens.
    odd = [[1, 3 + 0xF0, 3 + 0x9F], [3 + 0xE2, 5, 2], [3 + 0xC3, 3 + 0xBC], [2, 300, 1, 300], [300, 0, 300], []]
    decodes = [dict(ids=ids, text=decoded(ids)) for ids in odd]
    encodes = []
    for text in texts:
        # Control tokens in a text are mere text.
        ids = tok(text, add_special_tokens=False, split_special_tokens=True).input_ids
        encodes.append(dict(ids=ids, decoded=decoded(ids)))
    common = copy.deepcopy(file)
    model = common.pop("model")
    settings = {key: model[key] for key in ("byte_fallback", "fuse_unk", "ignore_merges")}
    return dict(name=name, file=common, model=settings, texts=encodes, decodes=decodes, chats=by_template)


def main(out):
    vocab, scores, merges = vocabulary()
    texts = TEXTS + MORE_TEXTS + [TEXT]
    cases = [case(name, tokenizer_json(vocab, merges, form), texts) for name, form in forms(len(vocab)).items()]
    model = tokenizer_json(vocab, merges, legacy())["model"]
    data = dict(about="written by scripts/sentencepiece.py; see there", model=model, scores=list(scores.values()),
                templates=TEMPLATES, texts=texts, chats=chats(), cases=cases)
    out.write_text(json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
